"""Explanations of many samples: selection, session, store, judging, pictures, tables and report."""
