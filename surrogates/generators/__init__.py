"""Generative surrogates: networks whose output is a distribution."""
