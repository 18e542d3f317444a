"""What is drawn goes forward: no part comes twice in a bar, no position goes back."""

import itertools

import numpy as np
import pytest
import torch
from ordered import MERGED, at_random, bars, goes_forward
from sampling_cases import bos, draw, draws, random_logits

from seqgen.sampling import Sampler, SamplerState, Sampling
from seqgen.vocabulary import ANY, KEEP, RESET

SETTINGS = [Sampling(), Sampling(temperature=3), Sampling(temperature=0), Sampling(top_k=2)]


@pytest.mark.parametrize("merged", [[], MERGED], ids=["plain", "merged"])
@pytest.mark.parametrize("sampling", SETTINGS, ids=lambda s: f"{s.temperature}-{s.top_k}")
def test_bars_parts_and_positions_go_forward(merged, sampling):
    v, parts = bars(merged)
    for seed in range(5):
        drawn = draws(v, sampling, n=80, seed=(seed,))[:, 0].tolist()
        drawn = list(itertools.takewhile(lambda i: i != v.eos_id, drawn))
        assert goes_forward([token for i in drawn for token in parts[i]])


def test_without_the_grammar_nothing_keeps_the_order():
    v, parts = bars()
    drawn = draws(v, Sampling(grammar=False), n=80)[:, 0].tolist()
    assert not goes_forward([token for i in drawn for token in parts[i]])


@pytest.mark.parametrize("seed", range(12))
def test_random_grammars_are_kept_and_the_state_is_that_of_all_ids_so_far(seed):
    v = at_random(seed)
    sampler, ids = Sampler(v, 2), [v.bos_id]
    sampler.enter(1, Sampling(), seed=(seed,), prompt=bos(v))
    for step in range(60):
        registers = sampler.state(1).registers
        assert registers == v.grammar.registers_after(np.array(ids))
        has_unit = np.array([any(v.grammar.units[i] for i in ids)])
        allowed = v.allowed(
            np.array([[ids[-1]]]), has_unit=has_unit, registers=np.array([registers])
        )[0]
        (drawn,) = draw(sampler, random_logits(v, 1, step), [1])[0].tolist()
        assert allowed[drawn]
        needs = v.grammar.needs[drawn]
        assert all(need > now for need, now in zip(needs, registers, strict=True))
        ids.append(drawn)


def test_a_prompt_says_where_the_bar_stands():
    v, parts = bars([])
    prompt = [[parts.index([token])] for token in ("bos", "bar", "part 1", "position 2", "note")]
    assert SamplerState.first(v, Sampling(), seed=(0,), prompt=np.array(prompt)).registers == (1, 2)
    flat = [torch.zeros(1, v.sizes[0])]
    drawn = {int(draws(v, Sampling(), logits=flat, seed=(i,), prompt=prompt)) for i in range(50)}
    assert {parts[i][0] for i in drawn} == {"note", "bar", "eos", "part 2", "position 3"}


def test_where_no_id_is_left_in_order_the_stream_ends():
    v = at_random(0)
    needs = [(0,)] * 24
    needs[v.eos_id] = (ANY,)
    grammar = v.grammar.__class__(
        first=(0,) * 24,
        last=(0,) * 24,
        follows=((True,),),
        units=(False,) * 24,
        needs=tuple(needs),
        sets=((KEEP,),) * 5 + ((0,),) * 19,
    )
    v = v.__class__(v.fields, bos_id=1, eos_id=2, pad_id=0, grammar=grammar)
    logits = [10 * torch.eye(24)[[5]]]
    assert draws(v, Sampling(temperature=0), logits=logits, n=2)[:, 0].tolist() == [5, v.eos_id]
    free = Sampling(temperature=0, grammar=False)
    assert draws(v, free, logits=logits, n=2)[:, 0].tolist() == [5, 5]


def test_streams_in_one_batch_keep_their_own_order():
    v, _ = bars()
    crowd = Sampler(v, 6)
    settings = [SETTINGS[i % 4] if i != 4 else Sampling(grammar=False) for i in range(6)]
    for slot, sampling in enumerate(settings):
        crowd.enter(slot, sampling, seed=(3, slot), prompt=bos(v))
    logits = [random_logits(v, 6, step) for step in range(30)]
    together = torch.stack([draw(crowd, step, range(6)) for step in logits])
    for row, sampling in enumerate(settings):
        alone = Sampler(v, 2)
        alone.enter(1, sampling, seed=(3, row), prompt=bos(v))
        expected = [draw(alone, [step[0][row : row + 1]], [1]) for step in logits]
        assert torch.equal(together[:, row], torch.cat(expected))


def test_nothing_of_an_earlier_stream_remains():
    v, _ = bars()
    sampler = Sampler(v, 1)
    sampler.enter(0, Sampling(), seed=(0,), prompt=bos(v))
    for step in range(9):
        draw(sampler, random_logits(v, 1, step), [0])
    assert sampler.state(0).registers != (RESET, RESET)
    sampler.enter(0, Sampling(), seed=(0,), prompt=bos(v))
    assert sampler.state(0).registers == (RESET, RESET)


def test_an_ordered_draw_reads_no_number_back():
    v, _ = bars()
    sampler = Sampler(v, 2, device="meta")
    for slot in range(2):
        sampler.enter(slot, Sampling(), seed=(0,), prompt=bos(v))
    sampler.prepare(range(2), 1)
    logits = [torch.zeros(2, v.sizes[0], device="meta")]
    assert sampler.draw(logits, torch.arange(2, device="meta")).shape == (2, 1)
