"""The lab's side: what its webhooks say, and what its API answers.

It knows nothing of rules, messages or the ledger. Begin with `events`: a row for each event.
"""
