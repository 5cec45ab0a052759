"""Resolving beside uv and pip: the same sets against the same index, its requests counted."""
