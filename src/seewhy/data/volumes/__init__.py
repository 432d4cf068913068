"""Volumes of any size: find and survey cases, split them or boxes of them, and read patches."""
