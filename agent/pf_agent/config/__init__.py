"""The agent's own configuration language: TOML, typed and checked, each fault with its place."""
