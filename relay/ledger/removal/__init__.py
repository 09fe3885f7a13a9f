"""Removal of data: blanked after its retention period (`retention`), or erased for a person.

`erasures` holds the requests; `personal_data` finds and blanks what the ledger has of a person.
"""
