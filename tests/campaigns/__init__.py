"""Campaigns that look for faults: each can be run by hand in full, and has a smaller test."""
