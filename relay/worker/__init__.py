"""The worker's process: threads that drain the ledger, a clock, and RQ's listener that wakes them.

It may know the jobs and the queue, and decides nothing itself. Begin with `process`, then `pump`.
"""
