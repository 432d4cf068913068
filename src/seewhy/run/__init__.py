"""Build what a configuration describes, run it, and write a run folder."""
