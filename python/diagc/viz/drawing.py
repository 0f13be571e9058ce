"""A drawing: SVG, PNG or PDF of a diagram, for files and for notebooks."""

from dataclasses import dataclass
from pathlib import Path

from diagc.errors import UserError
from diagc.files import as_path
from diagc.mlir import ir
from diagc.viz.layout import WIDTH, lay_out
from diagc.viz.page import finish
from diagc.viz.read import read_picture
from diagc.viz.scene import Scene
from diagc.viz.svg import svg_text

__all__ = ["SUFFIXES", "Drawing", "check_suffix", "draw_function"]

SUFFIXES = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class Drawing:
    """A placed diagram; notebooks show it by themselves."""

    scene: Scene

    def svg(self) -> str:
        """The SVG document."""
        return svg_text(self.scene)

    def png(self, scale: float = 2.0) -> bytes:
        """The PNG file, with `scale` pixels for each px of the SVG."""
        from diagc.viz.raster import image

        return image(self.scene, "png", scale)

    def save(self, path: str | Path) -> None:
        """Write a file, whose suffix says the format: `.svg`, `.png` or `.pdf`.

        Raises:
            UserError: no path, an unknown suffix, or the file cannot be written.
        """
        path = as_path(path, "a drawing")
        check_suffix(path)
        try:
            path.write_bytes(self._bytes(path.suffix.lower()))
        except OSError as error:
            raise UserError(f"cannot write {path}", found=error.strerror) from None

    def _bytes(self, suffix: str) -> bytes:
        if suffix == ".svg":
            return self.svg().encode()
        from diagc.viz.raster import image

        return image(self.scene, suffix[1:])

    def _repr_svg_(self) -> str:
        return self.svg()


def check_suffix(path: Path) -> None:
    """Refuse a file whose format is not known.

    Raises:
        UserError: it has another suffix than those of `SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        found = f"'{path.suffix}'" if path.suffix else "no suffix"
        expected = f"a file that ends in {', '.join(SUFFIXES)}"
        raise UserError(f"cannot tell the format of {path}", expected=expected, found=found)


def draw_function(
    module: ir.Module, entry: ir.Operation, width: float = WIDTH, title: str = ""
) -> Drawing:
    """Draw one function of a module; kernels that it calls are frames.

    Args:
        module: verified diag IR at any stage of the pipeline.
        entry: the function.
        width: in px, at which the diagram wraps.
        title: above the diagram.
    """
    with module.context, ir.Location.unknown():  # literals are compared with attributes made anew
        picture = read_picture(module, entry)
    return Drawing(finish(lay_out(picture, width), title or picture.title))
