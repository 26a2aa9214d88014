"""Corrects the file: what differs, what to do about it, and what becomes of a wish."""
