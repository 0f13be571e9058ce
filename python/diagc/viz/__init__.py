"""Drawings of diagrams in the notation of neural circuit diagrams (arXiv 2402.05424, 2412.03317).

Arrays are bundles of wires, one for each axis, with label and size; operations are read from left
to right. `read` makes a picture of IR, `ordering` and `layout` place it, `svg` and `raster` write
it, `faults` says what is wrong with a layout.
"""

from diagc.viz.drawing import SUFFIXES, Drawing, check_suffix, draw_function

__all__ = ["SUFFIXES", "Drawing", "check_suffix", "draw_function"]
