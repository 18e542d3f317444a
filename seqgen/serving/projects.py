"""Projects: a tree of versions of one piece, kept in a folder of its own, written as it changes."""

import asyncio
import secrets
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from seqgen.api.model import Model
from seqgen.api.prompts import music_of, read_prompts
from seqgen.decoding.prompts import checked_tokens
from seqgen.errors import FileRejected, UserError
from seqgen.files import read_record, readable, write_bytes, write_record
from seqgen.midi import MidiFile, midi_bytes, open_midi
from seqgen.serving.best_of import BestOf, Chosen
from seqgen.serving.drafts import Draft, Written, begin_all
from seqgen.serving.engines import Player
from seqgen.serving.events import Hub, Queue, event
from seqgen.serving.music import (
    DEFAULT_TEMPO,
    EMPTY,
    NOTHING,
    Kept,
    difference,
    edited,
    file_of,
    piece_of,
    told_otherwise,
)
from seqgen.serving.plans import Parent, picking_of, plan_versions
from seqgen.serving.problems import Limits, Refusal, missing, sentence_of
from seqgen.serving.runs import Runs
from seqgen.serving.schemas import (
    DrawnRequest,
    Gone,
    Music,
    NotesRequest,
    ProjectChange,
    ProjectDetail,
    ProjectRun,
    ProjectState,
    Report,
    ShownPiece,
    Surprise,
    Version,
    VersionRequest,
    WholeVersion,
)
from seqgen.serving.surprise import surprise_of
from seqgen.serving.uploads import Gate

FORMAT = 1  # of projects; increase it when older ones can no longer be read
RECORD = "project.json"
AGAIN = "copy the project again, or delete its folder"
STOPPED = "the server stopped while this was written: ask for it again"


@dataclass(frozen=True)
class Tools:
    """What projects work with.

    Attributes:
        runs: the models.
        limits: what one server does at most.
        gate: reads uploads.
        scribes: threads that make music of tokens.
    """

    runs: Runs
    limits: Limits
    gate: Gate
    scribes: Executor


@dataclass(frozen=True)
class Content:
    """What a version holds beside its file: tokens [T, F] of a tokenizer, and the piece."""

    ids: np.ndarray
    tokenizer: str  # fingerprint
    piece: ShownPiece


