"""Maps from the attention and the gates of a network."""
