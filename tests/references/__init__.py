"""What values of main.cf refer to, and what real Postfix does with each: cases.toml, truth.json."""
