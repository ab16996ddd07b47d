"""Input distributions with their targets: in which modes a neuron overlaps with what."""
