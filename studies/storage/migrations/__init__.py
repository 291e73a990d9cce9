"""Changes of the tables from one layout to the next, and the upgrade of a database that an older version made."""
