"""What the worker does with a row that it has claimed: process, deliver, follow up.

It may know everything below it but no Flask and no RQ. Begin with `tasks`, then `process_event` and
`deliver`.
"""
