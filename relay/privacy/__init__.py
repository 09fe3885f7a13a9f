"""Whose data it is: a person by all their names and addresses, and how to mask these.

Pure: it may use the lab's facts and nothing else. Begin with `person`.
"""
