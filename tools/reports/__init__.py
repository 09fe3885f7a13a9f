"""`make reports`: what others ran into, posted to a running Relay. Begin at `inputs.py`."""
