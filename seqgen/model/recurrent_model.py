"""The recurrent form: one position per call, with a state; the weights are the parallel form's own.

Legend: L layers, B rows, T positions, F fields, H heads, K key width, V value width, D model width,
W convolution width, N_f vocabulary of a field.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from seqgen.attention.decay import longest_pass
from seqgen.attention.kinds import KINDS, check_decay
from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import build_recurrent, run_recurrent, share_weights, stack_arguments
from seqgen.model.state import State
from seqgen.vocabulary import Vocabulary

PREFILLS = ("float32", "bf16")
PASS_TOKENS = 16_384  # rows × positions of one pass over prompts, which bounds its memory

Logits = tuple[Tensor, ...]  # [B, N_f], one for each field


class RecurrentModel:
    """Runs a `SequenceModel` step by step. Holds no parameters of its own, never trains.

    Move the parallel model to its device before making this one. Sums need float32: a model in
    another precision is copied to it, one in float32 is shared.

    Attributes:
        decay_after: position from which the sums decay (`seqgen.attention.decay`), for streams
            longer than any in training. None: they never do.
    """

    def __init__(
        self, model: SequenceModel, decay_after: int | None = None, *, prefill: str = "float32"
    ):
        """Take a model's weights.

        Args:
            model: the parallel form.
            decay_after: as the attribute.
            prefill: number format of the prefill, float32 or bf16.

        Raises:
            UserError: no such precision, or the attention does not support such a decay.
        """
        if prefill not in PREFILLS:
            raise UserError(f"prefill = {prefill}: must be one of {', '.join(PREFILLS)}")
        check_decay(model.config.attention, decay_after)
        self.decay_after = decay_after
        with torch.device("meta"):
            self._parallel = type(model)(model.config, model.vocabulary)
            self._stack = build_recurrent(stack_arguments(model.config))
        weights = {name: value.float() for name, value in model.state_dict().items()}
        self._parallel.load_state_dict(weights, strict=True, assign=True)
        self._parallel.to(next(model.parameters()).device)  # buffers too
        share_weights(self._parallel.stack, self._stack)
        self._parallel.eval()
        self._stack.eval()
        self._rounded = _in_bfloat16(model) if prefill == "bf16" else None
        self._kind = KINDS[model.config.attention]

    @property
    def config(self) -> ModelConfig:
        """Sizes and choices of the model."""
        return self._parallel.config

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary."""
        return self._parallel.vocabulary

    @property
    def device(self) -> torch.device:
        """Where weights and states live."""
        return next(self._parallel.parameters()).device

    @property
    def max_positions(self) -> int | None:
        """Positions a row may reach, or None where there is no end."""
        return self._parallel.positions.limit

    @property
    def source_is_prefix(self) -> bool:
        """Whether `begin` takes the positions of a source before those of its target."""
        return self.config.kind == "decoder"

    def read_chain(self) -> Tensor:
        """Return `OutputHead.chain` of the present weights."""
        return self._parallel.lm_head.chain()

    def initial_state(self, n_rows: int) -> State:
        """Return the state before the first token, for B = `n_rows` rows."""
        return self._parallel.initial_state(n_rows)

    @torch.no_grad()
    def begin(self, source: Tensor, lengths: Tensor) -> State:
        """Return the state before the first token of a target; see `SequenceModel.begin`.

        Args:
            source: ids [B, U, F], each row padded at its end with anything.
            lengths: of the source of each row [B], at least 1.
        """
        if not len(source):
            return self.initial_state(0)
        return self._parallel.begin(source, lengths)

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> tuple[Logits, State]:
        """Take one token per row and score the next.

        Args:
            tokens: ids [B, F].
            state: what came before; it is not changed.

        Returns:
            Logits [B, N_f], one tensor per field, before any field of the next token is known
            (`add_chain` adds what its earlier fields say of the later ones), and the new state.
        """
        if not len(tokens):
            return self._no_logits(), state
        tokens, positions = tokens.unsqueeze(1), state.position.unsqueeze(1)
        origins = self._parallel.positions.origins(tokens, positions, state.origin)
        in_force = self._parallel.in_force(tokens, state)
        x, recent = self._parallel.embed(
            tokens, positions, state.recent, origins=origins, in_force=in_force
        )
        hidden, attention = self._kind.step(
            state.attention,
            state.position,
            lambda layers: run_recurrent(self._stack, x.squeeze(1), layers, state.source),
            self.decay_after,
        )
        new_state = State(
            *(attention, recent[:, 1:], state.position + 1, origins[:, 0], in_force[:, 0]),
            source=state.source,
        )
        hidden = self._parallel.finish(hidden.unsqueeze(1), in_force)[:, 0]
        return self._parallel.lm_head(hidden), new_state

    @torch.no_grad()
    def prefill(
        self, tokens: Tensor, lengths: Tensor, state: State | None = None
    ) -> tuple[Logits, State]:
        """Take whole prompts in the parallel form: what stepping through them gives, sooner.

        Long ones are run pass after pass, each from the state that the one before left behind.

        Args:
            tokens: ids [B, T, F], each row padded at its end with anything.
            lengths: prompt length of each row [B], at least 1.
            state: what came before the prompts; None: nothing. It is not changed.

        Returns:
            Logits [B, N_f] for the token after each prompt, one tensor per field, as `step` gives
            them, and the state there; pads enter no state.

        Raises:
            ValueError: a length is below 1 or beyond T.
        """
        B, T, _ = tokens.shape
        if not B:
            return self._no_logits(), self.initial_state(0)
        if lengths.shape != (B,) or lengths.min() < 1 or lengths.max() > T:
            raise ValueError(f"prompt lengths must be {B} numbers in 1…{T}, got {lengths.tolist()}")
        size = max(PASS_TOKENS // B, 1)
        if self.decay_after is not None:
            size = min(size, longest_pass(self.decay_after))
        model = self._parallel
        precision: AbstractContextManager[object] = nullcontext()
        if self._rounded is not None:
            model = self._rounded
            precision = torch.autocast(self.device.type, torch.bfloat16)
        row, ends = torch.arange(B, device=tokens.device), []
        with precision:
            for begin in range(0, int(lengths.max()), size):
                part = tokens[:, begin : begin + size]
                rest = (lengths - begin).clamp(0, part.shape[1])
                hidden, state = model.run(
                    part, rest, state=state, keep_state=True, decay_after=self.decay_after
                )
                ends.append(hidden[row, (rest - 1).clamp(min=0)])
            # [B, D], of the pass that each row ends in.
            last = torch.stack(ends)[(lengths - 1) // size, row]
            assert state is not None  # there was a pass, since lengths are at least 1
            return tuple(scores.float() for scores in model.lm_head(last)), state

    def _no_logits(self) -> Logits:
        """Logits [0, N_f] of no rows: the library's layers cannot be run on none."""
        return tuple(torch.empty(0, size, device=self.device) for size in self.vocabulary.sizes)


def _in_bfloat16(model: SequenceModel) -> SequenceModel:
    """Copy a model with its matrices in bfloat16, to be run under autocast; nothing else is copied.

    Embeddings, norms and sums stay as they are: autocast would round weights at each pass.
    """
    rounded = {
        f"{name}.{part}": value.detach().bfloat16()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d)
        for part, value in module.named_parameters()
    }
    with torch.device("meta"):
        copy = type(model)(model.config, model.vocabulary)
    copy.load_state_dict(model.state_dict() | rounded, strict=True, assign=True)
    return copy.to(next(model.parameters()).device).eval()  # buffers too moves too
