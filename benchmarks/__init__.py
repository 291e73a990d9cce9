"""Side-by-side measurements; each script prints its tables and writes them to benchmarks/results."""
