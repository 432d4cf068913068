"""Checks of a command before anything is read or written: its options, and the scores that it waits for."""
