"""The experiments of `benchmarks.dynamics`: one module for each family of learned dynamics."""
