"""The runs of a server: found in runs/ and named at its start, loaded when they are first used."""

import logging
import math
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from seqgen.api.losses import draw_losses
from seqgen.api.model import load
from seqgen.api.places import SHIPPED, SHIPPED_FOLDER, find_model
from seqgen.api.settings import RUNS
from seqgen.checkpoint import FORMAT, RECORD, TOKENIZER, RunFolder, check_no_source
from seqgen.config import TokenizerConfig
from seqgen.errors import UserError
from seqgen.files import read_json, read_record, readable
from seqgen.rendering.figures import save_figure
from seqgen.rendering.theme import DARK, LIGHT
from seqgen.serving.engines import Player
from seqgen.serving.figures import Figures
from seqgen.serving.problems import Limits, Refusal
from seqgen.serving.schemas import Run, RunDetail
from seqgen.serving.settings import instruments_of, parts_of, settings_of
from seqgen.tasks import known_tasks, learned
from seqgen.tokenizers import modality

LOG = logging.getLogger(__name__)
AGAIN = "copy the run again"


class Runs:
    """Runs by a short name, and those of them that are loaded.

    Attributes:
        named: folders of those that were named.
        folder: where others are found.
        figures: of all that are loaded.
    """

    def __init__(self, named: Sequence[str | Path], limits: Limits, *, folder: Path = RUNS) -> None:
        self.named = [find_model(name) for name in named]
        self.folder, self._limits = folder, limits
        self._players: OrderedDict[str, Player] = OrderedDict()
        self._lock = threading.Lock()  # of all that is loaded: one run is loaded at a time
        self.figures = Figures()
        watch = self.figures.watch
        watch(
            "seqgen_streams",
            "Streams that are written; a guided one is two.",
            lambda: self.n_streams,
        )
        watch("seqgen_waiting", "Streams that wait.", lambda: self.n_waiting)
        watch("seqgen_capacity", "Streams that can be written at once.", lambda: self.room)

    @property
    def loaded(self) -> dict[str, Player]:
        """The loaded runs."""
        return dict(self._players)

    @property
    def n_streams(self) -> int:
        """How many streams are written; a guided one counts as two, as it does in `room`."""
        return sum(player.engine.n_taken for player in self.loaded.values())

    @property
    def n_waiting(self) -> int:
        """How many streams wait."""
        return sum(player.engine.n_waiting for player in self.loaded.values())

    @property
    def room(self) -> int:
        """How many streams can be written at once."""
        return sum(player.room for player in self.loaded.values())

    def load_named(self) -> None:
        """Load the runs that were named, as many as stay loaded."""
        named = [name for name, path in self.paths().items() if path in self.named]
        for name in named[: self._limits.max_runs]:
            self.player(name)

    def paths(self) -> dict[str, Path]:
        """Return the folder of each run: those that were named, the newest, the shipped model."""
        found = [path for path in self.folder.glob("*") if _record_of(path) is not None]
        found.sort(key=lambda path: -(_record_of(path) or path).stat().st_mtime)
        paths: dict[str, Path] = {}
        seen = set()
        for path in (*self.named, *found, SHIPPED_FOLDER):
            place = path.resolve()
            if place in seen:
                continue
            seen.add(place)
            first = SHIPPED if path == SHIPPED_FOLDER else readable(place.name)
            name, number = first, 2
            while name in paths:
                name, number = f"{first}-{number}", number + 1
            paths[name] = path
        return paths

    def path(self, run: str) -> Path:
        """Return the folder of a run."""
        path = self.paths().get(run)
        if path is None:
            raise Refusal(404, f"there is no run {run[:80]!r}: /api/runs lists those that are here")
        return path

    def check(self) -> None:
        """Raise UserError where a run that was named cannot be read."""
        for path in self.named:
            self._describe(path.name, path)

    def list(self) -> list[Run]:
        """Describe all runs that can be read, without loading them."""
        runs = []
        for name, path in self.paths().items():
            try:
                runs.append(self._describe(name, path))
            except UserError as error:
                LOG.warning("run %s is left out: %s", name, error)
        return runs

    def detail(self, run: str) -> RunDetail:
        """Describe a run and its settings."""
        path = self.path(run)
        player = self.player(run)
        tokenizer = player.model.tokenizer
        known = self._describe(run, path).model_dump() | {
            "is_loaded": True,
            "n_parameters": sum(p.numel() for p in player.model.model.parameters()),
        }
        return RunDetail(
            **known,
            settings=settings_of(tokenizer),
            parts=parts_of(tokenizer),
            instruments=instruments_of(tokenizer),
            has_losses=RunFolder(path).metrics.is_file(),
            has_report=_report_of(path) is not None,
        )

    def losses(self, run: str, *, dark: bool) -> bytes:
        """Return a picture of the losses of the training."""
        path = self.path(run)
        if not RunFolder(path).metrics.is_file():
            raise Refusal(404, f"run {run} has no losses: it is a model without its training")
        figure = draw_losses(path, DARK if dark else LIGHT, title=run)
        with tempfile.TemporaryDirectory() as folder:
            save_figure(figure, Path(folder) / "losses.png")
            return (Path(folder) / "losses.png").read_bytes()

    def report(self, run: str) -> Path:
        """Return the report of a run."""
        report = _report_of(self.path(run))
        if report is None:
            raise Refusal(404, f"run {run} has no report: `python cli.py evaluate RUN` writes one")
        return report

    def player(self, run: str) -> Player:
        """Return a loaded run; it is loaded now if it was not. At most N stay loaded."""
        path = self.path(run)
        with self._lock:
            if run in self._players:
                self._players.move_to_end(run)
                return self._players[run]
            idle = [name for name, player in self._players.items() if player.is_idle]
            if len(self._players) >= self._limits.max_runs:
                if not idle:
                    raise Refusal(
                        503,
                        f"{len(self._players)} runs are writing, and no more are loaded at once: "
                        f"try again later",
                    )
                self._players.pop(idle[0]).close()
            LOG.info("loading run %s", run)
            model = load(path)
            check_no_source(model.pairs, "the server")
            player = Player(model, self._limits, self.figures)
            self._players[run] = player
            return player

    def close(self) -> None:
        """End everything that is written."""
        with self._lock:
            while self._players:
                self._players.popitem()[1].close()

    def _describe(self, name: str, path: Path) -> Run:
        record_path = _record_of(path)
        if record_path is None:
            raise UserError(f"no trained model in {path}: give the folder of a run")
        record = read_record(record_path, format=FORMAT, way_out=AGAIN)
        saved = read_json(record_path.parent / TOKENIZER / "tokenizer.json", way_out=AGAIN)
        writes = modality(saved["type"])
        can = ["continue"]
        if writes.is_music:
            config = TokenizerConfig.model_validate(saved["config"])
            tasks = known_tasks(config)
            can += ["form"] * bool(config.quotes)
            can += ["controls"] * bool(learned(config)["controls"])
            can += ["rewrite", "vary"] * ("infill" in tasks) + ["add"] * ("accompany" in tasks)
        loss = record.get("loss")
        return Run(
            id=name,
            name=name,
            step=record["step"],
            kind=writes.kind,
            loss_bits=None if loss is None else loss / math.log(2),
            unit="token",
            can=can,
            is_loaded=name in self._players,
        )


def _record_of(path: Path) -> Path | None:
    """Return the record of a run or model folder."""
    records = (path / "model" / RECORD, path / RECORD)
    return next((record for record in records if record.is_file()), None)


def _report_of(path: Path) -> Path | None:
    """Return the report that `evaluate` writes into a run folder."""
    report = path / "evaluation" / "report.html"
    return report if report.is_file() else None
