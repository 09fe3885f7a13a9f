"""Configuration: config.toml and the environment, checked together, every mistake with its line.

It knows the rules and the templates, not the ledger. Begin with `schema` for the keys, and with
`loader` for how they become a `Config`.
"""
