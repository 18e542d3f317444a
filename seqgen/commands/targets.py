"""Names of output files: one for each input file; existing files are not overwritten."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqgen.errors import UserError
from seqgen.files import atomic_path, reserve


class Targets:
    """Output names for input files: beside each, in a folder, or one given name."""

    def __init__(
        self,
        files: Sequence[Path],
        output: str | None,
        *,
        suffixes: Sequence[str],
        suffix: str,
        force: bool,
    ) -> None:
        """`output` is a folder, or a file name for a single file; `suffix` is the usual ending.

        Raises:
            UserError: several files and one name, or an ending that is not among `suffixes`.
        """
        self._output = None if output is None else Path(output)
        self._suffix = suffix
        self._force = force
        self._named: Path | None = None
        self._given: dict[Path, Path] = {}
        if self._output is None or self._output.is_dir():
            return
        if self._output.suffix.lower() in suffixes:
            if len(files) > 1:
                raise UserError(f"-o {output} is one file: choose a folder for {len(files)} files")
            self._named = self._output
        elif self._output.suffix:
            raise UserError(f"-o {output} should end in {' or '.join(suffixes)}, or be a folder")

    def of(self, file: Path) -> Path:
        """Return the name for what is made of `file`; UserError where something is there already.

        A name that was given by itself may be overwritten.
        """
        if self._named is not None:
            return self._named
        folder = file.parent if self._output is None else self._output
        stem = file.name if file.is_dir() else file.stem  # a run may be called v1.5
        path = folder / f"{stem}{self._suffix}"
        other = self._given.setdefault(path, file)
        if other != file:
            raise UserError(f"{file} would overwrite {path}, which was made from {other}")
        if path == file:
            raise UserError(f"{path} would overwrite itself: choose another name with -o")
        if path.exists() and not self._force:
            raise UserError(_exists(path))
        return path

    @contextlib.contextmanager
    def writing(self, target: Path) -> Iterator[Path]:
        """Yield a temporary path that becomes `target`, a name from `of`, when the block ends.

        Raises:
            UserError: another process has taken the name since, and it may not be overwritten.
        """
        with atomic_path(target) as temporary:
            yield temporary
            if not (self._force or target == self._named or reserve(target)):
                raise UserError(_exists(target))


def _exists(path: Path) -> str:
    return f"{path} exists: choose another name with -o, or overwrite it with --force"


def fail_on(failures: Sequence[str], n_files: int) -> None:
    """End with an error where some of the files failed, after all others are done."""
    if len(failures) == 1:
        raise UserError(failures[0])
    if failures:
        listed = "; ".join(failures[:5]) + ("; …" if len(failures) > 5 else "")
        raise UserError(f"{len(failures)} of {n_files} failed: {listed}")
