"""Postfix's configuration language: main.cf, master.cf, and edits that keep all the rest."""
