"""All the SQL there is. The ledger is the truth: what is not in it did not happen."""
