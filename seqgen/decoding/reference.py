"""The decoder that all others are tested against: the library's RecurrentEncoder, unchanged."""

from torch import Tensor

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.pool import Pool
from seqgen.model.recurrent_model import Logits, RecurrentModel
from seqgen.model.state import State


class ReferenceDecoder(Decoder):
    """Steps with the recurrent form itself, for any kind of attention."""

    name = "reference"

    def open(self, n_slots: int) -> "ReferencePool":
        """Make room for the states of `n_slots` streams."""
        return ReferencePool(self, n_slots)

    step = RecurrentModel.step


class ReferencePool(Pool):
    """One state per slot. Those that step together stay joined until streams join or leave."""

    def __init__(self, model: RecurrentModel, n_slots: int):
        self._model = model
        self._states: list[State | None] = [None] * n_slots
        self._together: list[int] = []  # slots whose newest state is a row of `_joined`
        self._joined = model.initial_state(0)

    def write(self, slots: Tensor, state: State) -> None:
        """Put the rows of `state` into slots [B]."""
        self._part()
        for row, slot in enumerate(slots.tolist()):
            self._states[slot] = state.rows([row])

    def read(self, slots: Tensor) -> State:
        """Copy the states of slots [B] out."""
        self._part()
        if not len(slots):
            return self._model.initial_state(0)
        return State.join([self._states[slot] for slot in slots.tolist()])

    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Give the streams in slots [B] their next tokens [B, F]."""
        if slots.tolist() != self._together:
            self._joined = self.read(slots)
            self._together = slots.tolist()
        logits, self._joined = self._model.step(tokens, self._joined)
        return logits

    def _part(self) -> None:
        for row, slot in enumerate(self._together):
            self._states[slot] = self._joined.rows([row])
        self._together = []
