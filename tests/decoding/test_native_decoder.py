"""The compiled step computes what the reference does, whatever runs beside a row."""

import itertools
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from decoders import CHOICES
from making import random_tokens
from ordered import at_random, bars, compound

from seqgen.decoding.fused import TorchDecoder
from seqgen.decoding.native import NativeDecoder, NativeMixedPool, NativePool
from seqgen.decoding.reference import ReferenceDecoder
from seqgen.errors import UserError
from seqgen.native import instructions, why_missing
from seqgen.sampling import Sampler, Sampling
from seqgen.vocabulary import Field, Vocabulary

pytestmark = pytest.mark.skipif(bool(why_missing()), reason=why_missing())

WEIGHTS = {"float32": 1e-5, "bf16": 2e-2, "int8": 6e-2, "w8a8": 0.15}  # relative distances


def distance(ours, theirs):
    """The largest difference, relative to the largest value."""
    pairs = list(zip(ours, theirs, strict=True))
    return max(float((a - b).abs().max()) for a, b in pairs) / max(
        1.0, *(float(b.abs().max()) for _, b in pairs)
    )


def walk(pool, tokens, slots):
    """Logits [B, T, N_f] of a pool that takes tokens [B, T, F] in slots."""
    steps = [[x.clone() for x in pool.advance(slots, token)] for token in tokens.unbind(1)]
    return [torch.stack(x, dim=1) for x in zip(*steps, strict=True)]


@pytest.mark.parametrize("decay_after", [None, 5])
@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary"])
@pytest.mark.parametrize(
    "choices", CHOICES, ids=lambda c: "-".join(map(str, c.values())) or "plain"
)
def test_every_position_is_the_references(request, tiny, name, choices, decay_after):
    model = tiny(request.getfixturevalue(name), **choices)
    tokens, slots = random_tokens(model.vocabulary, 3, 12), torch.tensor([4, 0, 2])
    results = []
    for kind in (NativeDecoder, ReferenceDecoder):
        decoder = kind(model, decay_after=decay_after)
        _, state = decoder.prefill(tokens[:, :4], torch.tensor([4, 1, 3]))
        pool = decoder.open(5)
        pool.write(slots, state)
        results.append((walk(pool, tokens[:, 4:], slots), pool.read(slots)))
    (ours, our_state), (theirs, their_state) = results
    assert distance(ours, theirs) < 2e-5
    assert distance(our_state.attention, their_state.attention) < 1e-5
    for part in ("recent", "position", "origin", "held"):
        assert torch.allclose(getattr(our_state, part), getattr(their_state, part), atol=1e-6)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_reduced_weights_stay_near_the_exact_ones(tiny, toy_vocabulary, weights):
    model = tiny(toy_vocabulary, d_model=64)
    tokens, slots = random_tokens(toy_vocabulary, 20, 10), torch.arange(20)
    decoders = NativeDecoder(model, weights), ReferenceDecoder(model)
    pools = [decoder.open(20) for decoder in decoders]
    for pool, decoder in zip(pools, decoders, strict=True):
        pool.write(slots, decoder.initial_state(20))
    ours, theirs = (walk(pool, tokens, slots) for pool in pools)
    assert distance(ours, theirs) < WEIGHTS[weights]
    if weights != "float32":
        assert distance(ours, theirs) > 1e-5  # or nothing was reduced


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_row_is_the_same_to_the_bit_among_any_others_and_with_any_threads(
    tiny, toy_vocabulary, weights
):
    model = tiny(toy_vocabulary, d_model=80, n_heads=2, d_ff=70)
    decoder = NativeDecoder(model, weights)
    tokens = random_tokens(toy_vocabulary, 23, 6)
    alone = NativePool(decoder, 1, threads=1)
    wanted = walk(alone, tokens[3:4], torch.tensor([0]))
    for rows, threads in itertools.product((1, 2, 3, 6, 9, 23), (1, 2, 3, 16)):
        torch.set_num_threads(min(threads, 3))  # with 16, each of them stands for several
        pool = NativePool(decoder, rows + 2, threads=threads)
        slots = torch.randperm(rows + 2)[:rows]
        order = [3, *(i for i in range(23) if i != 3)][:rows]
        got = walk(pool, tokens[order], slots)
        for a, b in zip(got, wanted, strict=True):
            assert torch.equal(a[:1], b), (rows, threads)


