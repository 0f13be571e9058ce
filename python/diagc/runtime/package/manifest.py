"""The manifest of a package: what it holds, for which machine, and the hash of every member."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from diagc.errors import CacheError, DiagcError, PackageError, SourceLocation
from diagc.runtime import steps
from diagc.runtime.package.archive import read_members, write_members
from diagc.runtime.package.conditions import check_condition
from diagc.runtime.package.structure import count_tensors
from diagc.runtime.package.variants import VariantEntry, Variants, check_variants
from diagc.runtime.plain_data import Codec, dataclasses_of
from diagc.runtime.steps import HostProgram
from diagc.runtime.torch_call import DtypeName, OpenSize, Operand, TorchCall

__all__ = [
    "FORMAT_VERSION",
    "Manifest",
    "TensorEntry",
    "code_digest",
    "consistent",
    "read_package",
    "write_package",
]

FORMAT_VERSION = 1
"""Raised when an older run time could misread a package: layouts of calls, steps, structures."""

_MANIFEST = "manifest.json"
_TOO_MUCH = (OverflowError, RecursionError)
_CODEC = Codec(
    (
        *dataclasses_of(steps),
        *(TorchCall, Operand, OpenSize, DtypeName),
        *(SourceLocation, Variants, VariantEntry),
    )
)


@dataclass(frozen=True)
class TensorEntry:
    """A tensor inside the package: row major, little endian; `dtype` as in a signature."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    member: str


@dataclass(frozen=True)
class Manifest:
    """What a package says of itself.

    Args:
        name: of the user's function, module or diagram.
        target: such as "cpu" or "nvptx:sm_90".
        device: kind of torch device that it runs on.
        diagc: version of the compiler.
        program: its steps.
        sources: for each input of the program: the number of a tensor of the call, the name of a
            weight, or ("tensor", number among `tensors`).
        arguments: structure of the call: {"tuple": [positional, {"dict": keywords}]}.
        results: structure of what it gives.
        conditions: on sizes, see `guards.holds`.
        kernels: entries as in `package.kernels`.
        externs: torch ops by symbol.
        tensors: that are inside the package.
        report: what the compiler did, as `explain("json")` gives it.
        variants: other programs for the same; None where there is no choice.
    """

    name: str
    target: str
    device: str
    diagc: str
    program: HostProgram
    sources: tuple[Any, ...]
    arguments: dict[str, Any]
    results: dict[str, Any]
    conditions: tuple[str, ...]
    kernels: tuple[dict[str, Any], ...]
    externs: Mapping[str, TorchCall]
    tensors: tuple[TensorEntry, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)
    variants: Variants | None = None

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the tensors that `load` must be given."""
        return tuple(dict.fromkeys(source for source in self.sources if isinstance(source, str)))


def code_digest(manifest: Manifest, members: Mapping[str, bytes]) -> str:
    """A digest of all programs of a package: kernels, and the steps of each variant by its name.

    What was measured of other programs does not count for it. Predictions change nothing.
    """
    entries = manifest.variants.entries if manifest.variants is not None else ()
    variants = [_CODEC.encode(replace(entry, predicted=())) for entry in entries]
    externs = {name: replace(call, location=None) for name, call in manifest.externs.items()}
    steps_ = _CODEC.encode((manifest.program, externs))
    parts = (manifest.kernels, steps_, variants)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, data in sorted(members.items()):
        if name.startswith("kernels/"):
            digest.update(f"{name} {len(data)} ".encode())
            digest.update(data)
    return digest.hexdigest()


def write_package(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> None:
    """Write a package, in one step.

    Raises:
        PackageError: it cannot be written.
        TypeError: the manifest holds something that JSON does not.
    """
    hashes = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
    }
    plain = {
        **{"format": "diagpkg", "version": FORMAT_VERSION, "members": hashes},
        **{name: getattr(manifest, name) for name in _PLAIN},
        **{name: _CODEC.encode(getattr(manifest, name)) for name in _ENCODED},
        "tensors": [asdict(entry) for entry in manifest.tensors],
    }
    if manifest.variants is not None:
        plain["variants"] = _CODEC.encode(manifest.variants)
    text = json.dumps(plain, indent=1).encode()
    stored = frozenset(entry.member for entry in manifest.tensors)
    write_members(path, {_MANIFEST: text, **members}, stored)


_PLAIN = (
    *("name", "target", "device", "diagc", "sources", "arguments", "results", "conditions"),
    *("kernels", "report"),
)
_ENCODED = ("program", "externs")


def read_package(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the members of a package; nothing is loaded.

    Raises:
        PackageError: it is no package, damaged, of another version, or not consistent.
    """
    members = read_members(path)
    if _MANIFEST not in members:
        raise PackageError(f"{path} is no package", expected=_MANIFEST, found="none")
    plain = _parse(path, members.pop(_MANIFEST))
    try:
        _check_members(path, plain["members"], members)
        return _manifest(plain), members
    except (CacheError, ValueError, TypeError, KeyError, AttributeError, *_TOO_MUCH) as error:
        why = error.message if isinstance(error, CacheError) else f"{error}"
        raise PackageError(f"the manifest of {path} is malformed: {why}") from None


