"""Make Postfix obey: reload, restart and verify, when that may be, and the alias databases."""
