"""The system bus: systemd, the agent's own interface, and who may call it."""
