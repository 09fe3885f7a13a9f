"""What staff ask for, on the desk or the command line: explain, what-if, a message sent as a test.

It reads the ledger and writes nothing but its line in the audit trail. Begin with `explain`.
"""
