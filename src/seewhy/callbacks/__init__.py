"""Lightning callbacks: weight averages, maps, pictures, prediction files and explanations."""
