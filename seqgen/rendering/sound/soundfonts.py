"""Finds the soundfont to play with: the one named, the environment's, or one of the system's."""

import os
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
# The administrator's choice first, then larger ones before smaller ones; all others by name.
PREFERRED = ("default-gm", "default", "fluidr3_gm", "musescore_general", "timgm6mb")


def find_soundfont(named: str | Path | None = None, *, most_bytes: int | None = None) -> Path:
    """Return the soundfont to play with; UserError where it is none, or none is found.

    `most_bytes`: where several are found, those that are not larger come first.
    """
    for given, where in ((named, "--soundfont"), (os.environ.get(VARIABLE), VARIABLE)):
        if given:
            return _checked(Path(given).expanduser(), where)
    found = [
        path
        for folder in map(Path.expanduser, FOLDERS)
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise UserError(
            f"no soundfont found (a file with the sounds of instruments): apt-get install "
            f"timgm6mb-soundfont (6 MB) or fluid-soundfont-gm (140 MB, sounds better), or name one "
            f"with --soundfont FILE.sf2 or the environment variable {VARIABLE}"
        )
    if most_bytes is not None:
        found = [path for path in found if path.stat().st_size <= most_bytes] or found
    return min(found, key=_rank)


def _rank(path: Path) -> tuple[int, str]:
    stem = path.stem.lower()
    places = [i for i, name in enumerate(PREFERRED) if stem.startswith(name)]
    return (min(places, default=len(PREFERRED)), str(path))


def _checked(path: Path, where: str) -> Path:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise UserError(f"{where}: cannot read {path}: {error.strerror}") from None
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise UserError(f"{where}: {path} is not a soundfont (an SF2 or SF3 file)")
    return path
