"""pf-agent's reading and correcting of main.cf, held to real Postfix over generated files."""
