"""Every solution of a theory's equations, on one curve in the effective ridge."""
