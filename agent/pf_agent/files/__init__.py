"""The disk: exchanging main.cf, the agent's own files, and the ownership of all of them."""
