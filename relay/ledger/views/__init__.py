"""Read-only views for the desk, the commands and the metrics. Only a day's counts are written."""
