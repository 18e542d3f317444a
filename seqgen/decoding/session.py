"""Sessions: the complete state of a stream, as a value and as one small file.

Legend: L layers, H heads, F fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.guided import Guide
from seqgen.errors import UserError
from seqgen.files import write_bytes
from seqgen.model.state import State
from seqgen.sampling import SamplerState, Sampling
from seqgen.vocabulary import ANY, NEVER

FORMAT = 5
READABLE = (4, FORMAT)  # 4 is without guidance
RECORD, CHECKSUM = "session", "sha256"  # keys of the file's metadata
GROUPED = ("attention", "source")  # fields of a state that are several tensors
SAMPLER = "sampler."  # what names of the sampler's tensors begin with
GUIDE = "guide."  # and those of the second stream's state


@dataclass(frozen=True)
class Session:
    """What a stream was between two steps. It is never changed: streams continue from copies.

    Attributes:
        state: of one row, on the CPU.
        pending: the token [F] that is taken next; the state does not hold it yet.
        sampler: settings, random series and history of the draws.
        fingerprint: of the model (`Decoder.fingerprint`).
        decay_after: position from which its sums decay; None: they never do.
        guide: the second stream of a guided one; None: it is not guided.
    """

    state: State
    pending: np.ndarray
    sampler: SamplerState
    fingerprint: str
    decay_after: int | None = None
    guide: Guide | None = None

    @staticmethod
    def first(
        decoder: Decoder,
        state: State,
        prompt: np.ndarray,
        *,
        sampling: Sampling,
        seed: Sequence[int],
    ) -> Session:
        """Return the session of a stream before its first draw.

        Args:
            decoder: of the model.
            state: of one row, on the CPU, after all tokens of the prompt but the last.
            prompt: ids [T, F], T ≥ 1.
            sampling: settings of the draws.
            seed: of the draws; row r of `generate` with seed s has (s, r).
        """
        return Session(
            state=state,
            pending=prompt[-1],
            sampler=SamplerState.first(decoder.vocabulary, sampling, seed=seed, prompt=prompt),
            fingerprint=decoder.fingerprint,
            decay_after=decoder.decay_after,
        )

    @property
    def position(self) -> int:
        """Index of the pending token: how many tokens came before it."""
        return int(self.state.position[0])

    @property
    def n_drawn(self) -> int:
        """How many tokens have been drawn, from the beginning of the stream on."""
        return self.sampler.drawn

    def check(self, decoder: Decoder) -> None:
        """Raise UserError where a decoder cannot continue it exactly."""
        if self.fingerprint != decoder.fingerprint:
            raise UserError("a session of another model: load the model that it was made with")
        if self.decay_after != decoder.decay_after:
            made, has = (
                "never decay" if w is None else f"decay after {w} positions"
                for w in (self.decay_after, decoder.decay_after)
            )
            raise UserError(
                f"the sums of the session {made}, those of this decoder {has}: build the decoder "
                f"with decay_after={self.decay_after}"
            )

    def fork(self, n: int) -> list[Session]:
        """Return n copies that share nothing, and draw from random series of their own.

        Copy i of a stream with seed s, at its draw d, has the seed (*s, d, i): every fork of a
        stream, and every fork of those, draws anew, and the same one again draws the same.
        """
        if n < 1:
            raise UserError(f"cannot make {n} forks of a session: must be 1 or more")
        return [self.child(i) for i in range(n)]

    def child(self, i: int) -> Session:
        """Return copy i of `fork`."""
        return self.reseeded((*self.sampler.seed, self.n_drawn, i))

    def reseeded(self, seed: tuple[int, ...]) -> Session:
        """Return a copy that shares nothing, and draws from the random series of a seed."""
        tensors: dict[str, Any] = {
            f: x.clone() for f, x in vars(self.sampler).items() if isinstance(x, Tensor)
        }
        sampler = replace(self.sampler, seed=seed, **tensors)
        guide = self.guide
        if guide is not None:
            guide = replace(guide, state=guide.state.clone(), pending=guide.pending.copy())
        return replace(
            self,
            state=self.state.clone(),
            pending=self.pending.copy(),
            sampler=sampler,
            guide=guide,
        )

    def save(self, path: Path | str) -> None:
        """Write a safetensors file atomically: on failure, an older file is kept."""
        tensors, plain = self._tensors(), {}
        for name, value in vars(self.sampler).items():
            if not isinstance(value, Tensor):
                plain[name] = asdict(value) if isinstance(value, Sampling) else value
        guide = None
        if self.guide is not None:
            guide = {"pending": self.guide.pending.tolist(), "scale": self.guide.scale}
        record = json.dumps(
            {
                "format": FORMAT,
                "fingerprint": self.fingerprint,
                "decay_after": self.decay_after,
                "pending": self.pending.tolist(),
                "sampler": plain,
                "guide": guide,
            }
        )
        metadata = {RECORD: record, CHECKSUM: _checksum(record, tensors)}
        write_bytes(Path(path), save_safetensors(tensors, metadata))

    @staticmethod
    def load(path: Path | str, decoder: Decoder) -> Session:
        """Read what `save` wrote, on whatever decoder of the same model.

        Raises:
            UserError: no such file, not a session, damaged, or a session of another model.
        """
        path = Path(path)
        record, tensors = _read(path)
        if record.get("format") not in READABLE:
            raise UserError(
                f"{path} was saved by another version of seqgen (session format "
                f"{record.get('format')}, this one reads {READABLE}): start again from a prompt"
            )
        if record.get("fingerprint") != decoder.fingerprint:
            raise UserError(
                f"{path} is a session of another model: load the model that it was saved with"
            )
        try:
            session = Session(
                state=_state(tensors, decoder),
                pending=_pending(record["pending"], decoder),
                sampler=_sampler_state(record["sampler"], tensors, decoder),
                fingerprint=record["fingerprint"],
                decay_after=record["decay_after"],
                guide=_guide(record.get("guide"), tensors, decoder),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is not a valid session ({error}): start again from a prompt"
            ) from None
        session.check(decoder)
        return session

    def _tensors(self) -> dict[str, Tensor]:
        sampler = {SAMPLER + k: x for k, x in vars(self.sampler).items() if isinstance(x, Tensor)}
        guide = {} if self.guide is None else _named(self.guide.state)
        second = {GUIDE + name: x for name, x in guide.items()}
        everything = _named(self.state) | sampler | second
        return {name: x.contiguous() for name, x in everything.items()}


def _checksum(record: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """Return a session file's record and tensors as they were written, or say why not."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            # Before they are copied: that makes any byte but 0 of a boolean a 1.
            if metadata[CHECKSUM] != _checksum(metadata[RECORD], tensors):
                raise ValueError("its checksum does not match")
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        record = json.loads(metadata[RECORD])
        if not isinstance(record, dict):
            raise ValueError("its record is not an object")
        return record, tensors
    except OSError as error:
        raise UserError(f"cannot read the session {path}: {error}") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged or not a session ({error}): copy it again, or start again from a "
            f"prompt"
        ) from None


