"""Packages that are built where the compiler is, then checked and timed where the GPU is."""
