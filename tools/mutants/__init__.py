"""Mutants of what decides what a person hears: each small change of the code must fail a test.

`table.toml` names the modules, the tests that are about each, and what no test can tell apart.
"""
