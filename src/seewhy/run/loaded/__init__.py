"""A trained run in Python: predict and explain files and arrays that belong to no data set."""