def _named(state: State) -> dict[str, Tensor]:
    """A state's tensors by name."""
    rest = {f.name: getattr(state, f.name) for f in fields(State) if f.name not in GROUPED}
    return {f"{g}.{i}": x for g in GROUPED for i, x in enumerate(getattr(state, g))} | rest


def _state(tensors: Mapping[str, Tensor], decoder: Decoder) -> State:
    """Take the state out of `tensors`; ValueError where it is not one of the decoder's model."""
    like = decoder.initial_state(1)
    for name, want in _named(like).items():
        have = tensors[name]
        if have.dtype != want.dtype or _shape(have, decoder) != _shape(want, decoder):
            raise ValueError(f"{name} has shape {tuple(have.shape)} instead of {tuple(want.shape)}")
    groups: dict[str, Any] = {
        g: tuple(tensors[f"{g}.{i}"] for i in range(len(getattr(like, g)))) for g in GROUPED
    }
    rest: dict[str, Any] = {f.name: tensors[f.name] for f in fields(State) if f.name not in groups}
    state = State(**groups, **rest)
    rooms = [x.shape[3] for x in state.attention if _is_cache(x, decoder)]
    if not 0 <= state.position[0] <= min([*rooms, decoder.max_positions or torch.inf, torch.inf]):
        raise ValueError(f"position {int(state.position[0])} is not possible")
    if not 0 <= state.origin[0] <= state.position[0] or (
        state.origin[0] and decoder.config.positions not in ("bars", "bar-numbers")
    ):
        raise ValueError(f"origin {int(state.origin[0])} is impossible")
    holds = torch.from_numpy(decoder.vocabulary.holds)  # [N, G]
    if not ((holds == state.held) & (holds >= 0)).any(0).all():
        raise ValueError(f"marks {state.held[0].tolist()} cannot be in force together")
    return state


