"""Figures as files and as text to put into a page: the same figure is the same bytes every time."""

import hashlib
import io
import re
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from seqgen.errors import UserError
from seqgen.files import atomic_path, write_bytes

FILE_DPI = 120
FORMATS = (".png", ".svg")
SALT = "seqgen"  # of the names inside an SVG file, which are drawn by chance otherwise
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or SVG, as the name ends; UserError for another ending."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path} should end in {' or '.join(FORMATS)}")
    if path.suffix.lower() == ".svg":
        write_bytes(path, _svg(figure).encode())
        return
    _settle(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=FILE_DPI)


def svg_text(figure: Figure) -> str:
    """Return a figure as an <svg> element for a page: nothing in it refers to another place.

    Letters are outlines, so that it looks the same wherever it is read. Names inside begin with a
    hash of the figure, so that those of another one on the same page are others.
    """
    svg = _svg(figure)
    svg = svg[svg.index("<svg") :]
    own = f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r'\bid="', f'id="{own}', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{own}", svg)
    return re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL).strip()


def _svg(figure: Figure) -> str:
    _settle(figure)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": SALT, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    # Line ends in blanks are of no use to anybody.
    return re.sub(r"[ \t]+\n", "\n", buffer.getvalue())


def _settle(figure: Figure) -> None:
    """Lay the figure out once: each further pass of the layout would move things by a hair."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
