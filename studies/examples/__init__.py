"""Study scripts of at most 30 lines each, to read and to run."""
