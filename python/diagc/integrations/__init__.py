"""Doors to libraries of models; each is imported by itself, with the library that it is for."""
