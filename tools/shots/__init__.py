"""`make shots`: the desk with something on it, as a browser shows it."""
