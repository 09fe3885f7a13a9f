"""Data that may be kept no longer: blanked by its age (`retention`), erased for a person.

`erasures` has the people to erase, `personal_data` finds and blanks what the ledger has of them.
"""
