"""Kernels as groups of threads: any region of a diagram, every op as it stands."""
