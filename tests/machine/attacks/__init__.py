"""Attacks on an installed agent: what is tried, and what must hold."""
