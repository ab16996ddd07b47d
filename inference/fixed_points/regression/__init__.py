"""Gaussian processes: covariances of neurons, regression, evidence, readouts."""
