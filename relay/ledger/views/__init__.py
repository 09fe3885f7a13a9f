"""What the desk, the commands and the metrics read. Only the day's counts are written here."""
