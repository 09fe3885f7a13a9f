"""The work on rows that a worker has claimed: process, deliver, reconcile, follow up, erase.

It may know the ledger and the providers, but no Flask and no RQ. Begin with `tasks`, then
`process_event` and `deliver`.
"""
