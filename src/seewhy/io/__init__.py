"""Reading and writing arrays; atomic writes."""
