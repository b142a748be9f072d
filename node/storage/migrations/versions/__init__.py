"""Each change of the tables, in order; its name begins with r and its number."""
