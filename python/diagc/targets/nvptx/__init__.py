"""The target of NVIDIA GPUs: PTX, and cubins where ptxas is at hand."""
