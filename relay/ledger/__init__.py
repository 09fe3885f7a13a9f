"""The ledger: all the SQL, a module a table. It is the truth; the queue only wakes workers.

It may know the rules' and the messages' values, not the configuration. Begin with `schema`, then
`events` and `attempts`; `worklist/` is what waits for a person, `holds/` what keeps messages from
going, `views/` only reads, `removal/` blanks and erases. Functions take a `Connection`, and the
caller opens the unit of work: `with db.write() as connection:`. Those that take the `Database` own
their transactions, and say why.
"""
