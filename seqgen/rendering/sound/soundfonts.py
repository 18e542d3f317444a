"""Which soundfont plays: the one named, that of the environment, or one that the system has."""

import os
from collections.abc import Sequence
from pathlib import Path

from seqgen.errors import UserError

VARIABLE = "SEQGEN_SOUNDFONT"
FOLDERS = (  # where Debian, Fedora and Arch, FreeBSD, Homebrew and people put them
    Path("/usr/share/sounds/sf2"),
    Path("/usr/share/sounds/sf3"),
    Path("/usr/share/soundfonts"),
    Path("/usr/local/share/soundfonts"),
    Path("/opt/homebrew/share/soundfonts"),
    Path("~/.local/share/soundfonts"),
)
SUFFIXES = (".sf2", ".sf3")
# What the administrator chose first, then larger ones before smaller ones; others by name.
PREFERRED = ("default-gm", "default", "fluidr3_gm", "musescore_general", "timgm6mb")
PACKAGES = (
    "timgm6mb-soundfont (6 MB; it comes with libfluidsynth3, which plays it) or "
    "fluid-soundfont-gm (140 MB)"
)


def find_soundfont(named: str | Path | None = None, *, folders: Sequence[Path] = FOLDERS) -> Path:
    """Return the soundfont to play with.

    Raises:
        UserError: the named file is no soundfont, or none is named and none found.
    """
    if named is not None:
        return _checked(Path(named), "--soundfont")
    from_environment = os.environ.get(VARIABLE)
    if from_environment:
        return _checked(Path(from_environment), VARIABLE)
    found = [
        path
        for folder in map(Path.expanduser, folders)
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise UserError(
            f"no soundfont found, and without one there is no sound: apt-get install {PACKAGES}, "
            f"or name one by --soundfont FILE.sf2 or {VARIABLE}=FILE.sf2"
        )
    return min(found, key=_rank)


def _rank(path: Path) -> tuple[int, str]:
    stem = path.stem.lower()
    places = [i for i, name in enumerate(PREFERRED) if stem.startswith(name)]
    return (min(places, default=len(PREFERRED)), str(path))


def _checked(path: Path, where: str) -> Path:
    path = path.expanduser()
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise UserError(f"{where}: cannot read {path}: {error.strerror}") from None
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise UserError(f"{where}: {path} is not a soundfont (SF2 or SF3)")
    return path
