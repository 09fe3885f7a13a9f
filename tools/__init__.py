"""Tools for those who work on Relay: measuring, breaking and picturing it. None is deployed."""
