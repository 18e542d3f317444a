"""Hugging Face's GPT-2 in the model's sizes, with random weights and the static cache it offers.

It is called as its makers advise: fused attention, a cache allocated ahead, and no mask or
position that it would have to work out at each step. On a GPU its step is one CUDA graph.

Legend: B rows, C capacity of the cache, H heads, K width of a head, D model width, N vocabulary.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable
from types import ModuleType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seqgen.attention.operator import HAS_TRITON
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Variant
from seqgen.decoding.cuda import CudaRecorder
from seqgen.native import has_bfloat16

NAME = "gpt2-static"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
INSTALL = ".venv/bin/python -m pip install -c constraints.txt transformers"
NEEDED = (5, 23)  # older ones were not tried, and 4 calls its static cache otherwise
ALIGNMENT = 16  # slots, as fused kernels want of a mask; fewer than that are left over
POSITIONS = 4096  # rows by which the table of positions grows
BLOCK = 64  # positions filled at random, then repeated
WARM_UP = 3

# The networks of a subject by dtype: making one takes as long as many of its steps.
_networks: WeakKeyDictionary[Subject, dict[str, nn.Module]] = WeakKeyDictionary()


def name_of(dtype: str, *, compiled: bool = False) -> str:
    """Name a variant as it stands in the records."""
    return NAME + ("" if dtype == "float32" else f"-{dtype}") + ("-compiled" if compiled else "")


def why_not(subject: Subject, dtype: str = "float32", *, compiled: bool = False) -> str:
    """Say why it cannot be had here, or nothing."""
    if importlib.util.find_spec("transformers") is None:
        return f"not here: transformers is not installed ({INSTALL})"
    version = importlib.metadata.version("transformers")
    if not NEEDED <= _numbers(version) < (NEEDED[0] + 1,):
        return f"not here: transformers is {version}, {NEEDED[0]}.{NEEDED[1]} is needed ({INSTALL})"
    on_cpu = subject.device.type == "cpu"
    if dtype == "bf16" and not (has_bfloat16() if on_cpu else torch.cuda.is_bf16_supported()):
        return f"not here: this {'CPU' if on_cpu else 'GPU'} has no bfloat16 instructions"
    compiler = shutil.which(os.environ.get("CXX", "g++")) if on_cpu else HAS_TRITON
    if compiled and not compiler:
        return f"not here: torch.compile needs {'a C++ compiler' if on_cpu else 'Triton'}"
    return ""


def variant(
    subject: Subject,
    last: Tensor,
    *,
    position: int,
    finish: Callable[[tuple[Tensor, ...]], object],
    dtype: str = "float32",
    compiled: bool = False,
) -> Variant:
    """Make the variant of one step after `position` tokens, warmed up.

    GPT-2 knows no fields: it reads the first one's ids, and its one vocabulary, that is as large as
    all of them together, costs what their heads cost.

    Args:
        last: the token ids to go on with, [B, F].
        finish: is called with the logits [B, N_f] by field, and timed too.
        compiled: by torch.compile, which takes from ten seconds to a minute.
    """
    name, batch = name_of(dtype, compiled=compiled), len(last)
    note = why_not(subject, dtype, compiled=compiled)
    note = note or subject.too_large(foreseen_bytes(subject, batch, position, dtype=dtype))
    if note:
        return Variant(name, None, note=note, dtype=dtype)
    stream = Stream(subject, batch, position=position, dtype=dtype)
    stream.tokens.copy_(last[:, :1])
    stream.fill_at_random()
    step, sizes = _ready(stream, compiled=compiled), subject.model.vocabulary.sizes
    return Variant(name, lambda _: finish(step().split(sizes, -1)), stream.rewind, dtype=dtype)


def check(subject: Subject, *, batch: int, position: int) -> None:
    """Compare a step after a real prompt with a pass over all positions, without a cache.

    Its weights are its own, so that it can be compared with nothing else.

    Raises:
        OutputsDiffer: they are not the same.
    """
    for dtype, tolerance in (("float32", None), ("bf16", BFLOAT16_TOLERANCE)):
        if not why_not(subject, dtype):
            check_in(subject, dtype, batch=batch, position=position, tolerance=tolerance)


@torch.no_grad()
def check_in(
    subject: Subject,
    dtype: str,
    *,
    batch: int,
    position: int,
    tolerance: float | None = None,
    compiled: bool = False,
) -> None:
    """Compare as `check` does, in one dtype; what is checked is the very step that is timed."""
    tokens = subject.random_tokens(batch, position + 1)[..., 0]  # [B, T]
    stream = Stream(subject, batch, position=position, dtype=dtype)
    stream.tokens.copy_(tokens[:, -1:])
    stream.fill(tokens[:, :-1])
    step = _ready(stream, compiled=compiled)
    stream.rewind()
    whole = stream.network(tokens, use_cache=False, logits_to_keep=1).logits[:, -1].float()
    name = name_of(dtype, compiled=compiled)
    check_equal(name, [step()], "its own pass without a cache", [whole], tolerance=tolerance)


def foreseen_bytes(subject: Subject, batch: int, position: int, *, dtype: str = "float32") -> int:
    """Foresee the bytes of cache and weights."""
    config = subject.config
    L, D, n_inner = config.n_layers, config.d_model, config.d_ff or 4 * config.d_model
    cache = 2 * batch * L * D * capacity_at(position)
    n_embedded = sum(subject.model.vocabulary.sizes) + _table_size(position)
    weights = L * (4 * D**2 + 2 * D * n_inner) + n_embedded * D
    return DTYPES[dtype].itemsize * (cache + weights)


def capacity_at(position: int) -> int:
    """Say how many slots the cache has: all of them are read, so there are hardly any to spare."""
    return -(-(position + 1) // ALIGNMENT) * ALIGNMENT


class Stream:
    """B rows after `position` tokens, with all that a step reads and writes allocated ahead.

    Attributes:
        network: GPT-2.
        cache: its StaticCache; keys and values [B, H, C, K] by layer.
        tokens: the ids that a step goes on with, [B, 1].
    """

    def __init__(self, subject: Subject, batch: int, *, position: int, dtype: str = "float32"):
        self.network = _network(subject, dtype, position=position)
        self.position, self.capacity = position, capacity_at(position)
        config, self.device, kind = subject.config, subject.device, DTYPES[dtype]
        self.cache = _library().StaticCache(config=self.network.config, max_cache_len=self.capacity)
        width = config.d_model // config.n_heads
        self.cache.early_initialization(batch, config.n_heads, width, kind, self.device)
        self.tokens = torch.zeros(batch, 1, dtype=torch.long, device=self.device)
        self._at = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        # Added to scores. One that is given so is used as it is, and else it is made at each step.
        self._mask = torch.zeros(1, 1, 1, self.capacity, dtype=kind, device=self.device)
        self.rewind()

    def rewind(self) -> None:
        """Go back to `position`: what was written there counts for nothing, and stays."""
        self._count(self.position)
        self._at.fill_(self.position)
        self._mask[..., self.position :] = float("-inf")

    def fill(self, prompt: Tensor) -> None:
        """Read a prompt [B, position] into the cache."""
        self._count(0)
        self.network(prompt, past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    def fill_at_random(self) -> None:
        """Write numbers of a usual size to all slots before `position`."""
        for layer in self.cache.layers:
            for part in (layer.keys, layer.values):
                _, H, _, K = part.shape
                block = torch.randn(1, H, BLOCK, K, dtype=part.dtype, device=part.device)
                for slots in part[:, :, : self.position].split(BLOCK, 2):
                    slots.copy_(block[:, :, : slots.shape[2]])

    def step(self) -> Tensor:
        """Make one step after what is in the cache -> logits [B, N]."""
        self._mask.index_fill_(3, self._at[0], 0.0)
        out = self.network(
            self.tokens,
            past_key_values=self.cache,
            attention_mask=self._mask,
            position_ids=self._at,
            use_cache=True,
            logits_to_keep=1,
        )
        self._at.add_(1)
        return out.logits[:, -1].float()

    def _count(self, position: int) -> None:
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(position)


def _ready(stream: Stream, *, compiled: bool) -> Callable[[], Tensor]:
    """Return a stream's step at its best, warmed up; it may overwrite what it gave before."""
    recorder = CudaRecorder(stream.device) if stream.device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, while it compiles
        step = _compiled(stream) if compiled else _inferred(stream)
        for _ in range(WARM_UP):
            stream.rewind()
            recorder.warm_up(step) if recorder else step()
        stream.rewind()
        if recorder is None:
            return step
        replay, logits = recorder.record(step)

    def again() -> Tensor:
        replay()
        return logits

    return again


