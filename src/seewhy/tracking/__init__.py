"""The one place that knows the loggers apart."""
