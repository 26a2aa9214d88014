"""The disk: main.cf as it is exchanged, the agent's own files, and whom they belong to."""
