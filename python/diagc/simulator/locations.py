"""Where instructions of LLVM IR text come from: `!dbg` attachments, as `file:line:column`."""

import re
from pathlib import PurePath

__all__ = ["read_locations"]

_NODE = re.compile(r"^!(?P<id>\d+) = (?:distinct )?!(?P<kind>DI\w+)\((?P<fields>.*)\)$")
_FIELD = re.compile(r"(?P<name>\w+): (?P<value>\"[^\"]*\"|![\d]+|\w+)")


def read_locations(text: str) -> dict[str, str]:
    """The place of each `!DILocation` by its number; one at line 0 says nothing and is left out."""
    nodes: dict[str, tuple[str, dict[str, str]]] = {}
    for line in text.splitlines():
        match = _NODE.match(line)
        if match is not None:
            fields = {m["name"]: m["value"] for m in _FIELD.finditer(match["fields"])}
            nodes[match["id"]] = (match["kind"], fields)
    places = {}
    for name, (kind, fields) in nodes.items():
        if kind == "DILocation" and fields.get("line", "0") != "0":
            file = _file_of(nodes, fields.get("scope", ""))
            places[name] = f"{file}:{fields['line']}:{fields.get('column', '0')}"
    return places


def _file_of(nodes: dict[str, tuple[str, dict[str, str]]], scope: str) -> str:
    while scope:
        kind, fields = nodes.get(scope.removeprefix("!"), ("", {}))
        if kind == "DIFile":
            name, folder = (fields.get(key, "").strip('"') for key in ("filename", "directory"))
            return str(PurePath(folder, name)) if name else "-"
        scope = fields.get("file") or fields.get("scope") or ""
    return "-"
