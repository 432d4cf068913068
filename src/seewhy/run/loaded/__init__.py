"""Trained runs, loaded: for the commands, and in Python to predict and explain files and arrays of no data set."""
