"""What stands in for a simulator: a distribution over its outcomes."""
