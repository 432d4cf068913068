"""Maps from gradients of class scores by the inputs."""