def test_other_slots_are_not_touched_and_a_written_one_keeps_nothing(tiny, plain_vocabulary):
    decoder = NativeDecoder(tiny(plain_vocabulary))
    pool, tokens = decoder.open(4), random_tokens(plain_vocabulary, 4, 5)
    walk(pool, tokens, torch.arange(4))
    before = pool.read(torch.tensor([0, 3]))
    walk(pool, tokens[:2], torch.tensor([2, 1]))
    after = pool.read(torch.tensor([0, 3]))
    assert all(map(torch.equal, before.attention, after.attention))
    assert torch.equal(before.recent, after.recent)
    pool.write(torch.tensor([2]), decoder.initial_state(1))
    fresh = walk(decoder.open(1), tokens[:1], torch.tensor([0]))
    assert torch.equal(walk(pool, tokens[:1], torch.tensor([2]))[0], fresh[0])


def _some_settings(rng, vocabulary):
    names = [field.name for field in vocabulary.fields]

    def maybe(draw):
        return by_field(draw) if rng.random() < 0.4 else None

    def by_field(draw):
        if rng.random() < 0.7:
            return draw()
        return {name: draw() for name in names if rng.random() < 0.6}

    return Sampling(
        temperature=by_field(lambda: rng.choice([0, 0.7, 1, 1.5])),
        top_k=maybe(lambda: rng.randint(1, 30)),
        top_p=maybe(lambda: rng.uniform(0.05, 0.95)),
        min_p=maybe(lambda: rng.uniform(0, 0.5)),
        typical_p=maybe(lambda: rng.uniform(0.05, 0.95)),
        repetition_penalty=by_field(lambda: rng.choice([1, 1.3, 0.8])),
        frequency_penalty=by_field(lambda: rng.choice([0, 0.5, -0.2])),
        grammar=rng.random() < 0.5,
        logit_bias=((3, 2.0),) if rng.random() < 0.3 else (),
    )


VOCABULARIES = {
    "bars": bars()[0],
    "compound": compound(),
    **{f"random {seed}": at_random(seed) for seed in range(4)},
    **{f"random fields {seed}": at_random(seed, 9, 5, 12, 7) for seed in range(6)},
}


@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary", *VOCABULARIES])
def test_draws_are_those_of_the_sampler(request, tiny, name):
    vocabulary = VOCABULARIES.get(name) or request.getfixturevalue(name)
    decoder, rng = NativeDecoder(tiny(vocabulary)), random.Random(1)
    for trial in range(25):
        samplers = [
            Sampler(vocabulary, 6, scored=trial % 2 == 0, chain=decoder.chain) for _ in range(2)
        ]
        for slot in range(6):
            settings, ids = (
                _some_settings(rng, vocabulary),
                [vocabulary.special_token(1), [3] * len(vocabulary.fields)],
            )
            for sampler in samplers:
                sampler.enter(slot, settings, seed=(trial, slot), prompt=np.array(ids))
        pools, slots = [decoder.open(6), decoder.open(6)], torch.randperm(6)[:4]
        ours = theirs = torch.full((4, len(vocabulary.fields)), 4)
        for _ in range(12):
            for sampler in samplers:
                sampler.prepare(slots.tolist())
            ours = pools[0].run(slots, ours, samplers[0])[0]
            theirs = samplers[1].draw(pools[1].advance(slots, theirs), slots)
            assert torch.equal(ours, theirs), trial
        for part in ("seen", "counts", "previous", "has_unit", "registers", "drawn"):
            assert torch.equal(*(getattr(sampler, part) for sampler in samplers)), part
        scores = [sampler.log_likelihood for sampler in samplers]
        assert torch.allclose(*scores, atol=1e-4)


