"""Writes what the docs have from the code: the keys of config.toml, their JSON Schema, the routes.

`pytest` runs it (docs/developing.md, "Tests that write"); the product itself needs none of it.
"""
