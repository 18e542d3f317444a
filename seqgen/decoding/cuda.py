"""The `cuda` decoder: several steps with their draws are one CUDA graph, replayed again and again.

Legend: C slots, B rows, F fields, N_f vocabulary of a field.
"""

import math
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from threading import Lock, Thread
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
from seqgen.sampling import Flags, Sampler
from seqgen.sampling.sampler import DrawBy
from seqgen.vocabulary import Vocabulary

TIMES, AT_ONCE = 4, 8  # each kind of step is timed so often, so many steps at a time
MOST_TIMED = 1024  # rows of such steps, since they have states of their own
BRIEF = 0.1  # seconds that a call may wait for kernels that were compiled for another one
MAX_GRAPHS = 64  # kept by a pool; the one not used for the longest time goes first

Work = Callable[[], Any]  # returns tensors


class CudaDecoder(TorchDecoder):
    """Steps of the torch decoder as CUDA graphs, with Triton's kernels where those are faster.

    Weights are float32 or bf16; sums are float32. The first steps are PyTorch's. Meanwhile Triton's
    kernels are compiled in another thread; when they are, each kind of step is timed and the
    fastest goes on with the same states. What was found holds for the decoder and the number of
    rows, rounded up to a power of two.

    Attributes:
        steps_per_call: steps that one call of `Pool.run` should make.
        choices: seconds of a step by kind, for each number of rows for which they were timed.
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
        self.choices: dict[int, dict[str, float]] = {}
        self._compiled: dict[Hashable, Future[None]] = {}

    def open(self, n_slots: int) -> "GraphPool":
        """Make room for the states of `n_slots` streams."""
        return ChosenPool(
            self,
            n_slots,
            CudaRecorder(self.device),
            kinds=step_kinds(self),
            draw_kernel=draw_kernel(self.vocabulary),
            choices=self.choices,
            compiled=self._compiled,
        )


def step_kinds(decoder: TorchDecoder) -> dict[str, type[TorchPool]]:
    """Return the pools that can make a decoder's steps, by name; those of PyTorch come first."""
    kinds: dict[str, type[TorchPool]] = {"torch": TorchPool}
    if HAS_TRITON:
        # Where there is no GPU, there is often no Triton.
        from seqgen.decoding.triton_step import TritonMixedPool, TritonPool, why_not

        if not why_not(decoder):
            kinds |= {"triton": TritonPool, "mixed": TritonMixedPool}
    return kinds


@dataclass(frozen=True)
class DrawKernel:
    """A draw in one launch, and a function that compiles it for a sampler, slots [B] and flags."""

    draw: DrawBy
    compile: Callable[[Sampler, Tensor, Flags], None]


def draw_kernel(vocabulary: Vocabulary) -> DrawKernel | None:
    """Return the kernel that draws tokens of a vocabulary; None: there is none."""
    if not HAS_TRITON:
        return None
    from seqgen.sampling import triton_draw

    if triton_draw.why_not(vocabulary):
        return None
    return DrawKernel(triton_draw.draw, triton_draw.compile_draw)


