"""Joins the pieces of wires to whole ones: fewer shapes, no seams."""

from collections import defaultdict
from dataclasses import replace
from typing import TypeAlias

from diagc.viz.scene import Box, Line, Point, Shape

__all__ = ["joined"]

Piece: TypeAlias = tuple[Point, Point, Point]
_Key: TypeAlias = tuple[float, float, str, tuple[int, ...]]


def joined(shapes: list[Shape]) -> list[Shape]:
    """The shapes with lines of one style joined where one ends and exactly one begins.

    Frames come first, outer ones before those in them, then wires, then all that lies on them.
    """
    lines = [shape for shape in shapes if isinstance(shape, Line)]
    begins: dict[_Key, list[Line]] = defaultdict(list)
    ends: dict[_Key, int] = defaultdict(int)
    for line in lines:
        begins[_key(line, line.start)].append(line)
        ends[_key(line, line.pieces[-1][2])] += 1
    following = {}
    for line in lines:
        key = _key(line, line.pieces[-1][2])
        if ends[key] == 1 and len(begins[key]) == 1 and begins[key][0] is not line:
            following[id(line)] = begins[key][0]
    continued = {id(line) for line in following.values()}
    whole = [_chain(line, following) for line in lines if id(line) not in continued]
    frames = [shape for shape in shapes if isinstance(shape, Box) and shape.form == "frame"]
    others = [s for s in shapes if not isinstance(s, Line) and s not in frames]
    return [*frames, *whole, *others]  # from back to front


def _key(line: Line, point: Point) -> _Key:
    return round(point[0], 1), round(point[1], 1), line.style, line.scope


def _chain(line: Line, following: dict[int, Line]) -> Line:
    pieces: list[Piece] = []
    at, part = line.start, line
    while True:
        for piece in part.pieces:
            start = pieces[-1][2] if pieces else at
            if pieces and _level(pieces[-1]) and _straight(start, piece) and _level(piece):
                pieces[-1] = (pieces[-1][0], piece[2], piece[2])
            else:
                pieces.append(piece)
        if id(part) not in following:
            return replace(line, pieces=tuple(pieces))
        part = following[id(part)]


def _straight(start: Point, piece: Piece) -> bool:
    return piece[1] == piece[2] and abs(piece[0][0] - start[0]) + abs(piece[0][1] - start[1]) < 0.3


def _level(piece: Piece) -> bool:
    """Whether a piece is a level line; pieces of a curve have other controls."""
    return piece[1] == piece[2] and abs(piece[0][1] - piece[2][1]) < 0.05
