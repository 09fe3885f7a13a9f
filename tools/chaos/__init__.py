"""Kills, freezes and starves a whole Relay at random, then counts what became of every message."""
