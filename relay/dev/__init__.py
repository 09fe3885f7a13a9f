"""For development: `make demo` and `make run`, a simulator and a player of the lab, a Redis.

No serving code imports it. Begin with `demo`.
"""
