"""A draw by Triton's kernel is the sampler's, with all that it leaves behind.

A test that takes `device` states a property. It runs here where there is a GPU; without one it is
run by the interpreter, in a process of its own, because TRITON_INTERPRET acts on a whole process.
"""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from ordered import at_random
from sampling_cases import bos
from triton_launches import (
    INTERPRETED,
    check_in_interpreter,
    compile_launch,
    record_launches,
    resources,
)

from seqgen.sampling import Sampler, Sampling, triton_draw
from seqgen.vocabulary import Field, Vocabulary

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = "cpu" if INTERPRETED else pytest.param("cuda", marks=[pytest.mark.gpu, NO_CUDA])
HELD = ("seen", "counts", "previous", "has_unit", "registers", "drawn")


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", [DEVICE])


SETTINGS = {
    "plain": [Sampling()],
    "greedy": [Sampling(temperature=0)],
    "the usual": [
        Sampling(temperature=0.8, top_k=5),
        Sampling(top_p=0.7, grammar=False),
        Sampling(temperature=1.4, min_p=0.1),
        Sampling(top_k=30, top_p=0.9, min_p=0.02),
    ],
    "all": [
        Sampling(temperature=0, repetition_penalty=1.7),
        Sampling(typical_p=0.6, frequency_penalty=0.5),
        Sampling(top_k=7, logit_bias={5: 3.0, 2: -1e6}),
        Sampling(repetition_penalty=0.4, top_p=0.95, typical_p=0.9),
    ],
}


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # NumPy of infinities
@pytest.mark.parametrize(
    ("name", "chosen"),
    [*(("plain", chosen) for chosen in SETTINGS), ("compound", "all"), ("random", "greedy")],
)
def test_ids_and_what_they_leave_are_the_samplers(
    plain_vocabulary, compound_vocabulary, name, chosen, device
):
    vocabulary = {
        "plain": plain_vocabulary,
        "compound": compound_vocabulary,
        "random": at_random(1, 14, 9),  # with registers that count
    }[name]
    settings = {
        "plain": SETTINGS[chosen],
        "compound": SETTINGS[chosen][-2:],
        "random": SETTINGS[chosen] * 4,
    }[name]
    B, C, N, sizes = len(settings), 6, sum(vocabulary.sizes), vocabulary.sizes
    torch.manual_seed(3)
    chain = torch.randn(N - sizes[-1], N - sizes[0], device=device) if len(sizes) > 1 else None
    samplers = [Sampler(vocabulary, C, device=device, scored=True, chain=chain) for _ in "ab"]
    slots = [4, 0, 5, 2][:B]
    for sampler in samplers:
        for i, slot in enumerate(slots):
            sampler.enter(slot, settings[i], seed=(1, i), prompt=bos(vocabulary))
    index = torch.tensor(slots, device=device)
    for step in range(4 if name == "random" else 2):
        logits = torch.randn(B, N, device=device) * 2
        logits[0, 6], logits[-1, 8] = float("nan"), -float("inf")
        logits[:, 10:13] = torch.tensor([0.0, -0.0, 0.0], device=device)  # ties
        if step == 1:
            logits[0, 7] = float("inf")
        logits = logits.split(sizes, dim=-1)
        for sampler in samplers:
            sampler.prepare(slots, 1)
        expected = samplers[0].draw(logits, index)
        samplers[1].draw_by = triton_draw.draw
        assert torch.equal(samplers[1].draw(logits, index), expected)
        for held in HELD:
            assert torch.equal(getattr(samplers[1], held), getattr(samplers[0], held)), held
    scores = [sampler.log_likelihood[slots] for sampler in samplers]
    torch.testing.assert_close(*scores, equal_nan=True)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.slow
def test_the_launch_compiles_outside_the_interpreter(
    compound_vocabulary, capability, tmp_path, monkeypatch
):
    launches = record_launches(monkeypatch, triton_draw, ["draw_kernel"])
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    N, sizes = sum(compound_vocabulary.sizes), compound_vocabulary.sizes
    chain = torch.randn(N - sizes[-1], N - sizes[0])
    sampler = Sampler(compound_vocabulary, 4, scored=True, chain=chain)
    for slot, sampling in enumerate(SETTINGS["all"]):
        sampler.enter(slot, sampling, seed=(0, slot), prompt=bos(compound_vocabulary))
    triton_draw.draw(sampler, torch.randn(4, N).split(sizes, dim=-1), torch.arange(4))
    ((kernel, args, kwargs),) = launches
    if capability == 90:  # as on such a GPU
        kwargs |= {"PDL": True, "launch_pdl": True}
    compiled = compile_launch(kernel, args, kwargs, capability=capability)
    assert resources(compiled, tmp_path)[1] <= 16  # bytes that spill


def test_logits_that_lie_side_by_side_are_not_copied():
    logits = torch.randn(3, 10)
    fields = logits.split([4, 6], dim=-1)
    assert triton_draw._side_by_side(fields, (0, 4)).data_ptr() == logits.data_ptr()
    for apart in (fields[::-1], [x.clone() for x in fields], logits.double().split([4, 6], -1)):
        joined = triton_draw._side_by_side(apart, (0, apart[0].shape[1]))
        torch.testing.assert_close(joined, torch.cat(list(apart), -1).float())
    alone = torch.randn(3, 5)
    assert triton_draw._side_by_side([alone], (0,)) is alone


def test_a_vocabulary_that_is_too_large_is_not_drawn_by_the_kernel():
    vocabulary = Vocabulary((Field("token", 9000),), bos_id=1, eos_id=2, pad_id=0)
    assert "9000 ids" in triton_draw.why_not(vocabulary)


@pytest.mark.skipif(INTERPRETED, reason="it is this process")
@pytest.mark.slow
def test_every_property_holds_in_the_interpreter():
    check_in_interpreter(__file__, "cpu")
