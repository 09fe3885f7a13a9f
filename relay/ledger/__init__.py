"""The ledger: all the SQL, a module a table. It is the truth; the queue only wakes workers.

It may know the rules' values and the configuration, and calls nobody. Begin with `schema`, then
`events` and `attempts`; `views/` only reads.
"""
