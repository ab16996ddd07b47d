"""Results: the trees on disk, and the figures that are read off a tree."""
