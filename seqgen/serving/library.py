"""All projects of a server, in folders side by side, and project files."""

import io
import logging
import re
import secrets
import shutil
import threading
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError

from seqgen.errors import UserError
from seqgen.files import atomic_folder, read_record, write_record
from seqgen.serving.problems import Refusal, missing
from seqgen.serving.projects import AGAIN, FORMAT, RECORD, Project, Tools, now
from seqgen.serving.schemas import Name, ProjectRequest, ProjectSummary, ShownPiece, Version

LOG = logging.getLogger(__name__)
ID = re.compile(r"[0-9a-f]{16}")
VERSION_ID = re.compile(r"[0-9a-f]{12}")
UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)
NOT_OURS = "this is no project file of seqgen, or a damaged one: save the project again"


class Library:
    """The projects in a folder."""

    def __init__(self, folder: Path, tools: Tools) -> None:
        self._folder, self._tools = folder, tools
        self._open: dict[str, Project] = {}
        self._lock = threading.RLock()

    def list(self) -> list[ProjectSummary]:
        """List all projects, the newest first; those that cannot be read are left out."""
        found = []
        for place in self._folder.glob(f"*/{RECORD}"):
            try:
                found.append(_summary(self._read(place.parent)))
            except UserError as error:
                LOG.warning("a project is left out: %s", error)
        return sorted(found, key=lambda one: one.created, reverse=True)

    def get(self, name: str) -> Project:
        """Return a project; it is opened if it was not."""
        with self._lock:
            if name not in self._open:
                folder = self._folder / name
                if not ID.fullmatch(name) or not (folder / RECORD).is_file():
                    raise missing("project", name)
                self._open[name] = Project(folder, self._read(folder), self._tools)
            return self._open[name]

    def create(self, asked: ProjectRequest) -> Project:
        """Begin a project; its run is loaded."""
        model = self._tools.runs.player(asked.run).model
        if model.tokenizer.clock() is None:
            raise UserError(f"run {asked.run} writes {model.tokenizer.kind}: choose one for music")
        run = {"id": asked.run, "step": model.step, "fingerprint": model.decoder.fingerprint}
        return self._add({"name": asked.name or asked.run, "run": run, "current": None}, {})

    def delete(self, name: str) -> None:
        """Delete a project; what is being written ends."""
        project = self.get(name)
        with self._lock:
            self._open.pop(name, None)
        project.close()
        shutil.rmtree(project.folder, ignore_errors=True)

    def close(self) -> None:
        """End everything that is written."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def pack(self, name: str) -> bytes:
        """Return a project as one file: a zip of its record, tokens, pieces and MIDI files."""
        project = self.get(name)
        project.save()
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(project.folder.iterdir()):
                if path.name == RECORD or VERSION_ID.fullmatch(path.stem):
                    archive.write(path, path.name)
        return file.getvalue()

    def unpack(self, content: bytes) -> Project:
        """Add the project of a file. Nothing in it names a place on this machine."""
        most = self._tools.limits.max_project_bytes
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if sum(info.file_size for info in archive.infolist()) > most:
                    raise Refusal(413, f"the project is larger than {most:,} bytes unpacked")
                files = {info.filename: archive.read(info) for info in archive.infolist()}
        except Refusal:
            raise
        except UNREADABLE as error:
            raise UserError(f"{NOT_OURS} ({error})") from None
        record = _checked_record(files.pop(RECORD, b""))
        n, at_most = len(record["versions"]), self._tools.limits.max_versions
        if n > at_most:
            raise Refusal(413, f"the project has {n} versions, and {at_most} are the most possible")
        kept = {}
        versions = []
        for version in record["versions"]:
            own = {s: files.get(f"{version['id']}{s}") for s in (".json", ".mid")}
            if None in own.values():
                continue  # it was being written, or had failed
            clean = self._tools.gate.read(own[".mid"] or b"", "a version of the project")
            kept[version["id"]] = (_checked_content(own[".json"] or b""), clean.content)
            versions.append(version)
        known: set[str] = set()  # a parent comes before its children
        for version in versions:
            version["parent"] = version["parent"] if version["parent"] in known else None
            known.add(version["id"])
        record["versions"] = versions
        record["current"] = record["current"] if record["current"] in known else None
        return self._add(record, kept)

    def _add(self, record: dict, files: dict[str, tuple[dict, bytes]]) -> Project:
        """Write a new project: its record, and what each version has in JSON and MIDI."""
        with self._lock:
            n = len(list(self._folder.glob(f"*/{RECORD}")))
            if n >= self._tools.limits.max_projects:
                raise Refusal(409, f"there are {n} projects, the most possible: delete some")
            name = secrets.token_hex(8)
            record = {"id": name, "created": now(), "versions": []} | record
            with atomic_folder(self._folder / name) as folder:
                for version, (content, midi) in files.items():
                    write_record(folder / f"{version}.json", content, format=FORMAT)
                    (folder / f"{version}.mid").write_bytes(midi)
                write_record(folder / RECORD, record, format=FORMAT)
            self._open[name] = Project(self._folder / name, record, self._tools)
            return self._open[name]

    def _read(self, folder: Path) -> dict:
        """Read the record of a project."""
        record = read_record(folder / RECORD, format=FORMAT, way_out=AGAIN)
        if record.get("id") != folder.name:
            raise UserError(f"{folder} holds the project {record.get('id')}: {AGAIN}")
        return record


def _summary(record: dict) -> ProjectSummary:
    return ProjectSummary(
        id=record["id"],
        name=record["name"],
        created=record["created"],
        run=record["run"]["id"],
        n_versions=len(record["versions"]),
    )


class _SavedRun(BaseModel):
    id: Name
    step: Annotated[int, Field(ge=0, le=2**53 - 1)]
    fingerprint: Annotated[str, Field(max_length=64)]


class _Saved(BaseModel):
    """What a project file says of its project; whatever else it may hold is left out."""

    name: Name
    run: _SavedRun
    current: str | None
    versions: list[Version]


_Token = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


class _SavedContent(BaseModel):
    """Tokens and piece of a version. Whether a model has these tokens is checked later."""

    ids: Annotated[list[_Token], Field(min_length=1)]
    tokenizer: Annotated[str, Field(max_length=64)]
    piece: ShownPiece


def _checked_record(content: bytes) -> dict:
    """Return what a project file says of its project."""
    saved = _validated(_Saved, content)
    names = [version.id for version in saved.versions]
    if len(set(names)) < len(names) or not all(map(VERSION_ID.fullmatch, names)):
        raise UserError(f"{NOT_OURS} (its versions have other names)")
    return saved.model_dump()


def _checked_content(content: bytes) -> dict:
    """Return tokens and piece of a version."""
    saved = _validated(_SavedContent, content)
    piece, bars = saved.piece, saved.piece.bars
    if any(note.track >= len(piece.tracks) for note in piece.notes):
        raise UserError(f"{NOT_OURS} (a note is in no track)")
    if any(len(token) != len(saved.ids[0]) for token in saved.ids):
        raise UserError(f"{NOT_OURS} (its tokens are no tokens)")
    if not piece.tempos or bars[:1] != [0] or any(a >= b for a, b in pairwise(bars)):
        raise UserError(f"{NOT_OURS} (its bars or tempos are none)")
    return saved.model_dump()


Record = TypeVar("Record", bound=BaseModel)


def _validated(kind: type[Record], content: bytes) -> Record:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{NOT_OURS} ({place[:80]}: {first['msg'][:200]})") from None
