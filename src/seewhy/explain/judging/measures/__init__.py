"""Measures of the explanation literature under the names of Quantus, batched, in 2D and 3D, for several inputs."""
