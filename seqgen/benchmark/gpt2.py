"""Hugging Face's GPT-2 in the model's sizes, with random weights and the static cache it offers.

It is called as its makers advise: fused attention, a cache allocated ahead, and no mask or
position that it would have to work out at each step. On a GPU its step is one CUDA graph.

Legend: B rows, T positions, F fields, C capacity of the cache, D model width, N_f vocabulary of a
field.
"""

import importlib
import importlib.metadata
import importlib.util
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from seqgen.benchmark.draws import Draws, at_its_best
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.timing import Call, Variant
from seqgen.decoding.decoder import Logits
from seqgen.decoding.pool import Pool
from seqgen.model.state import State

NAME = "gpt2-static"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
INSTALL = ".venv/bin/python -m pip install -c constraints.txt transformers"
NEEDED = (5, 23)  # older ones are untested, and version 4 has another name for the static cache
ALIGNMENT = 16  # slots: fused kernels need masks of such widths; fewer than that stay unused
USUAL = 0.1  # what slots are filled with


def why_not() -> str:
    """Return why it is not available here, or an empty string."""
    if importlib.util.find_spec("transformers") is None:
        return f"not available: transformers is not installed ({INSTALL})"
    version = importlib.metadata.version("transformers")
    if not NEEDED <= tuple(map(int, version.split(".")[:2])) < (NEEDED[0] + 1,):
        wanted = ".".join(map(str, NEEDED))
        return f"not available: transformers is {version}, {wanted} is needed ({INSTALL})"
    return ""


def names(model: BenchmarkModel) -> dict[str, str]:
    """List the variants and the dtype of each."""
    return {NAME: "float32"} | ({f"{NAME}-bf16": "bf16"} if model.has_bfloat16 else {})


def variants(
    model: BenchmarkModel, draws: Draws, last: Tensor, state: State, *, position: int
) -> list[Variant]:
    """Make variants of one step after `position` tokens, with tokens `last` [B, F] and a draw.

    GPT-2 has no fields: it reads the first one's ids, and its one vocabulary, as large as all of
    them together, costs what their heads cost.
    """
    if note := why_not():
        return [Variant(NAME, note=note)]

    def open_steps(dtype: str) -> Call:
        pool = Gpt2Pool(model, len(last), position=position, dtype=dtype)
        return draws.call(at_its_best(pool, model.device), last, state, again=True)

    capacity, made = _capacity(position), []
    n_weights = model.n_parameters + capacity * model.config.d_model  # one for each position too
    for name, dtype in names(model).items():
        itemsize = DTYPES[dtype].itemsize
        holds = model.cache_bytes(capacity, len(last), itemsize=itemsize) + itemsize * n_weights
        made.append(Variant(name, partial(open_steps, dtype), holds=holds, dtype=dtype))
    return made


@torch.no_grad()
def check(model: BenchmarkModel, tokens: Tensor) -> None:
    """Compare the last of tokens [B, T, F], as it is timed, with a pass without a cache.

    GPT-2 has its own weights, so other variants cannot check it.
    """
    B, T, _ = tokens.shape
    slots, ids = torch.arange(B, device=model.device), tokens[..., 0]
    for name, dtype in {} if why_not() else names(model).items():
        pool = Gpt2Pool(model, B, position=T - 1, dtype=dtype)
        pool.fill(ids[:, :-1])
        step = at_its_best(pool, model.device)
        for _ in range(3 if model.device.type == "cuda" else 1):  # the third one is replayed
            pool.rewind()
            logits = step.advance(slots, tokens[:, -1])
        whole = pool.network(ids, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        tolerance = BFLOAT16_TOLERANCE if dtype == "bf16" else None
        what, got = "its own pass without a cache", [torch.cat(logits, dim=-1)]
        check_equal(name, got, what, [whole], tolerance=tolerance)


class Gpt2Pool(Pool):
    """B rows after `position` tokens, with all that a step reads and writes allocated ahead.

    Keys and values of its cache are [B, H, C, K] by layer.
    """

    def __init__(self, model: BenchmarkModel, n_rows: int, *, position: int, dtype: str):
        self.position, capacity = position, _capacity(position)
        self._sizes = model.model.vocabulary.sizes
        self.network = _build(model, dtype, n_positions=capacity)
        config, device, kind = model.config, model.device, DTYPES[dtype]
        self.cache = _library().StaticCache(config=self.network.config, max_cache_len=capacity)
        width = config.d_model // config.n_heads
        self.cache.early_initialization(n_rows, config.n_heads, width, kind, device)
        for layer in self.cache.layers:
            for part in (layer.keys, layer.values):
                part[:, :, :position] = USUAL
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

    def write(self, slots: Tensor, state: State) -> None:
        """Return to `position`: a state of ours means nothing to GPT-2."""
        self.rewind()

    def read(self, slots: Tensor) -> State:
        """GPT-2 has no such state."""
        raise NotImplementedError

    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Make one step of all rows with the first field of tokens [B, F]; return logits [B, N_f].

        One vocabulary is split as if it were that of the model's fields.
        """
        with torch.inference_mode():
            self._mask.index_fill_(3, self._at[0], 0.0)
            out = self.network(
                tokens[:, :1],
                past_key_values=self.cache,
                attention_mask=self._mask,
                position_ids=self._at,
                use_cache=True,
                logits_to_keep=1,
            )
            self._at.add_(1)
            logits = out.logits[:, -1].float()
        return logits.clone().split(self._sizes, dim=-1)  # a draw may write to it

    def _count(self, position: int) -> None:
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(position)


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
