"""Steps of an export: reading files, running networks, and writing results, each described by plain data."""
