"""Tokens and songs made for tests."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from seqgen.checkpoint import save_model
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.midi import Instrument, MidiFile, Note, TempoChange, TimeSignature, midi_bytes
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampler, Sampling
from seqgen.tokenizers import build_tokenizer
from seqgen.vocabulary import Vocabulary

TICKS = 480


def random_tokens(vocabulary: Vocabulary, rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Tokens [rows, length, F] without special ids in fields that mean something."""
    rng = np.random.default_rng(seed)
    fields = [rng.integers(3, size, (rows, length)) for size in vocabulary.sizes]
    return torch.from_numpy(vocabulary.fill_unused(np.stack(fields, axis=-1)))


def random_walks(
    vocabulary: Vocabulary, n: int, length: int, logits: Callable[[], list[torch.Tensor]]
) -> list[np.ndarray]:
    """Draw n pieces [T, F] by the grammar and logits [n, N] alone, up to EOS or their length."""
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    sampler = Sampler(vocabulary, n)
    for row in range(n):
        sampler.enter(row, Sampling(), seed=(row,), prompt=bos)
    pieces, rows = [[bos[0]] for _ in range(n)], list(range(n))
    for _ in range(length):
        if not rows:
            break
        sampler.prepare(rows)
        drawn = sampler.draw([field[rows] for field in logits()], torch.tensor(rows)).numpy()
        for row, token in zip(list(rows), drawn, strict=True):
            if token[0] == vocabulary.eos_id:
                rows.remove(row)
            else:
                pieces[row].append(token)
    return [np.stack(piece)[1:] for piece in pieces]


def write_song(path: Path, *, seed: int = 0, bars: int = 8, tempo: float = 100.0) -> Path:
    """Write a small two-track piece: a random melody over broken chords."""
    rng = random.Random(seed)
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.tempo_changes = [TempoChange(tempo, 0)]
    melody, chords = Instrument(0, name="melody"), Instrument(32, name="chords")
    for bar in range(bars):
        root = rng.choice([48, 53, 55, 57])
        for beat in range(4):
            start = (bar * 4 + beat) * TICKS
            pitch = 60 + rng.choice([0, 2, 4, 5, 7, 9, 11, 12])
            melody.notes.append(Note(rng.randint(50, 110), pitch, start, start + TICKS))
            chords.notes.append(Note(70, root + (0, 4, 7, 4)[beat], start, start + TICKS // 2))
    midi.instruments = [melody, chords]
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.dump(str(path))
    return path


def write_songs(folder: Path, n: int, **options) -> Path:
    """Write a folder of small pieces."""
    for i in range(n):
        write_song(folder / f"song-{i:02d}.mid", seed=i, **options)
    return folder


def write_model(folder: Path, *, decay: str = "none", **choices) -> Path:
    """Write a model that has learned nothing: the grammar makes music of what it draws."""
    tokenizer = build_tokenizer(TokenizerConfig(**choices), LimitsConfig())
    config = ModelConfig(d_model=16, n_layers=1, n_heads=2, decay=decay)
    save_model(folder / "model", SequenceModel(config, tokenizer.vocabulary), tokenizer, step=0)
    return folder


def write_band(
    path: Path, *, metre: tuple[int, int] = (4, 4), bars: int = 4, seed: int = 0
) -> Path:
    """Write piano, violin, bass and drums, with triplets, at 87 quarter notes per minute."""
    rng = random.Random(seed)
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.tempo_changes = [TempoChange(87.0, 0)]
    midi.time_signature_changes = [TimeSignature(*metre, 0)]
    beat = 4 * TICKS // metre[1]
    for program, is_drum, pitches, step in (
        (0, False, range(48, 72), beat),
        (40, False, range(60, 84), beat // 3),
        (33, False, range(28, 40), metre[0] * beat),
        (0, True, (36, 38, 42, 22), beat),
    ):
        track = Instrument(program, is_drum=is_drum)
        for start in range(0, bars * metre[0] * beat, step):
            length = min(step, 2 * beat)
            track.notes.append(
                Note(rng.randint(40, 110), rng.choice(pitches), start, start + length)
            )
        midi.instruments.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(midi_bytes(midi))
    return path
