"""Reductions of one axis that become one loop over it."""
