"""From a record and its pictures to HTML. All text is escaped; nothing is loaded from elsewhere."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from seqgen.evaluation import verdict
from seqgen.evaluation.music.definitions import SOURCES
from seqgen.files import counted

HERE = Path(__file__).parent
NOTHING = "—"


@dataclass(frozen=True)
class PagePicture:
    """A picture for light and one for dark, each the text of an SVG file; `alt` describes it.

    `caption` stands below it, and an Ogg file where the picture is one of something that sounds.
    """

    light: str
    dark: str
    alt: str
    caption: str = ""
    ogg: bytes = b""

    def data(self, theme: str) -> str:
        """The picture as an address that holds it."""
        return _address("image/svg+xml", getattr(self, theme).encode())

    def sound(self) -> str:
        """The sound as an address that holds it."""
        return _address("audio/ogg", self.ogg)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render(
    record: Mapping, pictures: Mapping[str, Sequence[PagePicture | None]], *, about_sound: str = ""
) -> str:
    """Return the page of an evaluation from its record, with pictures by place in the page.

    Places are "samples", "held_out", "distributions", "runs", "curves" and "position";
    `about_sound` says what plays the samples, or why nothing does.
    """
    times = [c["times"] or 0.0 for c in (record["music"] or {}).get("comparisons", ())]
    page = _environment().get_template("report.html.j2").render(
        r=record,
        pictures=pictures,
        about_sound=about_sound,
        style=(HERE / "style.css").read_text(),
        own=verdict.own_entry,
        own_part=verdict.own_part,
        sources=SOURCES,
        has_sound=any(p and p.ogg for p in (*pictures["samples"], *pictures["held_out"])),
        scale=min(verdict.MOST_TIMES, max([1.0, *times])),  # what the longest bar stands for
        thresholds=verdict,
    )  # fmt: skip
    return page.lstrip()


def number(value: float | None, digits: int = 3) -> str:
    """A number as it stands in a table."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def amount(value: Mapping | None, digits: int = 3) -> str:
    """The value of a mean over pieces."""
    return NOTHING if value is None else number(value["value"], digits)


def interval(value: Mapping | None, digits: int = 3) -> str:
    """Its interval, or nothing."""
    if value is None or value.get("low") is None:
        return ""
    return f"{number(value['low'], digits)} … {number(value['high'], digits)}"


def measured(value: float | None, unit: str) -> str:
    """A mean of a measure with its unit, shares as percent; else three significant digits."""
    if value is None:
        return NOTHING
    if unit.startswith("share"):
        return f"{100 * value:.0f}%"
    if unit == "s":
        return duration(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Format seconds in the unit that suits them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (number, amount, interval, measured, duration, counted, verdict.in_words)
    environment.filters |= {function.__name__: function for function in filters}
    return environment
