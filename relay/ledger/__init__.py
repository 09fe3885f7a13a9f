"""The ledger: all the SQL, a module per table. It is the truth; the queue only wakes workers.

It may use the values of rules and messages, not the configuration. Begin with `schema`, then
`events` and `attempts`; `worklist/` has the work that waits for a person, `holds/` the reasons for
messages not to go out; `views/` only reads, `removal/` blanks and erases. Functions take a
`Connection`, and the caller opens the unit of work: `with db.write() as connection:`. Those that
take the `Database` own their transactions, and say why.
"""
