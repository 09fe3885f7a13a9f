"""What staff ask for, on the desk or the command line: explain, what-if, a test, a message sent
again, an act about a case.

What it writes, it writes with a line in the audit trail, in one transaction. Begin with `explain`.
"""
