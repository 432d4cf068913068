"""Maps from any module, and the scores that judge maps."""
