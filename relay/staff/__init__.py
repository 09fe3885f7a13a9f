"""The requests of staff, on the desk or the command line: explain, what-if, a test, sending a
message again, acting on a case.

Every change is written with a line in the audit trail, in one transaction. Begin with `explain`.
"""
