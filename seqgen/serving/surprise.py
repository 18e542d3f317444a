"""How surprising each note of a piece was to the model, and what else it considered there.

Legend: T positions, F fields, N vocabulary.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import log

import numpy as np
import torch

from seqgen.api.model import Model
from seqgen.errors import UserError
from seqgen.evaluation.likelihood import PASS, score_piece
from seqgen.midi import program_name
from seqgen.serving.schemas import Alternative, NoteSurprise, ShownPiece, Surprise
from seqgen.tasks.harmony import NAMES
from seqgen.tokenizers import ToldNote
from seqgen.tokenizers.midi.parts import Part

N_ALTERNATIVES = 5
CLOSE = 0.5  # of a quarter note: how far a note of a file may lie from where its token has it


def surprise_of(model: Model, ids: np.ndarray, piece: ShownPiece) -> Surprise:
    """Return the surprise of the notes of a piece, whose tokens are ids [T, F].

    A note's bits are those of all tokens that tell it: its place, pitch, loudness and length. Notes
    that no token tells are left out. The alternatives are those of its pitch.

    Raises:
        UserError: the tokens do not say which note each of them tells.
    """
    tokenizer = model.tokenizer
    told = tokenizer.told_notes(ids)
    if told is None:
        raise UserError(f"surprise is not known for tokens of type {tokenizer.config.type}")
    vocabulary = tokenizer.vocabulary
    whole = np.concatenate([vocabulary.special_token(vocabulary.bos_id)[None], ids])
    limit = model.model.positions.limit
    whole = whole if limit is None else whole[: limit + 1]
    bits = score_piece(model.model, whole).sum(axis=1) / log(2)  # [T], of each of `ids`
    likely = _most_likely(model, whole)
    names = [tokenizer.names(field) for field in range(len(vocabulary.fields))]
    found = []
    for index, note in _matched(piece, told).items():
        if note.tokens[-1] >= len(bits):
            continue
        best, chances = likely[note.field]
        alternatives = [
            Alternative(label=label_of(names[note.field][i]), probability=round(float(p), 4))
            for i, p in zip(best[note.at], chances[note.at], strict=True)
        ]
        total = round(float(bits[list(note.tokens)].sum()), 3)
        found.append(NoteSurprise(note=index, bits=total, alternatives=alternatives))
    return Surprise(notes=sorted(found, key=lambda one: one.note))


def label_of(name: str) -> str:
    """Say what a token means in a few words: "C4", "position 8", "next bar"."""
    words = []
    for plain in name.split("+"):
        kind, _, value = plain.partition("_")
        if kind == "Pitch":
            words.append(f"{NAMES[int(value) % 12]}{int(value) // 12 - 1}")
        elif kind == "PitchDrum":
            words.append(f"drum {value}")
        elif kind == "Bar":
            words.append("next bar")
        elif kind == "Part":
            part = Part.named(value)
            label = f" {part.label}" if part.label else ""
            words.append(program_name(part.program, is_drum=part.is_drum) + label)
        elif kind == "EOS":
            words.append("the end")
        elif kind == "Quote":
            words.append(f"as {value} bars before")
        else:
            words.append(f"{kind.lower()} {value}".strip())
    return " ".join(words)


@torch.no_grad()
def _most_likely(model: Model, ids: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the most likely ids of each field of each next token, and their probabilities [T, 5].

    Those of a field are given the fields of the token before it.
    """
    device = next(model.model.parameters()).device
    tokens = torch.from_numpy(ids).to(device)[None]
    best: list[list[np.ndarray]] = [[] for _ in range(ids.shape[1])]  # by field, pass by pass
    chances: list[list[np.ndarray]] = [[] for _ in best]
    state = None
    for start in range(0, len(ids) - 1, PASS):
        part = tokens[:, start : start + PASS + 1]
        hidden, state = model.model.run(part[:, :-1], state=state, keep_state=True)
        for field, logits in enumerate(model.model.lm_head(hidden, part[:, 1:])):
            n = min(N_ALTERNATIVES, logits.shape[-1])
            values, places = logits[0].float().softmax(-1).topk(n, dim=-1)
            best[field].append(places.cpu().numpy())
            chances[field].append(values.cpu().numpy())
    return [(np.concatenate(a), np.concatenate(b)) for a, b in zip(best, chances, strict=True)]


def _matched(piece: ShownPiece, told: Sequence[ToldNote]) -> dict[int, ToldNote]:
    """Find the tokens of each note of a piece: those of the nearest told note of its pitch."""
    free: dict[int, list[ToldNote]] = defaultdict(list)
    for note in told:
        free[note.pitch].append(note)
    found = {}
    for index, played in enumerate(piece.notes):
        near = free[played.pitch]
        if near:
            nearest = min(near, key=lambda note: abs(note.start - played.start))
            if abs(nearest.start - played.start) <= CLOSE:
                near.remove(nearest)
                found[index] = nearest
    return found
