"""Differentiable simulation."""
