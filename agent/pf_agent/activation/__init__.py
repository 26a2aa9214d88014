"""Make Postfix run with main.cf: when to reload or restart, verifying it, the alias databases."""