class Project:
    """One project.

    Attributes:
        hub: tells what changes.
    """

    def __init__(self, folder: Path, record: dict, tools: Tools) -> None:
        """Take a project whose record was read, or is new."""
        self.folder, self._tools, self.hub = folder, tools, Hub()
        self._lock = threading.RLock()
        self._record = {key: value for key, value in record.items() if key != "versions"}
        self._versions = {v["id"]: Version.model_validate(v) for v in record["versions"]}
        self._drafts: dict[str, Draft | Chosen] = {}
        self._shown: dict[str, ShownPiece] = {}  # of versions that are being written
        for version in list(self._versions.values()):
            if version.status == "writing":
                changes = {"status": "cancelled", "message": STOPPED}
                self._versions[version.id] = version.model_copy(update=changes)

    @property
    def id(self) -> str:
        """What it is called in addresses."""
        return self._record["id"]

    @property
    def name(self) -> str:
        """What people call it."""
        return self._record["name"]

    def describe(self) -> ProjectDetail:
        """Return it with its tree."""
        run = self._run()
        with self._lock:
            return ProjectDetail(
                id=self.id,
                name=self.name,
                created=self._record["created"],
                run=run,
                current=self._record["current"],
                versions=list(self._versions.values()),
            )

    def change(self, asked: ProjectChange) -> "Project":
        """Rename it, or choose its current version."""
        with self._lock:
            if asked.current is not None:
                self._version(asked.current)
                self._record["current"] = asked.current
            if asked.name is not None:
                self._record["name"] = asked.name
            self.save()
            self._tell_state()
        return self

    def write(self, asked: VersionRequest) -> list[Version]:
        """Let new versions be written."""
        player = self._player()
        parent = None if asked.parent is None else self._parent(asked.parent, player.model)
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        plans = plan_versions(player.model, asked, parent, seed, self._tools.limits)
        picking = picking_of(asked)
        is_choice = picking.n < picking.of
        self._check_room(picking.n)
        versions = [
            self._new(
                parent=asked.parent,
                label=_label(asked, number),
                request=asked,
                seed=seed,
                from_bar=plan.from_bar,
                status="writing",
                message=f"{picking.of} are drawn, to keep the best" if is_choice else None,
            )
            for number, plan in enumerate(plans[: picking.n])
        ]
        names, scribes = [version.id for version in versions], self._tools.scribes
        kept: list[Draft | Chosen]
        if is_choice:
            before = None if parent is None else parent.piece
            tell = partial(self._say, names)
            choice = BestOf(picking, player, plans, scribes, before=before, tell=tell)
            drafts, kept = choice.drafts, [*choice.kept]
        else:
            drafts = [
                Draft(player, plan, scribes, tell=partial(self._show, name))
                for name, plan in zip(names, plans, strict=True)
            ]
            kept = [*drafts]
        with self._lock:
            for version, one in zip(versions, kept, strict=True):
                self._versions[version.id], self._drafts[version.id] = version, one
                one.written.add_done_callback(partial(self._finish, version.id, player.model))
                self.hub.publish("version", version)
        try:
            if parent is not None:
                beginning = drafts[0].so_far()  # all that can be shown at first
                for name in names:
                    self._show(name, beginning)
            begin_all(drafts)
        except Exception:
            for version in versions:
                self.drop(version.id)
            raise
        self.save()
        return versions

    def upload(self, content: bytes, name: str, bars: int | None) -> Version:
        """Add a file as a version, or its first bars."""
        called = "".join(c for c in readable(name)[:80] if c.isprintable()) or "the file"
        clean = self._tools.gate.read(content, called)
        model = self._player().model
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "upload.mid"
            path.write_bytes(clean.content)
            try:
                [prompt] = read_prompts([str(path)], model.tokenizer, bars=bars)
                midi = model.tokenizer.played(
                    prompt.ids, tempo=prompt.tempo, original=prompt.original
                )
            except UserError as error:
                sentence = str(error).replace(str(path), called)
                sentence = sentence.replace("use --prompt-bars", "bring only its first bars")
                raise UserError(sentence) from None
        sentences = [
            f"{called}: {prompt.about}.",
            *(f"Repaired: {what} ({n:,})." for what, n in clean.repairs.items()),
            *(f"Left out: {what} ({n:,})." for what, n in clean.left_out.items()),
            *(f"The model does not see: {what}." for what in prompt.left_out),
        ]
        piece = piece_of(midi, model.tokenizer, new="prompt")
        ids = music_of(prompt.ids, model.tokenizer)
        report = Report(sentences=sentences)
        version = self._new(label=called, origin="upload", report=report, status="done")
        return self._add(version, ids, model, piece, midi_bytes(midi))

    def edit(self, name: str, asked: NotesRequest) -> Version:
        """Add a version with notes that were edited by hand."""
        before = self._content(name).piece
        tracks = before.tracks if asked.tracks is None else asked.tracks
        midi = edited(open_midi(self.midi(name)), before, asked.notes, tracks)
        return self._take(midi, "edited", kept=Kept.of(before), parent=name)

    def draw(self, asked: DrawnRequest) -> Version:
        """Add a first version of notes that were drawn by hand."""
        tempo, metre = asked.tempo or DEFAULT_TEMPO, asked.metre or "4/4"
        midi = file_of(asked.notes, asked.tracks, tempo=tempo, metre=metre)
        return self._take(midi, "drawn")

    def _take(
        self, midi: MidiFile, label: str, *, kept: Kept = NOTHING, parent: str | None = None
    ) -> Version:
        """Add music made by hand."""
        model, content = self._player().model, midi_bytes(midi)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "piece.mid"
            path.write_bytes(content)
            ids = _encode(path, model)
        told = told_otherwise(midi, model.tokenizer.config.part_names or [])
        sentences = [f"For the model: {what}." for what in told]
        report = Report(sentences=sentences) if sentences else None
        piece = piece_of(midi, model.tokenizer, kept=kept, new="prompt")
        version = self._new(parent=parent, label=label, origin="edit", status="done", report=report)
        return self._add(version, ids, model, piece, content)

    def whole(self, name: str) -> WholeVersion:
        """Return a version with its piece: so far, if it is being written."""
        version = self._version(name)
        with self._lock:
            shown = self._shown.get(name)
        has_file = version.status != "writing" and self._path(name, ".json").exists()
        piece = self._content(name).piece if has_file else shown or EMPTY
        return WholeVersion(**version.model_dump(), piece=piece)

    def midi(self, name: str) -> bytes:
        """Return the file of a version."""
        version = self._version(name)
        path = self._path(name, ".mid")
        if not path.exists():
            raise Refusal(
                409, f"version {name} has no file ({version.status}): wait, or write again"
            )
        return path.read_bytes()

    def surprise(self, name: str) -> Surprise:
        """Say how surprising each note of a version was to the model."""
        self.midi(name)
        model = self._player().model
        parent = self._parent(name, model)
        return surprise_of(model, parent.ids, parent.piece)

    def drop(self, name: str) -> None:
        """Delete a version, and all that were made from it."""
        with self._lock:
            self._version(name)
            doomed = [name]
            for one in doomed:
                doomed += [v.id for v in self._versions.values() if v.parent == one]
            for one in doomed:
                draft = self._drafts.pop(one, None)
                if draft is not None:
                    draft.cancel()
                for suffix in (".mid", ".json"):
                    self._path(one, suffix).unlink(missing_ok=True)
                del self._versions[one]
                self._shown.pop(one, None)
                self.hub.publish("gone", Gone(id=one))
            if self._record["current"] in doomed:
                self._record["current"] = next(reversed(self._versions), None)
            self.save()

    def join(self, loop: asyncio.AbstractEventLoop) -> tuple[Queue, list[str]]:
        """Begin to listen, in a loop; also return events of all that is being written."""
        with self._lock:
            queue, events = self.hub.join(loop), []
            for name in self._drafts:
                events.append(event("version", self._versions[name]))
                if name in self._shown:
                    events.append(event("music", music_event(name, None, self._shown[name])))
            return queue, events

    def save(self) -> None:
        """Write the record."""
        with self._lock:
            if self.folder.is_dir():
                versions = [version.model_dump() for version in self._versions.values()]
                record = {**self._record, "versions": versions}
                write_record(self.folder / RECORD, record, format=FORMAT)

    def close(self) -> None:
        """End everything that is written, and wait until it is kept."""
        with self._lock:
            drafts = list(self._drafts.values())
        for draft in drafts:
            draft.cancel()
        for draft in drafts:
            draft.written.exception()  # waits
        self.hub.close()

    def _tell_state(self) -> None:
        state = ProjectState(id=self.id, name=self.name, current=self._record["current"])
        self.hub.publish("project", state)

    def _run(self) -> ProjectRun:
        """Say with which run it was made, and whether that is here."""
        made = self._record["run"]
        run = ProjectRun(
            id=made["id"], name=made["id"], step=made["step"], matches=True, message=None
        )
        try:
            found = self._player().model.decoder.fingerprint
        except UserError as error:
            return run.model_copy(update={"matches": False, "message": str(error)})
        if found == made["fingerprint"]:
            return run
        message = (
            f"the versions were made with another model than run {made['id']} is here: they can be "
            f"heard and gone on from, and what is written now is this model's"
        )
        return run.model_copy(update={"matches": False, "message": message})

    def _player(self) -> Player:
        return self._tools.runs.player(self._record["run"]["id"])

    def _version(self, name: str) -> Version:
        with self._lock:
            version = self._versions.get(name)
        if version is None:
            raise missing("version", name)
        return version

    def _path(self, name: str, suffix: str) -> Path:
        """Return a file of a version, which is one of this project."""
        return self.folder / f"{self._version(name).id}{suffix}"

    def _content(self, name: str) -> Content:
        path = self._path(name, ".json")
        record = read_record(path, format=FORMAT, way_out=AGAIN)
        ids = np.array(record["ids"], dtype=np.int64)
        return Content(ids, record["tokenizer"], ShownPiece.model_validate(record["piece"]))

    def _parent(self, name: str, model: Model) -> Parent:
        """Return a version to go on from, in tokens of a model."""
        self.midi(name)  # or there is none to go on from
        known = self._content(name)
        ids = known.ids
        if known.tokenizer != model.tokenizer.fingerprint():
            ids = _encode(self._path(name, ".mid"), model)
        else:
            ids = checked_tokens(
                ids.reshape(-1, len(model.tokenizer.vocabulary.fields)),
                model.tokenizer.vocabulary,
                name="a version",
            )
        return Parent(ids, known.piece, self._path(name, ".mid"))

    def _check_room(self, n: int) -> None:
        most = self._tools.limits.max_versions
        if len(self._versions) + n > most:
            raise Refusal(
                409, f"project {self.name} has {most} versions, the most possible: delete some"
            )

    def _new(self, **facts: object) -> Version:
        """Return a new version that has nothing yet."""
        empty: dict[str, object] = {
            "id": secrets.token_hex(6),
            "parent": None,
            "created": now(),
            "origin": "request",
            "request": None,
            "seed": None,
            "from_bar": None,
            "log_likelihood_bits": None,
            "bits_per_note": None,
            "findings": [],
            "message": None,
            "report": None,
            "n_bars": 0,
            "n_notes": 0,
        }
        return Version.model_validate(empty | facts)

    def _add(
        self, version: Version, ids: np.ndarray, model: Model, piece: ShownPiece, content: bytes
    ) -> Version:
        """Add a version that is there in whole."""
        self._check_room(1)
        version = version.model_copy(update=_counts(piece))
        with self._lock:
            self._versions[version.id] = version
            self._keep(version.id, ids, model, piece, content)
            self._record["current"] = version.id
            self.save()
            self.hub.publish("version", version)
            self._tell_state()
        return version

    def _keep(
        self, name: str, ids: np.ndarray, model: Model, piece: ShownPiece, content: bytes
    ) -> None:
        """Write the files of a version."""
        record = {
            "ids": ids.tolist(),
            "tokenizer": model.tokenizer.fingerprint(),
            "piece": piece.model_dump(),
        }
        write_bytes(self._path(name, ".mid"), content)
        write_record(self._path(name, ".json"), record, format=FORMAT)

    def _show(self, name: str, piece: ShownPiece) -> None:
        """Tell the music of a version that is being written."""
        with self._lock:
            if name not in self._drafts:
                return
            before = self._shown.get(name)
            self._shown[name] = piece
            version = self._versions[name].model_copy(update=_counts(piece))
            self._versions[name] = version
            if before != piece:
                self.hub.publish("music", music_event(name, before, piece))

    def _say(self, names: Sequence[str], sentence: str) -> None:
        """Tell how far versions are of which nothing can be shown yet."""
        with self._lock:
            for name in names:
                if name in self._drafts:
                    version = self._versions[name].model_copy(update={"message": sentence})
                    self._versions[name] = version
                    self.hub.publish("version", version)

    def _finish(self, name: str, model: Model, written: "Future[Written]") -> None:
        """Keep what was written, or say why there is nothing."""
        with self._lock:
            if name not in self._drafts:  # it was deleted
                return
            version, draft = self._versions[name], self._drafts.pop(name)
            error = written.exception()
            if error is not None:
                status = "cancelled" if draft.is_cancelled else "failed"
                changes: dict[str, object] = {"status": status, "message": sentence_of(error)}
            else:
                result = written.result()
                self._keep(name, result.ids, model, result.piece, result.midi)
                before = self._shown.get(name)
                self.hub.publish("music", music_event(name, before, result.piece))
                changes = {
                    "status": result.status,
                    "message": result.message,
                    "findings": result.findings,
                    **_likelihood(result),
                    **_counts(result.piece),
                }
            version = version.model_copy(update=changes)
            self._versions[name] = version
            self._shown.pop(name, None)
            self.save()
            self.hub.publish("version", version)


