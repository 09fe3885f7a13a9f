"""For development: `make demo` and `make run`, the lab's simulator and its player, a Redis.

Nothing that serves imports it. Begin with `demo`.
"""
