"""Reasons for messages not to go out: pauses, the stop button, the daily limit, suppressions."""
