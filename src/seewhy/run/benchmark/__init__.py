"""Benchmark of explanation methods on phantoms whose evidence is known."""
