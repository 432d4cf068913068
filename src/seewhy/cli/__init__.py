"""The commands: argument parsing only; nothing heavy is imported before a command runs."""
