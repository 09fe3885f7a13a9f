"""What keeps messages from going: pauses, a stop by hand, the day's limit, stopped addresses."""