def _guide(record: dict | None, tensors: Mapping[str, Tensor], decoder: Decoder) -> Guide | None:
    """Take a second stream out of `tensors`; ValueError where it is not one of this model."""
    if record is None:
        return None
    scale = float(record["scale"])
    if not 0 <= scale < float("inf"):
        raise ValueError(f"guidance {scale:g} is impossible")
    own = {n.removeprefix(GUIDE): x for n, x in tensors.items() if n.startswith(GUIDE)}
    return Guide(_state(own, decoder), _pending(record["pending"], decoder), scale)


def _shape(tensor: Tensor, decoder: Decoder) -> tuple[int, ...]:
    """The shape, but for the capacity of a cache [L, 1, H, C, K]."""
    shape = tuple(tensor.shape)
    return shape[:3] + shape[4:] if _is_cache(tensor, decoder) else shape


def _is_cache(tensor: Tensor, decoder: Decoder) -> bool:
    return tensor.dim() == 5 and decoder.config.attention == "softmax"


def _pending(token: list, decoder: Decoder) -> np.ndarray:
    sizes = decoder.vocabulary.sizes
    if len(token) != len(sizes) or not all(0 <= i < n for i, n in zip(token, sizes, strict=True)):
        raise ValueError(f"token {token} is not in the vocabulary")
    return np.array(token, dtype=np.int64)


def _sampler_state(plain: dict, tensors: Mapping[str, Tensor], decoder: Decoder) -> SamplerState:
    """Rebuild a sampler state; TypeError or ValueError where something is missing or invalid."""
    settings = plain["sampling"]
    settings = Sampling(**{**settings, "logit_bias": tuple(map(tuple, settings["logit_bias"]))})
    seed = tuple(plain["seed"])
    if not all(isinstance(x, int) and x >= 0 for x in (*seed, plain["drawn"])):
        raise ValueError(f"seed {seed} at draw {plain['drawn']} is impossible")
    if not 0 <= plain["previous"] < decoder.vocabulary.sizes[0]:
        raise ValueError(f"previous id {plain['previous']} is not in the vocabulary")
    registers = tuple(plain["registers"])
    if len(registers) != decoder.vocabulary.n_registers or not all(
        isinstance(x, int) and NEVER < x < ANY for x in registers
    ):
        raise ValueError(f"registers {registers} are impossible")
    kept: dict[str, Any] = {
        f.name: tensors[SAMPLER + f.name] for f in fields(SamplerState) if f.name not in plain
    }
    if any(x.shape != (sum(decoder.vocabulary.sizes),) for x in kept.values()):
        raise ValueError("a sampler of another vocabulary")
    plain = {**plain, "sampling": settings, "seed": seed, "registers": registers}
    return SamplerState(**plain, **kept)
