"""Which weights move: all, some whole tensors, an adapter, or single entries of each matrix."""
