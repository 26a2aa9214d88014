"""The agent's own configuration: TOML, typed and checked, with the place of each fault."""
