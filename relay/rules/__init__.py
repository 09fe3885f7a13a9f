"""Decisions, without I/O: what an event leads to, for whom, by which channel, and when.

It knows the lab's words (`relay.lab`) but not the ledger or the providers. Begin with `planner`,
and with `model` for the values that it works with.
"""