class Recorder(Protocol):
    """Records work on tensors, so that it can be replayed without the host."""

    def wait(self) -> None:
        """Wait for all work that was begun."""

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

    def wait(self) -> None:
        """Wait for this thread's stream: other threads may use the device meanwhile."""
        torch.cuda.current_stream(self._device).synchronize()

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
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(
            graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"
        ):
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
    same numbers of rows and steps and the same sampling operations, in whatever slots. Those that
    cannot be recorded run directly each time, after a warning.
    """

    def __init__(self, pool: Pool, recorder: Recorder):
        """Record the steps of `pool`, which nothing else may use."""
        pool.host_may_read = False
        self._pool, self._recorder = pool, recorder
        self._recordings: OrderedDict[Hashable, Recording | None] = OrderedDict()
        self._unrecordable: set[Hashable] = set()
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
        if not len(slots):  # no kernel would be launched, and a graph must hold one
            return self._pool.advance(slots, tokens)
        name, pool = self._stepping(slots, tokens, None)
        return self._do((name, len(slots)), pool.advance, slots, tokens)

    def run(self, slots: Tensor, tokens: Tensor, sampler: Sampler, n_steps: int = 1) -> Tensor:
        """Make steps with a draw after each, as `Pool.run`: one graph does them all."""
        if not len(slots):
            return self._pool.run(slots, tokens, sampler, n_steps)
        if sampler is not self._sampler:
            self._recordings.clear()
            self._sampler = sampler
        name, pool = self._stepping(slots, tokens, sampler)
        work = partial(pool.run, sampler=sampler, n_steps=n_steps)
        # Equal flags are equal operations, on the same tensors: the bias, which is allocated when a
        # stream first asks for one, is only read where the flags say so.
        key = name, len(slots), n_steps, sampler.flags, sampler.draw_by
        return self._do(key, work, slots, tokens).clone()

    def _stepping(self, slots: Tensor, tokens: Tensor, sampler: Sampler | None) -> tuple[str, Pool]:
        """Return the pool that makes this call's steps, and its name."""
        return "", self._pool

    @torch.no_grad()
    def _do(
        self, key: Hashable, work: Callable[[Tensor, Tensor], Any], slots: Tensor, tokens: Tensor
    ) -> Any:
        """Do `work` on slots [B] and tokens [B, F]; from the third call on by replay."""
        if key in self._unrecordable:
            return work(slots, tokens)
        if key not in self._recordings:
            self._recordings[key] = None
            if len(self._recordings) > MAX_GRAPHS:
                self._recordings.popitem(last=False)
            return self._recorder.warm_up(lambda: work(slots, tokens))
        recording = self._recordings[key] or self._record(key, work, slots, tokens)
        if recording is None:
            return work(slots, tokens)
        self._recordings.move_to_end(key)
        recording.slots.copy_(slots)
        recording.tokens.copy_(tokens)
        recording.replay()
        return recording.results

    def _record(
        self, key: Hashable, work: Callable[[Tensor, Tensor], Any], slots: Tensor, tokens: Tensor
    ) -> Recording | None:
        """Record `work`; None, after a warning, where that fails."""
        mine = slots.clone(), tokens.clone()
        sampler = self._sampler
        prepared = (0, 0) if sampler is None else sampler.prepared
        try:
            recording = Recording(*mine, *self._recorder.record(lambda: work(*mine)))
        except RuntimeError as error:
            warnings.warn(
                f"steps of {len(slots)} streams run one operation at a time, which is slower: they "
                f"could not be recorded as a CUDA graph ({error})",
                stacklevel=2,
            )
            if sampler is not None:
                sampler.prepared = prepared  # nothing was drawn
            del self._recordings[key]
            self._unrecordable.add(key)
            return None
        self._recordings[key] = recording
        return recording


