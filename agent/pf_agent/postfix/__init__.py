"""Postfix's programs, port and log: what they are asked, and what their answers mean."""
