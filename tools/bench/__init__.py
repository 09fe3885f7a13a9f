"""`make bench`: Relay against its baselines, alternating in one run, as ratios."""
