"""The work on rows that a worker has claimed: process, deliver, reconcile, follow up, erase.

It may use the ledger and the providers, but not Flask or RQ. Begin with `tasks`, then
`process_event` and `deliver`.
"""
