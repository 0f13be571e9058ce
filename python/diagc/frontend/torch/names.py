"""Readable names of values: the variable that the user's line assigns, or the op."""

import linecache
import re
from itertools import zip_longest

from diagc.frontend.torch.aten import Node, Program

__all__ = ["value_names"]

_ASSIGNMENT = re.compile(r"^\s*(?:self\.)?(?P<name>[A-Za-z]\w*)\s*(?::[^=]+)?[-+*/@]?=(?!=)")
_SHORT = {"scaled_dot_product_attention": "attention", "linalg_vector_norm": "norm"}


def value_names(program: Program) -> dict[str, str]:
    """A name for each node; the last op of a line has the name of what the line assigns."""
    names: dict[str, str] = {}
    for node, after in zip_longest(program.nodes, program.nodes[1:]):
        names[node.name] = _assigned(node, after) or _op_name(node)
    return names


def _op_name(node: Node) -> str:
    name = node.packet.split(".")[-1].strip("_")
    return _SHORT.get(name, name)


def _assigned(node: Node, after: Node | None) -> str | None:
    where = node.location
    if where is None or _line(node) == _line(after):
        return None
    match = _ASSIGNMENT.match(linecache.getline(where.file, where.line))
    return match["name"] if match is not None else None


def _line(node: Node | None) -> tuple[str, int] | None:
    if node is None or node.location is None:
        return None
    return node.location.file, node.location.line
