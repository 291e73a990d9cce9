"""What stands in for a simulator."""
