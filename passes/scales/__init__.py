"""Numerics: exponentials that cannot overflow, factors and scales that move through sums."""
