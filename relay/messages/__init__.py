"""Words: a template and the names it sees become an SMS or an email.

It knows the lab's facts and the rules' vocabulary, and sends nothing. Begin with `templates`.
"""
