"""Read and write arrays, pictures, medical volumes and zarr stores; atomic writes."""
