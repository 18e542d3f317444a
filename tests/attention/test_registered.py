"""The registered pair: our operator inside the library's layers, with its own kernel as witness."""

import pytest
import torch
from fast_transformers.attention import CausalLinearAttention
from fast_transformers.builders import RecurrentEncoderBuilder, TransformerEncoderBuilder
from fast_transformers.causal_product import causal_dot_product
from fast_transformers.masking import LengthMask, TriangularCausalMask

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.registered import ATTENTION_TYPE, ParallelCausalLinear, feature_map_factory
from seqgen.attention.rows import PassRows

B, T, H, K = 2, 150, 3, 8


def library_kernel_is_built() -> bool:
    try:
        causal_dot_product(*torch.ones(3, 1, 1, 2, 4))
    except (RuntimeError, TypeError):
        return False
    return True


needs_library_kernel = pytest.mark.skipif(
    not library_kernel_is_built(), reason="the library was installed without its kernels"
)


def inputs(device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, T, H, K, generator=generator).to(device) for _ in range(3)]


def attend(q, k, v, *, kernel="auto", lengths=None, device="cpu"):
    layer = ParallelCausalLinear(K, feature_map_factory("elu+1"))
    layer.kernel = kernel
    rows = PassRows(B, T, device=torch.device(device), lengths=lengths)
    return layer(q, k, v, TriangularCausalMask(T, device=device), rows, rows)


@needs_library_kernel
@pytest.mark.parametrize("kernel", ["auto", "chunked", "naive"])
def test_outputs_and_gradients_are_those_of_the_librarys_kernel(kernel):
    lengths = torch.tensor([T, 40])
    mask, length_mask = TriangularCausalMask(T), LengthMask(lengths, max_len=T)
    weight = torch.randn(B, T, H, K)
    results = []
    for way in (
        lambda q, k, v: CausalLinearAttention(K)(q, k, v, mask, length_mask, length_mask),
        lambda q, k, v: attend(q, k, v, kernel=kernel, lengths=lengths),
    ):
        leaves = [x.requires_grad_() for x in inputs()]
        out = way(*leaves)
        results.append((out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)))
    for theirs, ours in zip(*results, strict=True):
        assert (theirs - ours).abs().max() < 2e-5 * theirs.abs().max()


@pytest.mark.parametrize("kernel", ["auto", "chunked"])
def test_under_autocast_sums_stay_in_float32(kernel):
    q, k, v = (x.bfloat16() for x in inputs())
    exact = attend(q.double(), k.double(), v.double(), kernel=kernel)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(q, k, v, kernel=kernel)
    assert out.dtype == torch.bfloat16
    assert (out - exact).abs().max() < 8e-3  # one rounding of the output


def test_a_mask_that_is_not_causal_is_refused():
    layer = ParallelCausalLinear(K, feature_map_factory("elu+1"))
    full = LengthMask(torch.tensor([T, T]), max_len=T)
    with pytest.raises(ValueError, match="TriangularCausalMask"):
        layer(*inputs(), full, full, full)


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_every_feature_map_gives_two_equal_forms(name):
    arguments = {
        "attention_type": ATTENTION_TYPE,
        "feature_map": feature_map_factory(name),
        "n_layers": 2,
        "n_heads": 2,
        "query_dimensions": 8,
        "value_dimensions": 8,
        "feed_forward_dimensions": 32,
    }
    parallel = TransformerEncoderBuilder.from_kwargs(**arguments).get().eval()
    for index, layer in enumerate(parallel.layers):
        layer.attention.inner_attention.layer = index
    recurrent = RecurrentEncoderBuilder.from_kwargs(**arguments).get().eval()
    recurrent.load_state_dict(parallel.state_dict(), strict=True)
    x = torch.randn(2, 40, 16)
    rows = PassRows(2, 40, device=x.device, keep=True)
    with torch.no_grad():
        whole = parallel(x, attn_mask=TriangularCausalMask(40), length_mask=rows)
        steps, state = [], None
        for t in range(40):
            y, state = recurrent(x[:, t], state)
            steps.append(y)
    assert (whole - torch.stack(steps, dim=1)).abs().max() < 1e-5
    for ours, theirs in zip(rows.stacked_states(), zip(*state, strict=True), strict=True):
        assert (ours - torch.stack(theirs)).abs().max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kernel", ["auto", "chunked"])
def test_cuda_equals_cpu(kernel):
    lengths = torch.tensor([T, 40])
    on_cpu = attend(*inputs(), lengths=lengths)
    on_cuda = attend(*inputs("cuda"), kernel=kernel, lengths=lengths.cuda(), device="cuda")
    assert (on_cpu - on_cuda.cpu()).abs().max() < 1e-4
