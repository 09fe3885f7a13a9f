"""Relay as it runs: real processes, real signals."""
