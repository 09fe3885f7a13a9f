"""The lab's side: its webhooks, and its API's answers.

It knows nothing of rules, messages or the ledger. Begin with `events`: a row for each event.
"""
