"""Functions of numpy arrays that seewhy and the runner share."""
