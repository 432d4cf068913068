"""Evaluation and cases of translation runs."""