def _inferred(stream: Stream) -> Callable[[], Tensor]:
    """Return a step that keeps no books for gradients, whose logits a draw may write to."""

    def step() -> Tensor:
        with torch.inference_mode():
            logits = stream.step()
        return logits.clone()

    return step


def _compiled(stream: Stream) -> Callable[[], Tensor]:
    # Each stream has its own shapes: none shares with, or falls back because of, another.
    return torch.no_grad()(torch.compile(stream.step, dynamic=False, isolate_recompiles=True))


def _library() -> ModuleType:
    """Import transformers, which is no part of an installation, and make it keep quiet."""
    library = importlib.import_module("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _table_size(position: int) -> int:
    return -(-capacity_at(position) // POSITIONS) * POSITIONS


def _network(subject: Subject, dtype: str, *, position: int) -> nn.Module:
    """Return the subject's GPT-2, made anew where the one that is here ends too early."""
    networks, wanted = _networks.setdefault(subject, {}), _table_size(position)
    if dtype not in networks or networks[dtype].config.n_positions < wanted:
        networks[dtype] = _build(subject, dtype, n_positions=wanted)
    return networks[dtype]


def _build(subject: Subject, dtype: str, *, n_positions: int) -> nn.Module:
    library, config = _library(), subject.config
    sizes = library.GPT2Config(
        vocab_size=sum(subject.model.vocabulary.sizes),
        n_positions=n_positions,
        n_embd=config.d_model,
        n_layer=config.n_layers,
        n_head=config.n_heads,
        n_inner=config.d_ff or 4 * config.d_model,
        activation_function=config.activation,
        initializer_range=config.d_model**-0.5,  # so large that a wrong position shows
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        **dict.fromkeys(("bos_token_id", "eos_token_id"), None),
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = library.GPT2LMHeadModel(sizes)
    return network.to(subject.device, DTYPES[dtype]).eval().requires_grad_(False)
