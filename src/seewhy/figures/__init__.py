"""Arrays to pictures and the report: numpy and matplotlib, no torch."""
