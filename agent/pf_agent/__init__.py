"""pf-agent: keeps Postfix's main.cf at a desired state."""

__version__ = "1.0.0"
