"""Relay: a medical lab's webhooks, turned into SMS and email for patients and clinic staff."""

__version__ = "0.1.0"
