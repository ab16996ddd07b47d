"""One neuron: its density, and the nodes over which the density is averaged."""
