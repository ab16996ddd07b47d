"""Guides, their bounds, and how they are fitted."""
