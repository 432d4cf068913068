"""Cases of the report's browser: made from batches with predictions, and from stored explanations."""
