"""Files of seqgen: written atomically, verified when read, locked by their writer."""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from seqgen.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]  # a clone, or the folder of installed packages
TEMPORARY = ".seqgen-"  # prefix of temporary folders
LOCK = "seqgen.lock"  # in a temporary folder: held as long as its writer runs


def project_folder(name: str) -> Path:
    """Return configs/ or datasets/: that of the clone, or what of it was installed."""
    is_clone = (PROJECT / "setup.py").is_file()
    return PROJECT / name if is_clone else PROJECT / "seqgen" / name


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` when the block ends without error.

    Parent folders are created. On any error the temporary file is removed and `path` is untouched.
    """
    path = Path(path)
    try:
        with _temporary_folder(path.parent) as folder:
            yield folder / path.name
            (folder / path.name).replace(path)
    except OSError as error:
        error.filename = str(path)  # the name that a person knows; a failed write has none
        raise


def reserve(path: Path) -> bool:
    """Create an empty file; return False if the name is already taken, also by another process."""
    try:
        Path(path).open("x").close()
    except FileExistsError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` as indented JSON, atomically.

    Raises:
        ValueError: it holds NaN or infinity, which JSON lacks; `json_ready` writes them as null.
    """
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path, *, way_out: str) -> dict:
    """Read a JSON object from a file that seqgen wrote.

    Raises:
        UserError: the file cannot be read or is damaged; the message ends in `way_out`.
    """
    try:
        value = json.loads(path.read_bytes().decode())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): {way_out}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): {way_out}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object): {way_out}")
    return value


def write_record(path: Path, record: dict, *, format: int) -> None:
    """Write a record as JSON, with the number of its format and a checksum of itself."""
    record = {"format": format, **record}
    write_json(path, {**record, "sha256": _checksum(record)})


def read_record(path: Path, *, format: int, way_out: str) -> dict:
    """Read what `write_record` wrote.

    Raises:
        UserError: the file cannot be read, is damaged or of another format; the message ends in
            `way_out`.
    """
    record = read_json(path, way_out=way_out)
    if record.get("format") != format:
        raise UserError(
            f"{path} was written by another version of seqgen (it has format "
            f"{record.get('format')}, this one reads {format}): {way_out}"
        )
    if record.pop("sha256", None) != _checksum(record):
        raise UserError(f"{path} is damaged (its checksum does not match): {way_out}")
    return record


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its name there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): _sha256(file) for file in files}


def check_files(folder: Path, expected: Mapping[str, str], *, way_out: str) -> None:
    """Compare files with their `checksums`.

    Raises:
        UserError: a file cannot be read or its content differs; the message ends in `way_out`.
    """
    for name, checksum in expected.items():
        path = folder / name
        try:
            is_whole = _sha256(path) == checksum
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror}): {way_out}") from None
        if not is_whole:
            raise UserError(f"{path} is damaged (its checksum does not match): {way_out}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def readable(text: str) -> str:
    """Return text that can be written as UTF-8: a file's name may hold bytes that are not."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 file", "1,200 files"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def json_ready(value: object) -> Any:
    """Return a value as strict JSON holds it: text `readable`, None for NaN and infinity."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {json_ready(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return value


def check_folder(folder: Path) -> None:
    """Raise the OSError that writing into a folder would raise; leaves no file or folder."""
    folder = Path(folder)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="."):
            pass
    except OSError as error:
        error.filename = str(folder)  # the name that a person knows
        raise
    finally:
        for place in missing:
            with contextlib.suppress(OSError):
                place.rmdir()


def check_new(folder: Path) -> None:
    """Raise UserError where a folder that is to be written holds something, or is a file."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: choose another folder")


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces the folder `path` when the block succeeds."""
    path = Path(path)
    with _temporary_folder(path.parent) as folder:
        new = folder / path.name
        new.mkdir()
        yield new
        while True:
            try:
                new.replace(path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not path.is_symlink():
                    raise
            # Another process may put its own folder there, or move this one away, at any moment.
            with contextlib.suppress(FileNotFoundError):
                path.replace(Path(tempfile.mkdtemp(dir=folder)) / "old")


@contextlib.contextmanager
def locked(path: Path, *, if_held: Callable[[str], None]) -> Iterator[bool]:
    """Hold an advisory lock on the file `path`, which names the process and is removed at the end.

    The operating system releases the lock when the process ends, also when it is killed. If another
    process holds it, `if_held` is called with its name ("process 12 on host"), then waits for it.
    Yields whether the lock is held: some file systems do not support locks.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", errors="replace") as file:
            is_held = _lock(file, if_held)
            if not _is_at(path, file):  # its last holder has removed it
                continue
            try:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
                yield is_held
            finally:
                path.unlink(missing_ok=True)
                if is_held:
                    fcntl.flock(file, fcntl.LOCK_UN)  # child processes may still have it open
        return


def sweep(folder: Path) -> None:
    """Remove temporary folders of killed writers below a folder, but not those of running ones."""

    def leave(holder: str) -> None:
        raise BlockingIOError(holder)

    for place in sorted(folder.rglob(f"{TEMPORARY}*"), reverse=True):
        with contextlib.suppress(OSError), locked(place / LOCK, if_held=leave) as is_held:
            if is_held:
                shutil.rmtree(place)


@contextlib.contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder, removed at the end; its lock tells `sweep` that its writer still runs."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=TEMPORARY))
    try:
        with locked(folder / LOCK, if_held=lambda holder: None):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lock(file: TextIO, if_held: Callable[[str], None]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        if_held(file.read().strip() or "another process")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
