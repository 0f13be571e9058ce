"""The laws that license rewrites: normalisers, streams, re-association, and their proofs.

Nothing is imported here: sympy (0.4 s) is needed only to prove a law that no cache knows.
"""
