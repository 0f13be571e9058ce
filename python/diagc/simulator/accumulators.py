"""Which values of a kernel may be sums of an asynchronous product that nothing has waited for.

The simulator asks about each of them at run time before an instruction uses it.
"""

import re
from collections.abc import Iterable, Mapping

__all__ = ["accumulator_names", "uses"]

_DEFINE = re.compile(r"^define .*?@(?P<name>[\w.$]+)\(")
_WGMMA = re.compile(r'^(?P<name>%[\w.]+) = (?:tail )?call .* asm [^"]*"[^"]*wgmma\.')
_EXTRACT = re.compile(r"^(?P<name>%[\w.]+) = extractvalue \{.*\} (?P<of>%[\w.]+), \d+")
_PHI = re.compile(r"^(?P<name>%[\w.]+) = phi float (?P<rest>.*)$")
_NAME = re.compile(r"%[\w.]+")


def accumulator_names(lines: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """By function, floats that come from wgmma, its fences and waits, also through phis."""
    found: dict[str, frozenset[str]] = {}
    function = ""
    body: list[str] = []
    for line in lines:
        define = _DEFINE.match(line)
        if define is not None:
            function, body = define["name"], []
        elif line.startswith("}"):
            found[function] = _names(body)
        elif function:
            body.append(line.strip())
    return found


def uses(body: str, names: frozenset[str]) -> list[str]:
    """Accumulators that an instruction uses as numbers; phis, wgmma and its waits may have them."""
    if not names or body.startswith("phi ") or "wgmma." in body:
        return []
    return [name for name in dict.fromkeys(_NAME.findall(body)) if name in names]


def _names(body: list[str]) -> frozenset[str]:
    structs = {match["name"] for line in body if (match := _WGMMA.match(line))}
    if not structs:
        return frozenset()
    extracts = (match for line in body if (match := _EXTRACT.match(line)))
    names = {match["name"] for match in extracts if match["of"] in structs}
    phis = [match for line in body if (match := _PHI.match(line))]
    edges = {match["name"]: set(_NAME.findall(match["rest"])) for match in phis}
    size = -1
    while size != len(names):
        size = len(names)
        names |= {name for name, sources in edges.items() if sources & names}
    return frozenset(names)
