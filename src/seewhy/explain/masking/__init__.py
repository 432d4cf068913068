"""Maps from randomly masked inputs."""
