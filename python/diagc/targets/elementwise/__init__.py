"""Scalar operations of maps, as code: shared by the targets that generate it."""
