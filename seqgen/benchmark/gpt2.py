"""Hugging Face's GPT-2 in the model's sizes, with random weights and the static cache it offers.

It is called as its makers advise: fused attention, a cache allocated ahead, and no mask or
position that it would have to work out at each step. On a GPU its step is one CUDA graph.

Legend: B rows, F fields, C capacity of the cache, D model width, N vocabulary.
"""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.timing import Call, Variant
from seqgen.decoding.cuda import CudaRecorder

NAME = "gpt2-static"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
INSTALL = ".venv/bin/python -m pip install -c constraints.txt transformers"
NEEDED = (5, 23)  # older ones are untested, and version 4 has another name for the static cache
ALIGNMENT = 16  # slots: fused kernels need masks of such widths; fewer than that stay unused
USUAL = 0.1  # what slots are filled with
WARM_UP = 3


def why_not() -> str:
    """Return why it is not available here, or an empty string."""
    if importlib.util.find_spec("transformers") is None:
        return f"not available: transformers is not installed ({INSTALL})"
    version = importlib.metadata.version("transformers")
    if not NEEDED <= tuple(map(int, version.split(".")[:2])) < (NEEDED[0] + 1,):
        wanted = ".".join(map(str, NEEDED))
        return f"not available: transformers is {version}, {wanted} is needed ({INSTALL})"
    return ""


def name_of(dtype: str) -> str:
    """Return a variant's name in the records."""
    return NAME if dtype == "float32" else f"{NAME}-{dtype}"


def variants(model: BenchmarkModel, draws: Draws, last: Tensor, *, position: int) -> list[Variant]:
    """Make variants of one step after `position` tokens, with tokens `last` [B, F] and a draw.

    GPT-2 has no fields: it reads the first one's ids, and its one vocabulary, as large as all of
    them together, costs what their heads cost.
    """
    if note := why_not():
        return [Variant(NAME, None, note=note)]

    def open_steps(dtype: str) -> Call:
        steps = Gpt2Steps(model, len(last), position=position, dtype=dtype)
        steps.tokens.copy_(last[:, :1])
        steps.fill_with_usual_numbers()
        step, sizes = ready(steps), model.model.vocabulary.sizes
        return Call(lambda _: draws.draw(step().split(sizes, -1)), steps.rewind)

    made = []
    for dtype in _dtypes(model):
        holds = estimated_bytes(model, len(last), position, dtype=dtype)
        made.append(Variant(name_of(dtype), partial(open_steps, dtype), holds=holds, dtype=dtype))
    return made


def check_all(model: BenchmarkModel, *, batch: int, position: int) -> None:
    """Check all that is timed here; it has its own weights, so other variants cannot check it.

    Raises:
        OutputsDiffer: a step is not what a pass over all positions gives.
    """
    for dtype in [] if why_not() else _dtypes(model):
        check(model, dtype, batch=batch, position=position)


@torch.no_grad()
def check(model: BenchmarkModel, dtype: str, *, batch: int, position: int) -> None:
    """Compare the step that is timed, after a real prompt, with a pass without a cache."""
    tokens = model.random_tokens(batch, position + 1)[..., 0]  # [B, T]
    steps = Gpt2Steps(model, batch, position=position, dtype=dtype)
    steps.tokens.copy_(tokens[:, -1:])
    steps.fill(tokens[:, :-1])
    step = ready(steps)
    steps.rewind()
    whole = steps.network(tokens, use_cache=False, logits_to_keep=1).logits[:, -1].float()
    tolerance = BFLOAT16_TOLERANCE if dtype == "bf16" else None
    what = "its own pass without a cache"
    check_equal(name_of(dtype), [step()], what, [whole], tolerance=tolerance)


def estimated_bytes(model: BenchmarkModel, batch: int, position: int, *, dtype: str) -> int:
    """Estimate the bytes of cache and weights."""
    c, itemsize = model.config, DTYPES[dtype].itemsize
    n_inner = c.d_ff or 4 * c.d_model
    n_embedded = sum(model.model.vocabulary.sizes) + _capacity(position)
    weights = c.n_layers * (4 * c.d_model**2 + 2 * c.d_model * n_inner) + n_embedded * c.d_model
    return model.cache_bytes(_capacity(position), batch, itemsize=itemsize) + itemsize * weights


class Gpt2Steps:
    """B rows after `position` tokens, with all that a step reads and writes allocated ahead.

    Attributes:
        network: GPT-2.
        cache: its StaticCache; keys and values [B, H, C, K] by layer.
        tokens: the ids that a step takes, [B, 1].
    """

    def __init__(self, model: BenchmarkModel, batch: int, *, position: int, dtype: str = "float32"):
        self.position, capacity = position, _capacity(position)
        self.network = _build(model, dtype, n_positions=capacity)
        config, device, kind = model.config, model.device, DTYPES[dtype]
        self.device = device
        self.cache = _library().StaticCache(config=self.network.config, max_cache_len=capacity)
        width = config.d_model // config.n_heads
        self.cache.early_initialization(batch, config.n_heads, width, kind, device)
        self.tokens = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self._at = torch.zeros(1, 1, dtype=torch.long, device=device)
        # Added to scores. One that is given so is used as it is; otherwise one is made each step.
        self._mask = torch.zeros(1, 1, 1, capacity, dtype=kind, device=device)
        self.rewind()

    def rewind(self) -> None:
        """Return to `position`; later slots keep their values and are masked."""
        self._count(self.position)
        self._at.fill_(self.position)
        self._mask[..., self.position :] = float("-inf")

    def fill(self, prompt: Tensor) -> None:
        """Read a prompt [B, position] into the cache."""
        self._count(0)
        self.network(prompt, past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    def fill_with_usual_numbers(self) -> None:
        """Write to all slots before `position`."""
        for layer in self.cache.layers:
            for part in (layer.keys, layer.values):
                part[:, :, : self.position] = USUAL

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


def ready(steps: Gpt2Steps) -> Callable[[], Tensor]:
    """Return a step at its best, warmed up; it may overwrite what it gave before."""

    def step() -> Tensor:
        with torch.inference_mode():
            logits = steps.step()
        return logits.clone()  # a draw may write to it

    recorder = CudaRecorder(steps.device) if steps.device.type == "cuda" else None
    for _ in range(WARM_UP):
        steps.rewind()
        recorder.warm_up(step) if recorder else step()
    steps.rewind()
    if recorder is None:
        return step
    replay, logits = recorder.record(step)

    def again() -> Tensor:
        replay()
        return logits

    return again


def _dtypes(model: BenchmarkModel) -> list[str]:
    return ["float32", *(["bf16"] if model.has_bfloat16 else [])]


def _library() -> ModuleType:
    """Import transformers, which is not installed by default, and silence its output."""
    library = importlib.import_module("transformers")
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


def _capacity(position: int) -> int:
    """Return the slots of the cache: all of them are read, so there are hardly any to spare."""
    return -(-(position + 1) // ALIGNMENT) * ALIGNMENT


def _build(model: BenchmarkModel, dtype: str, *, n_positions: int) -> nn.Module:
    library, config = _library(), model.config
    sizes = library.GPT2Config(
        vocab_size=sum(model.model.vocabulary.sizes),
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
    return network.to(model.device, DTYPES[dtype]).eval().requires_grad_(False)
