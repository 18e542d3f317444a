"""Times attention, training and decoding on one GPU, in about a minute with everything compiled.

    python scripts/gpu.py [attention] [training] [decoding]

Needs PyTorch, Triton and a CUDA device. Each line is a median after a warm-up; what is compared is
timed in the same process. `python cli.py benchmark` measures more, with peers and equality checks.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from seqgen.attention.feature_maps import FEATURE_MAPS  # noqa: E402
from seqgen.attention.operator import causal_linear_attention  # noqa: E402
from seqgen.benchmark.measures.training import WAYS, Trainee  # noqa: E402
from seqgen.benchmark.model import BenchmarkModel, load_benchmark_model  # noqa: E402
from seqgen.decoding.cuda import CudaDecoder  # noqa: E402
from seqgen.decoding.pool import Pool  # noqa: E402
from seqgen.sampling import Sampler, Sampling  # noqa: E402

HEADS, WIDTH = 8, 64
SHAPES = ((32, 512), (8, 2048), (2, 8192), (1, 16384))  # rows and positions
ROWS = (1, 8, 64, 256, 1024)
STEPS = 8  # in one graph
UNWAITED = 4  # steps of training that are not waited for, each by itself
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def seconds(work: Callable[[], object], repeats: int = 12) -> float:
    """The median time of `work`, which is waited for, after three untimed calls."""
    times = []
    for i in range(-3, repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if i >= 0:
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def linear(decay: torch.Tensor | None = None) -> Attend:
    """Causal linear attention with the feature map elu+1."""
    elu = FEATURE_MAPS["elu+1"]
    return lambda q, k, v: causal_linear_attention(q, k, v, feature_map=elu, decay=decay)[0]


def softmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Softmax attention by FlashAttention, where PyTorch has it for the dtype."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def forward_backward(attend: Attend, x: list[torch.Tensor], g: torch.Tensor) -> None:
    """Attend, and differentiate by queries, keys and values; g is the gradient of the output."""
    torch.autograd.grad(attend(*x), x, g)


def attention() -> None:
    """Forward, and forward and backward, of one layer."""
    gamma = 1 - 2 ** -torch.linspace(3, 8, HEADS, device="cuda")
    kinds = {"linear": linear(), "linear with decay": linear(gamma), "softmax": softmax}
    for dtype in (torch.bfloat16, torch.float32):
        for B, T in SHAPES:
            shape = (B, T, HEADS, WIDTH)
            x = [torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True) for _ in "qkv"]
            g = torch.randn(shape, device="cuda", dtype=dtype)
            said = []
            for name, attend in kinds.items():
                forward = seconds(partial(attend, *x))
                both = seconds(partial(forward_backward, attend, x, g))
                said.append(f"{name} {1e3 * forward:.3f} / {1e3 * both:.3f}")
            click.echo(f"attention {B} x {T} {str(dtype)[6:]}, ms: {', '.join(said)}")


def train(trainee: Trainee, tokens: torch.Tensor, name: str) -> None:
    """Take steps, none of which is waited for."""
    for _ in range(UNWAITED):
        trainee.step(tokens, WAYS[name])


def training(model: BenchmarkModel) -> None:
    """Steps of training one after another, as they are taken."""
    trainee = Trainee(model)
    for B, T in ((16, 1024), (1, 16384)):
        tokens = model.random_tokens(B, T + 1)
        for name in ("causal-linear-bf16", "softmax-bf16", "causal-linear"):
            torch.cuda.reset_peak_memory_stats()
            took = seconds(partial(train, trainee, tokens, name), 3) / UNWAITED
            peak = torch.cuda.max_memory_allocated() / 1e9
            click.echo(f"training {B} x {T} {name}: {B * T / took:,.0f} tokens/s, {peak:.1f} GB")


def generate(pool: Pool, sampler: Sampler, slots: torch.Tensor, tokens: torch.Tensor) -> None:
    """Make steps with a draw after each."""
    sampler.prepare(list(range(len(slots))), STEPS)
    pool.run(slots, tokens, sampler, STEPS)


def decoding(model: BenchmarkModel) -> None:
    """Steps with their draws (top-k 40) by the decoder `cuda`, which chooses how."""
    vocabulary = model.model.vocabulary
    for weights in ("bf16", "float32"):
        decoder = CudaDecoder(model.model, weights)
        for B in ROWS:
            begin = time.perf_counter()
            slots = torch.arange(B, device="cuda")
            tokens = torch.full((B, 1), vocabulary.bos_id, device="cuda")
            sampler = Sampler(vocabulary, B, device=torch.device("cuda"))
            for slot in range(B):
                prompt = np.full((1, 1), vocabulary.bos_id)
                sampler.enter(slot, Sampling(top_k=40), seed=(0, slot), prompt=prompt)
            pool = decoder.open(B)
            pool.get_ready(slots, tokens, sampler)
            step = partial(generate, pool, sampler, slots, tokens)
            step()
            ready = time.perf_counter() - begin
            took = seconds(step) / STEPS
            kinds = ", ".join(f"{k} {1e3 * s:.3f}" for k, s in decoder.choices.get(B, {}).items())
            click.echo(
                f"decoding {B} rows {weights}: {1e3 * took:.3f} ms a step, {B / took:,.0f} tokens/s"
                f" (ready after {ready:.1f} s; chosen from {kinds})"
            )


def main() -> None:
    """Measure what is named, or everything."""
    if not torch.cuda.is_available():
        raise SystemExit("this needs a CUDA device")
    wanted = sys.argv[1:] or ["attention", "training", "decoding"]
    click.echo(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    if "attention" in wanted:
        attention()
    model = load_benchmark_model(ROOT / "configs" / "reference-12x512.yaml", device="cuda")
    if "training" in wanted:
        training(model)
    if "decoding" in wanted:
        decoding(model)


if __name__ == "__main__":
    main()
