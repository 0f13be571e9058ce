"""Packages: compiled programs in one file, that run where there is torch but no compiler.

docs/packages.md describes the format.
"""
