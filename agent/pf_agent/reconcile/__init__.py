"""Correct the file: what differs, what is to be done about it, and what becomes of a wish."""
