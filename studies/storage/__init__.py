"""Storages: where studies are kept, in memory or in an SQLite file."""
