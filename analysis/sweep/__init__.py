"""Sweeps over a grid: their cells, where these run, and the reproduction of the experiment."""
