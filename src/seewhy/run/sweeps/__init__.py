"""Members of sweeps and results over them."""