def _encode(path: Path, model: Model) -> np.ndarray:
    """Return a file in tokens [T, F] of a model."""
    try:
        return model.tokenizer.encode(path)
    except FileRejected as rejected:
        raise UserError(f"the model cannot read the piece: {rejected.reason}") from None


def _counts(piece: ShownPiece) -> dict[str, object]:
    return {"n_bars": len(piece.bars) - 1, "n_notes": len(piece.notes)}


def _likelihood(result: Written) -> dict[str, object]:
    bits = result.log_likelihood
    n = sum(note.kind == "written" for note in result.piece.notes)
    return {
        "log_likelihood_bits": bits,
        "bits_per_note": None if bits is None or not n else -bits / n,
    }


def music_event(name: str, before: ShownPiece | None, piece: ShownPiece) -> Music:
    """Return how a piece differs from what was told of it before."""
    same = before is not None and before.tracks == piece.tracks
    first = difference(before.notes, piece.notes) if before is not None and same else 0
    facts = {key: value for key, value in vars(piece).items() if key != "notes"}
    return Music(id=name, from_note=first, notes=piece.notes[first:], **facts)


def _label(asked: VersionRequest, number: int) -> str:
    where = f" bars {asked.rewrite}" if asked.task in ("rewrite", "vary") else ""
    where = f" {', '.join(asked.add)}" if asked.task == "add" else where
    where = f" {asked.form}" if asked.form else where
    return f"{asked.task}{where}" + (f" ({number + 1})" if asked.samples > 1 else "")


def now() -> str:
    """Return the present time as text."""
    return datetime.now(UTC).isoformat(timespec="seconds")
