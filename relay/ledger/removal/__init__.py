"""Data that is removed: blanked past its retention period (`retention`), or erased for a person.

`erasures` has the people to erase, `personal_data` finds and blanks what the ledger has of them.
"""