@contextmanager
def consistent(path: Path) -> Iterator[None]:
    """What a package lists is loaded inside; no check has foreseen all that may fail there.

    Raises:
        PackageError: in place of errors of Python's and torch's.
    """
    try:
        yield
    except DiagcError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError, *_TOO_MUCH) as error:
        kind = type(error).__name__
        raise PackageError(f"{path} is not consistent: {kind}: {error}") from None


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"the manifest of {path} is no JSON: {error}") from None
    if not isinstance(plain, dict) or plain.get("format") != "diagpkg":
        raise PackageError(f"{path} is no package", expected='"format": "diagpkg"')
    if plain.get("version") != FORMAT_VERSION:
        raise PackageError(
            f"{path} has another format version",
            expected=FORMAT_VERSION,
            found=f"{plain.get('version')}, of diagc {plain.get('diagc')}",
            remedy="compile it again, or use the diagc that made it",
        )
    return plain


def _check_members(path: Path, expected: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    if expected.keys() != members.keys():
        odd = ", ".join(sorted(expected.keys() ^ members.keys()))
        raise PackageError(f"{path} does not hold what its manifest lists", found=f"about {odd}")
    for name, data in members.items():
        entry = expected[name]
        if (len(data), hashlib.sha256(data).hexdigest()) != (entry["size"], entry["sha256"]):
            raise PackageError(
                f"{path} is damaged: member {name!r} does not have the hash in the manifest",
                remedy="copy or compile it again",
            )


def _manifest(plain: Mapping[str, Any]) -> Manifest:
    """Decode, and check what later steps rely on."""
    manifest = Manifest(
        **{name: plain[name] for name in ("name", "target", "device", "diagc")},
        **{name: plain[name] for name in ("arguments", "results", "report")},
        **{name: _CODEC.decode(plain[name]) for name in _ENCODED},
        sources=tuple(tuple(s) if isinstance(s, list) else s for s in plain["sources"]),
        conditions=tuple(plain["conditions"]),
        kernels=tuple(plain["kernels"]),
        tensors=tuple(
            TensorEntry(**{**entry, "shape": tuple(entry["shape"])}) for entry in plain["tensors"]
        ),
        variants=_CODEC.decode(plain.get("variants")),
    )
    if not isinstance(manifest.program, HostProgram) or manifest.device not in ("cpu", "cuda"):
        raise ValueError(f"no program for {manifest.device!r}")
    for condition in manifest.conditions:
        check_condition(condition)
    _check_sources(manifest)
    if manifest.variants is not None:
        check_variants(manifest.variants, manifest.program, len(manifest.kernels))
    if count_tensors(manifest.results) > len(manifest.program.outputs):
        raise ValueError("more results than the program gives")
    return manifest


def _check_sources(manifest: Manifest) -> None:
    given = count_tensors(manifest.arguments)
    if len(manifest.sources) != len(manifest.program.inputs):
        raise ValueError("inputs and sources differ in number")
    for source in manifest.sources:
        match source:
            case bool():
                raise ValueError(f"source {source!r}")
            case int() if 0 <= source < given:
                continue
            case str():
                continue
            case ("tensor", int() as number) if 0 <= number < len(manifest.tensors):
                continue
        raise ValueError(f"source {source!r}")
