"""Classification of whole cases."""
