"""What is measured, and the floors it is measured against."""
