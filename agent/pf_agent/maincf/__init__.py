"""Postfix's configuration language: main.cf, master.cf, and edits that leave the rest untouched."""
