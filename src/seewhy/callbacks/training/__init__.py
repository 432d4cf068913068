"""Callbacks that a training may add: other ends, averages, statistics and faster execution."""
