"""What happens when: maps after fit, predictions to disk, the results table."""
