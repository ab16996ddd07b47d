"""A run of any kernel: its chains, what is recorded of them, its folder, its checkpoints."""
