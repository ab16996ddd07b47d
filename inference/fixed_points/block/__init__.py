"""The block theory: N reduced neurons exact in the modes on S, their model, chains and averages."""