def test_senseless_logits_are_drawn_from_without_harm(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    torch.nn.init.constant_(model.lm_head.linears[0].weight, float("nan"))
    decoder, sampler = NativeDecoder(model), Sampler(plain_vocabulary, 2)
    for slot, temperature in enumerate((0, 1)):
        settings = Sampling(temperature=temperature, top_p=0.9, typical_p=0.9)
        sampler.enter(slot, settings, seed=(slot,), prompt=np.array([[1]]))
    sampler.prepare([0, 1])
    drawn = decoder.open(2).run(torch.arange(2), torch.ones(2, 1, dtype=torch.long), sampler)
    assert ((drawn >= 2) & (drawn < 24)).all()  # neither BOS nor PAD


@pytest.mark.parametrize("weights", WEIGHTS)
def test_what_is_no_number_does_not_vanish(tiny, plain_vocabulary, weights):
    model = tiny(plain_vocabulary, activation="relu")
    with torch.no_grad():
        model.embedding.tables[0].weight[5, 3] = float("nan")
    pool = NativeDecoder(model, weights).open(2)
    (logits,) = pool.advance(torch.arange(2), torch.tensor([[4], [5]]))
    assert logits[0].isfinite().all()
    assert logits[1].isnan().all()


def test_draws_that_were_not_announced_are_refused(tiny, plain_vocabulary):
    decoder, sampler = NativeDecoder(tiny(plain_vocabulary)), Sampler(plain_vocabulary, 2)
    sampler.enter(0, Sampling(), seed=(0,), prompt=np.array([[1]]))
    sampler.prepare([0], 2)
    pool, slots, tokens = decoder.open(2), torch.tensor([0]), torch.tensor([[1]])
    assert pool.run(slots, tokens, sampler, 2).shape == (2, 1, 1)
    with pytest.raises(ValueError, match="not prepared"):
        pool.run(slots, tokens, sampler)


@pytest.mark.parametrize("decay", ["none", "fixed"])
def test_pytorchs_matrices_with_compiled_attention_compute_the_same(tiny, toy_vocabulary, decay):
    model = tiny(toy_vocabulary, positions="bars", decay=decay)
    decoder, tokens = NativeDecoder(model, decay_after=4), random_tokens(toy_vocabulary, 3, 9)
    slots = torch.tensor([5, 1, 2])
    torch.set_num_threads(2)
    ours = walk(NativeMixedPool(decoder, 6), tokens, slots)
    theirs = walk(NativePool(decoder, 6, threads=2), tokens, slots)
    assert distance(ours, theirs) < 1e-5


@pytest.mark.slow
def test_every_set_of_instructions_gives_the_same(tiny, plain_vocabulary, tmp_path):
    model = tiny(plain_vocabulary, d_model=64)
    torch.save([model.config, plain_vocabulary, model.state_dict()], tmp_path / "model.pt")
    known = ["baseline", "avx2", "avx512", "avx512_vnni"]
    here = known[: known.index(instructions()) + 1]
    code = f"""
import os
import torch
from seqgen.decoding.native import NativeDecoder
from seqgen.model.sequence_model import SequenceModel
config, vocabulary, weights = torch.load({str(tmp_path / "model.pt")!r}, weights_only=False)
model = SequenceModel(config, vocabulary)
model.load_state_dict(weights)
for name in {here}:
    if os.fork() == 0:  # a process of its own, since the choice is made at the first use
        os.environ["SEQGEN_CPU"] = name
        tokens, slots, logits = torch.arange(3, 12)[:, None], torch.arange(9), []
        for kind in ("float32", "w8a8"):
            pool = NativeDecoder(model.eval(), kind).open(9)
            logits += [pool.advance(slots, tokens + i)[0].clone() for i in range(3)]
        torch.save(logits, {str(tmp_path)!r} + "/" + torch.ops.seqgen.instructions())
        break
    os.wait()
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    first, *others = (torch.load(tmp_path / name, weights_only=True) for name in here)
    for other in others:
        assert distance(other[:3], first[:3]) < 1e-5
        assert distance(other[3:], first[3:]) < 2e-2  # a step of rounding may go the other way


def test_impossible_steps_are_refused_and_change_nothing(tiny, plain_vocabulary):
    decoder = NativeDecoder(tiny(plain_vocabulary, positions="learned", max_positions=2))
    pool, one = decoder.open(2), torch.tensor([0])
    for slots, token, said in (
        (torch.tensor([2]), 3, "no slot 2"),
        (torch.tensor([-1]), 3, "no slot -1"),
        (one, 24, "id 24 is not among the 24"),
        (one, -1, "id -1"),
    ):
        with pytest.raises(RuntimeError, match=said):
            pool.advance(slots, torch.tensor([[token]]))
    assert int(pool.position.sum()) == 0
    for _ in range(2):
        pool.advance(one, torch.tensor([[3]]))
    with pytest.raises(RuntimeError, match="position 2 is beyond the 2 learned"):
        pool.advance(one, torch.tensor([[3]]))


def test_models_and_weights_that_it_does_not_know_are_refused(tiny, plain_vocabulary):
    with pytest.raises(UserError, match="attention=softmax"):
        NativeDecoder(tiny(plain_vocabulary, attention="softmax"))
    with pytest.raises(UserError, match="does not support int4 weights"):
        NativeDecoder(tiny(plain_vocabulary), "int4")
    with pytest.raises(UserError, match="up to 1024 features, not 1040"):
        NativeDecoder(tiny(plain_vocabulary, d_model=520, n_heads=1, feature_map="dpfp"))
    many = Vocabulary(tuple(Field(str(i), 4) for i in range(33)), bos_id=1, eos_id=2, pad_id=0)
    with pytest.raises(UserError, match="up to 32 fields, not 33"):
        NativeDecoder(tiny(many))


def test_a_model_in_bfloat16_is_taken(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, positions="learned", max_positions=9).bfloat16()
    tokens, slots = random_tokens(plain_vocabulary, 2, 5), torch.arange(2)
    ours, theirs = (
        walk(kind(model).open(2), tokens, slots) for kind in (NativeDecoder, TorchDecoder)
    )
    assert distance(ours, theirs) < 1e-5
