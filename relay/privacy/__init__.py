"""Whose data it is: one person by all their names and addresses, and how these are masked.

Pure: it may know the lab's facts and nothing else. Begin with `person`.
"""
