"""The `cuda` decoder: several steps with their draws are one CUDA graph, replayed again and again.

Legend: C slots, B rows, F fields, N_f vocabulary of a field.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from seqgen.attention.operator import HAS_TRITON
from seqgen.decoding.decoder import Logits
from seqgen.decoding.fused import TorchDecoder, TorchPool
from seqgen.decoding.pool import Pool
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.state import State
from seqgen.sampling import Sampler

MAX_GRAPHS = 64  # kept by a pool; the one not used for the longest time goes first

Work = Callable[[], Any]  # returns tensors


class CudaDecoder(TorchDecoder):
    """Steps of the torch decoder as CUDA graphs, with Triton's kernels where possible.

    Weights are float32 or bf16; activations and sums are float32.

    Attributes:
        steps_per_call: steps that one call of `Pool.run` should make.
    """

    name = "cuda"
    supported_weights = ("float32", "bf16")

    def __init__(
        self,
        model: SequenceModel,
        weights: str = "float32",
        *,
        steps_per_call: int = 8,
        **choices,
    ):
        """Read a model's weights on its device.

        Raises:
            UserError: that is no GPU, or as for the torch decoder.
        """
        device = next(model.parameters()).device
        if device.type != "cuda":
            raise UserError(
                f"decoder cuda: the model is on {device}, move it to a GPU or use the decoder torch"
            )
        super().__init__(model, weights, **choices)
        self.steps_per_call = steps_per_call

    def open(self, n_slots: int) -> "GraphPool":
        """Make room for the states of `n_slots` streams."""
        return GraphPool(step_pool(self, n_slots), CudaRecorder(self.device))


def step_pool(decoder: TorchDecoder, n_slots: int) -> TorchPool:
    """Open a pool that steps with Triton's kernels, or with torch where they are not available."""
    if HAS_TRITON:
        # Where there is no GPU, there is often no Triton.
        from seqgen.decoding.triton_step import TritonPool, why_not

        if not why_not(decoder):
            return TritonPool(decoder, n_slots)
    return TorchPool(decoder, n_slots)


class Recorder(Protocol):
    """Records work on tensors, so that it can be replayed without the host."""

    def warm_up(self, work: Work) -> Any:
        """Run the work, including what is done only the first time."""

    def record(self, work: Work) -> tuple[Callable[[], None], Any]:
        """Record the work without running it.

        Returns:
            A function that runs it on the current values of the tensors, and what `work` returned:
            the tensors that then hold its results.
        """


class CudaRecorder:
    """Records CUDA graphs, which share their memory: read results before another graph runs."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._memory = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> Any:
        """Run the work on the recording stream: libraries keep a workspace for each stream."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            results = work()
        current.wait_stream(self._stream)
        return results

    def record(self, work: Work) -> tuple[Callable[[], None], Any]:
        """Record it as one graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory, stream=self._stream):
            results = work()
        return graph.replay, results


@dataclass(frozen=True)
class Recording:
    """Recorded work, with the tensors that it reads its arguments from and leaves its results in.

    Attributes:
        slots, tokens: [B] and [B, F].
        replay: runs it.
        results: tensors that hold its results.
    """

    slots: Tensor
    tokens: Tensor
    replay: Callable[[], None]
    results: Any


class GraphPool(Pool):
    """Steps of another pool, recorded when the same kind of call is made a second time.

    The first such call runs directly, as the warm-up. Calls are of the same kind if they have the
    same numbers of rows and steps and the same sampling operations, in whatever slots.
    """

    def __init__(self, pool: Pool, recorder: Recorder):
        """Record the steps of `pool`, which nothing else may use."""
        pool.host_may_read = False
        self._pool, self._recorder = pool, recorder
        self._recordings: OrderedDict[Hashable, Recording | None] = OrderedDict()
        self._sampler: Sampler | None = None  # kept, since recordings use its tensors

    def write(self, slots: Tensor, state: State) -> None:
        """Put the rows of `state` into slots [B]."""
        self._pool.write(slots, state)

    def read(self, slots: Tensor) -> State:
        """Copy the states of slots [B] out."""
        return self._pool.read(slots)

    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Give the streams in slots [B] their next tokens [B, F]; return logits [B, N_f] by field.

        The logits are overwritten by the next call.
        """
        return self._do(len(slots), self._pool.advance, slots, tokens)

    def run(self, slots: Tensor, tokens: Tensor, sampler: Sampler, n_steps: int = 1) -> Tensor:
        """Make steps with a draw after each, as `Pool.run`: one graph does them all."""
        if sampler is not self._sampler:
            self._recordings.clear()
            self._sampler = sampler
        work = partial(self._pool.run, sampler=sampler, n_steps=n_steps)
        # Equal flags are equal operations, on the same tensors: the bias, which is allocated when a
        # stream first asks for one, is only read where the flags say so.
        return self._do((len(slots), n_steps, sampler.flags), work, slots, tokens).clone()

    @torch.no_grad()
    def _do(
        self, key: Hashable, work: Callable[[Tensor, Tensor], Any], slots: Tensor, tokens: Tensor
    ) -> Any:
        """Do `work` on slots [B] and tokens [B, F]; from the third call on by replay."""
        if not len(slots):  # no kernel would be launched, and a graph must hold one
            return work(slots, tokens)
        if key not in self._recordings:
            self._recordings[key] = None
            if len(self._recordings) > MAX_GRAPHS:
                self._recordings.popitem(last=False)
            return self._recorder.warm_up(lambda: work(slots, tokens))
        recording = self._recordings[key]
        if recording is None:
            mine = slots.clone(), tokens.clone()
            recording = Recording(*mine, *self._recorder.record(lambda: work(*mine)))
            self._recordings[key] = recording
        self._recordings.move_to_end(key)
        recording.slots.copy_(slots)
        recording.tokens.copy_(tokens)
        recording.replay()
        return recording.results
