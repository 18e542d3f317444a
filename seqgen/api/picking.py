"""Alternatives: of several continuations of one prompt, those that are wanted.

Legend: T positions, F fields.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqgen.api.prompts import Prompt
from seqgen.api.requests import Asked, Check
from seqgen.decoding import Continuation
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.likelihood import nats_of
from seqgen.midi import ANY_SIZE, open_midi
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks.asking import asks
from seqgen.tasks.controls import MEASURED_BARS
from seqgen.tokenizers import Edit, Tokenizer

ASKED, LIKELIEST, MOST_DIFFERENT = PICKS = ("asked", "likeliest", "most-different")
DRAWN_WHERE_ASKED = 4  # alternatives for each sample, where something is asked of whole pieces
Notes = frozenset[tuple[int, float, int]]  # track, quarter notes from the beginning, pitch


@dataclass(frozen=True)
class Drawn:
    """The measures by which an alternative is chosen; those that are not used are left out.

    Attributes:
        met: the share of what is asked for that it meets.
        nats: how unlikely it is, for each of its notes.
        notes: of the whole piece.
    """

    met: float = 0.0
    nats: float = 0.0
    notes: Notes = frozenset()


@dataclass(frozen=True)
class Picking:
    """Which of the alternatives are kept.

    Attributes:
        how: "asked": those that meet most of what is asked for, and of equal ones the likeliest.
            "likeliest": those with the fewest nats for each note. "most-different": those that
            share the fewest notes with each other and with the file that is changed.
        n: how many are kept of each prompt.
        of: from so many.
    """

    how: str
    n: int
    of: int

    def __post_init__(self) -> None:
        if self.how not in PICKS:
            raise UserError(f"pick {self.how!r}: must be one of {', '.join(PICKS)}")
        if not 1 <= self.n <= self.of:
            raise UserError(
                f"{self.n} samples of {self.of} alternatives: draw as many alternatives or more"
            )

    @classmethod
    def choose(
        cls, how: str | None, n: int, of: int | None, asked: Asked, *, tries: int | None = None
    ) -> "Picking":
        """Return a picking with what is not said decided by what is asked for.

        Where something is asked of whole pieces, such as a key, or `how` is said too, four
        alternatives are drawn for each sample; where only bars have chords or densities of their
        own, each sample is drawn once, since its bars have several tries. The best are those that
        meet most of what is asked; where nothing is, the likeliest.

        Raises:
            UserError: the choice is impossible.
        """
        is_asked = asks(asked)
        if how == ASKED and not is_asked:
            raise UserError("pick asked: nothing is asked for; give a key or another control")
        if of is None:
            settled = () if tries == 1 else MEASURED_BARS
            others = {name: text for name, text in asked.items() if name not in settled}
            of = n * DRAWN_WHERE_ASKED if asks(others) or (is_asked and how is not None) else n
        return cls(how or (ASKED if is_asked else LIKELIEST), n, of)

    def choose_from(self, drawn: Sequence[Drawn], known: Sequence[Notes] = ()) -> list[int]:
        """Return which of the alternatives of one prompt are kept, the first choice first.

        `known`: of the file that is changed, if there is one.
        """
        if self.how == MOST_DIFFERENT:
            return furthest([one.notes for one in drawn], known, self.n)
        ranks = [(-one.met if self.how == ASKED else 0.0, one.nats) for one in drawn]
        return sorted(range(len(drawn)), key=ranks.__getitem__)[: self.n]

    def pick(
        self,
        found: Sequence[Continuation],
        *,
        model: SequenceModel,
        tokenizer: Tokenizer,
        prompts: Sequence[Prompt],
        given: Sequence[np.ndarray],
        check: Check,
    ) -> list[Continuation]:
        """Return what is kept, in the order of the prompts, the first choice first.

        Args:
            found: `of` rows for each prompt, in any order; some may be missing.
            model: that drew them.
            tokenizer: of the model.
            prompts: what the file of each row begins with.
            given: the tokens [T, F] that the model was given first, by row.
            check: measures a written file.

        Raises:
            UserError: notes are compared, and the model does not write music.
        """
        if self.how == MOST_DIFFERENT and not tokenizer.is_music:
            raise UserError(
                f"most-different compares notes, and this run writes {tokenizer.kind}: likeliest"
            )
        kept = []
        for begin in range(0, len(prompts), self.of):
            original = prompts[begin].original
            group = [one for one in found if begin <= one.row < begin + self.of]
            if isinstance(original, Edit):  # whose bars have to be whole
                group = [one for one in group if one.end == "eos"] or group
            drawn: list[Drawn] = []
            known: list[Notes] = []
            if self.how == MOST_DIFFERENT and isinstance(original, Edit):
                known.append(file_notes(original.path))
            for one in group:
                prompt = prompts[one.row]
                if self.how == MOST_DIFFERENT:
                    drawn.append(Drawn(notes=notes_of(tokenizer, prompt, one.tokens)))
                    continue
                nats = nats_per_unit(model, tokenizer, given[one.row], one.tokens)
                is_asked = self.how == ASKED
                met = share_met(tokenizer, prompt, one, check) if is_asked else 0.0
                drawn.append(Drawn(met=met, nats=nats))
            kept += [group[i] for i in self.choose_from(drawn, known)]
        return kept


def nats_per_unit(
    model: SequenceModel, tokenizer: Tokenizer, given: np.ndarray, tokens: np.ndarray
) -> float:
    """Return how unlikely tokens [T, F] after those given are, for each note or byte of theirs.

    Tokens that are never drawn, such as marks, cost nothing.
    """
    nats = nats_of(model, np.concatenate([given, tokens]))[-len(tokens) :]
    grammar = tokenizer.vocabulary.grammar
    if grammar is not None:
        nats = nats * np.any(grammar.table[:, tokens[:, 0]], axis=0)
    return float(nats.sum()) / max(tokenizer.units(tokens), 1)


def furthest(notes: Sequence[Notes], known: Sequence[Notes], n: int) -> list[int]:
    """Return n of several pieces, each as far as can be from those before it and the known ones.

    The distance of two pieces is the share of their notes that only one of them has. Where nothing
    is known, the first is the one that is furthest from all others on average.
    """
    chosen: list[int] = []
    while len(chosen) < min(n, len(notes)):
        near = [*known, *(notes[i] for i in chosen)]
        rest = [i for i in range(len(notes)) if i not in chosen]
        far = {
            i: min((_distance(notes[i], one) for one in near), default=0.0)
            if near
            else sum(_distance(notes[i], one) for one in notes)
            for i in rest
        }
        chosen.append(max(rest, key=far.__getitem__))
    return chosen


def share_met(tokenizer: Tokenizer, prompt: Prompt, drawn: Continuation, check: Check) -> float:
    """Return the share of what is asked of a continuation that is met, each thing alike."""
    try:
        with _written(tokenizer, prompt, drawn.tokens) as path:
            findings = check(path, drawn.row)
    except FileRejected:  # it holds no note, and so nothing of what is asked
        return 0.0
    return float(np.mean([finding.met for finding in findings]))


def notes_of(tokenizer: Tokenizer, prompt: Prompt, tokens: np.ndarray) -> Notes:
    """Return the notes of a prompt and tokens [T, F] behind it; none where they make no file."""
    try:
        with _written(tokenizer, prompt, tokens) as path:
            return file_notes(path)
    except FileRejected:
        return frozenset()


@contextmanager
def _written(tokenizer: Tokenizer, prompt: Prompt, tokens: np.ndarray) -> Iterator[Path]:
    """Write a prompt and tokens [T, F] behind it to a file for a while; FileRejected."""
    ids = np.concatenate([prompt.ids, tokens])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alternative.mid"
        tokenizer.decode(ids, path, tempo=prompt.tempo, original=prompt.original)
        yield path


def file_notes(path: Path) -> Notes:
    """Return the notes of a file."""
    midi = open_midi(path, ANY_SIZE)
    return frozenset(
        (k, note.start / midi.ticks_per_beat, note.pitch)
        for k, track in enumerate(midi.instruments)
        for note in track.notes
    )


def _distance(a: Notes, b: Notes) -> float:
    return len(a ^ b) / max(len(a | b), 1)
