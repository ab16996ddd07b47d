"""The schemes by name, and their comparison on one problem."""
