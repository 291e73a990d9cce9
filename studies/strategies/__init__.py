"""Strategies: where to run the simulator next."""
