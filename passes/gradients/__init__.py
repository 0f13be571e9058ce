"""Reverse mode on diagrams, and what the forward pass saves for it."""
