"""Contractions: re-association, chunks with states, normalisers that pass through a product."""
