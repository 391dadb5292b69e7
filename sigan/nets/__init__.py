"""Networks: they know tensors and nothing else."""