class ChosenPool(GraphPool):
    """Graphs of the steps that are the fastest of several kinds, which share their states.

    Until kernels are compiled, which happens in another thread, steps are those of the first kind.
    Nothing is timed meanwhile: the threads would hold each other up.
    """

    def __init__(
        self,
        decoder: TorchDecoder,
        n_slots: int,
        recorder: Recorder,
        *,
        kinds: Mapping[str, type[TorchPool]],
        choices: dict[int, dict[str, float]],
        compiled: "dict[Hashable, Future[None]] | None" = None,
        draw_kernel: DrawKernel | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Make room for `n_slots` streams.

        Args:
            decoder: whose steps are made.
            n_slots: how many streams.
            recorder: records them.
            kinds: of pools that can make them, by name.
            choices: seconds of a step by number of rows and name, of those that were timed so far;
                more are added.
            compiled: what other pools of the decoder have compiled; None: nothing yet.
            draw_kernel: of the draws after steps; None: the sampler's own.
            clock: tells the time, in seconds.
        """
        (first, kind), *others = kinds.items()
        pool = kind(decoder, n_slots)
        super().__init__(pool, recorder)
        self._decoder, self._kinds, self._clock = decoder, kinds, clock
        self._first, self._choices, self._draw = first, choices, draw_kernel
        self._pools = {first: pool} | {
            name: kind(decoder, n_slots, states=pool) for name, kind in others
        }
        self._compiled = {} if compiled is None else compiled
        self._compiler = Lock()  # one at a time

    def get_ready(self, slots: Tensor, tokens: Tensor, sampler: Sampler | None = None) -> None:
        """Wait until such steps can be made by the fastest kind, and choose it."""
        self._compilations(slots, tokens, sampler)
        wait([*self._compiled.values()])
        self._stepping(slots, tokens, sampler)

    def _stepping(self, slots: Tensor, tokens: Tensor, sampler: Sampler | None) -> tuple[str, Pool]:
        steps, *draws = self._compilations(slots, tokens, sampler)
        name, rows = self._first, _rounded(len(slots))
        if steps.done() and self._succeeded(steps) and len(self._kinds) > 1:
            if rows not in self._choices and all(x.done() for x in [*self._compiled.values()]):
                self._choices[rows] = self._measure(min(rows, MOST_TIMED))
            if rows in self._choices:
                name = min(self._choices[rows], key=self._choices[rows].__getitem__)
        if sampler is not None:
            can_draw = all(draw.done() and self._succeeded(draw) for draw in draws)
            sampler.draw_by = self._draw.draw if self._draw is not None and can_draw else None
        return name, self._pools[name]

    def _compilations(
        self, slots: Tensor, tokens: Tensor, sampler: Sampler | None
    ) -> "list[Future[None]]":
        """Compile what such steps, and the draws after them, need: in other threads, once."""
        found = []
        works: dict[Hashable, Callable[[Tensor, Tensor], None]] = {
            _rounded(len(slots)): self._compile_steps
        }
        if self._draw is not None and sampler is not None:
            compile_draw, flags = self._draw.compile, sampler.flags
            works[flags, sampler.scored] = lambda slots, _: compile_draw(sampler, slots, flags)
        for key, work in works.items():
            if key not in self._compiled:
                future: Future[None] = Future()
                is_first = not self._compiled
                self._compiled[key] = future
                mine = partial(work, slots.clone(), tokens.clone())
                Thread(target=self._compile, args=(future, mine), name="compile").start()
                wait([future], timeout=0 if is_first else BRIEF)
            found.append(self._compiled[key])
        return found

    def _compile_steps(self, slots: Tensor, tokens: Tensor) -> None:
        for pool in self._pools.values():
            pool.compile(slots, tokens)

    def _compile(self, future: "Future[None]", work: Work) -> None:
        try:
            with self._compiler:
                work()
            future.set_result(None)
        except Exception as error:  # of any kind: `_succeeded` tells it
            future.set_exception(error)

    def _succeeded(self, compilation: "Future[None]") -> bool:
        """Whether kernels were compiled; the first time that they were not, warn and do without."""
        error = compilation.exception()
        if error is not None and (len(self._kinds) > 1 or self._draw is not None):
            warnings.warn(
                f"steps are those of {self._first}, which may be slower: Triton's kernels could "
                f"not be compiled ({error!r})",
                stacklevel=3,
            )
            self._kinds, self._draw = {self._first: self._kinds[self._first]}, None
        return error is None

    def _measure(self, rows: int) -> dict[str, float]:
        """Time a step of each kind, with states of its own: seconds by name."""
        seconds = {}
        for name, kind in self._kinds.items():
            try:
                seconds[name] = self._seconds(kind(self._decoder, rows))
            except Exception as error:  # whatever a device has too little of
                seconds[name] = math.inf
                warnings.warn(f"steps of {name} are not used: {error}", stacklevel=4)
        return seconds

    @torch.no_grad()
    def _seconds(self, pool: TorchPool) -> float:
        """Time a step of all slots of a pool, recorded; its states are overwritten."""
        pool.host_may_read = False
        slots = torch.arange(len(pool.position), device=pool.position.device)
        shape = len(slots), len(self._decoder.vocabulary.sizes)
        tokens = slots.new_full(shape, self._decoder.vocabulary.bos_id)
        step = partial(pool.advance, slots, tokens)
        self._recorder.warm_up(step)
        replay, _ = self._recorder.record(step)
        seconds = []
        for _ in range(TIMES):
            self._recorder.wait()
            start = self._clock()
            for _ in range(AT_ONCE):
                replay()
            self._recorder.wait()
            seconds.append((self._clock() - start) / AT_ONCE)
        return min(seconds)


def _rounded(n_rows: int) -> int:
    """Return the power of two of rows for which steps are compiled and chosen."""
    return 1 << (n_rows - 1).bit_length()
