"""Kernels: which ops belong together, their axes, schedules and keys."""
