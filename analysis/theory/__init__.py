"""Phase diagrams and critical noises of the theories."""
