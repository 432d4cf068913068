"""Runs in experiment trackers: begin, continue and close them, and collect what they show."""
