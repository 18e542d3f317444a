"""Recorded steps do what the steps themselves do, whatever the tensors hold by then.

Without a GPU, a tape stands for a CUDA graph.
"""

from concurrent.futures import Future, wait
from functools import partial
from threading import Event

import numpy as np
import pytest
import torch
from making import random_tokens
from tapes import Tape, TapeRecorder

from seqgen.decoding import Engine, cuda
from seqgen.decoding.cuda import (
    ChosenPool,
    CudaDecoder,
    CudaRecorder,
    DrawKernel,
    GraphPool,
    step_kinds,
)
from seqgen.decoding.fused import TorchDecoder, TorchPool
from seqgen.errors import UserError
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.sampling import Sampler, Sampling

C = 5
ENDLESS = {2: -1e6}  # a bias under which EOS is never drawn


class Decoder(TorchDecoder):
    """What `CudaDecoder` is, with tapes."""

    steps_per_call = 3

    def open(self, n_slots):
        self.recorder = TapeRecorder()
        return GraphPool(TorchPool(self, n_slots), self.recorder)


def streams(decoder, settings, *, scored=False):
    """A pool and a sampler with a stream in each of C slots."""
    vocabulary = decoder.vocabulary
    pool, sampler = decoder.open(C), Sampler(vocabulary, C, scored=scored)
    pool.write(torch.arange(C), decoder.initial_state(C))
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    for slot in range(C):
        sampler.enter(slot, settings[slot % len(settings)], seed=(0, slot), prompt=bos)
    return pool, sampler


def run(pool, sampler, slots, tokens, n_steps):
    sampler.prepare(slots, n_steps)
    return pool.run(torch.tensor(slots), tokens, sampler, n_steps)


PLANS = [  # slots and steps of each run; the third of a kind is replayed
    [([0, 1], 2)] * 4,
    [([0, 1], 2), ([3, 1], 2), ([4, 2], 2), ([1, 0], 2), ([2, 3], 1), ([0, 4], 1), ([1, 3], 1)],
    [([0], 3), ([0, 1, 2, 3, 4], 1), ([4], 3), ([4, 3, 2, 1, 0], 1), ([2], 3), ([0, 2, 4], 2)],
]
SETTINGS = [
    [Sampling()],
    [Sampling(temperature=0), Sampling(top_k=3, min_p=0.05)],
    [Sampling(top_p=0.9, repetition_penalty=1.4, logit_bias=ENDLESS), Sampling(typical_p=0.8)],
]
CHOICES = [
    {"positions": "learned", "max_positions": 64},
    {"positions": "bars", "conv_width": 3},
    {"feature_map": "hedgehog", "conv_width": 0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "greedy and top-k", "others"])
@pytest.mark.parametrize(("plan", "choices"), list(zip(PLANS, CHOICES, strict=True)), ids=str)
def test_replayed_runs_draw_what_single_steps_draw(tiny, toy_vocabulary, plan, choices, settings):
    model = tiny(toy_vocabulary, **choices)
    expected, mine = (
        streams(decoder(model), settings, scored=True) for decoder in (TorchDecoder, Decoder)
    )
    tokens = torch.from_numpy(np.repeat(toy_vocabulary.special_token(1)[None], C, 0))
    for slots, n_steps in plan:
        drawn = run(*expected, slots, tokens[slots], n_steps)
        assert torch.equal(run(*mine, slots, tokens[slots], n_steps), drawn)
        tokens[slots] = drawn[-1]
    states = [pool.read(torch.arange(C)) for pool, _ in (expected, mine)]
    torch.testing.assert_close(states[1].S, states[0].S, atol=1e-5, rtol=1e-5)
    assert torch.equal(states[1].position, states[0].position)
    torch.testing.assert_close(mine[1].log_likelihood, expected[1].log_likelihood)


def test_the_second_run_of_a_kind_is_recorded_and_later_ones_are_replayed(tiny, plain_vocabulary):
    decoder = Decoder(tiny(plain_vocabulary))
    pool, sampler = streams(decoder, [Sampling()])
    tokens = torch.ones(2, 1, dtype=torch.int64)
    counts = []
    for slots in ([0, 1], [2, 3], [1, 4], [0, 2]):
        run(pool, sampler, slots, tokens, 2)
        recorder = decoder.recorder
        counts.append((recorder.n_warm, recorder.n_recorded, recorder.n_replayed))
    assert counts == [(1, 0, 0), (1, 1, 1), (1, 1, 2), (1, 1, 3)]
    run(pool, sampler, [0, 1], tokens, 1)  # of another kind
    assert recorder.n_warm == 2


def test_settings_that_change_are_heeded(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    both = [streams(decoder(model), [Sampling()]) for decoder in (TorchDecoder, Decoder)]
    bos = plain_vocabulary.special_token(1)[None]
    greedy = [
        Sampling(temperature=0),
        Sampling(temperature=0, repetition_penalty=50),
        *(  # the bias is allocated by the first one, then its values change
            Sampling(temperature=0, logit_bias={i: -1e6 for i in range(24) if i != allowed})
            for allowed in (9, 11)
        ),
    ]
    drawn = []
    for sampling in [*greedy, *greedy]:
        for pool, sampler in both:
            pool.write(torch.tensor([0]), RecurrentModel(model).initial_state(1))
            sampler.enter(0, sampling, seed=(0, 0), prompt=bos)
            for other in range(1, C):
                sampler.leave(other)
        runs = [
            [int(run(pool, sampler, [0], torch.tensor([[7]]), 1)) for _ in range(4)]
            for pool, sampler in both
        ]
        assert runs[0] == runs[1]
        drawn.append(runs[0])
    assert drawn[0] != drawn[1]
    assert drawn[2:4] == [[9] * 4, [11] * 4]


def test_what_was_drawn_is_not_overwritten(tiny, plain_vocabulary):
    pool, sampler = streams(Decoder(tiny(plain_vocabulary)), [Sampling()])
    tokens = torch.ones(1, 1, dtype=torch.int64)
    drawn = [run(pool, sampler, [0], tokens, 4) for _ in range(5)]
    kept = [x.clone() for x in drawn]
    run(pool, sampler, [1], tokens, 4)
    assert all(torch.equal(x, y) for x, y in zip(drawn, kept, strict=True))


def test_logits_without_draws_are_recorded_too(tiny, toy_vocabulary):
    model = tiny(toy_vocabulary)
    pools = [d.open(C) for d in (TorchDecoder(model), Decoder(model))]
    tokens = random_tokens(toy_vocabulary, 2, 4)
    for pool in pools:
        pool.write(torch.arange(C), RecurrentModel(model).initial_state(C))
    for t, slots in enumerate(([0, 1], [3, 1], [1, 2], [0, 3])):
        logits = [pool.advance(torch.tensor(slots), tokens[:, t]) for pool in pools]
        for a, b in zip(*logits, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_another_sampler_is_not_taken_for_the_first(tiny, plain_vocabulary):
    decoder = Decoder(tiny(plain_vocabulary))
    pool, first = streams(decoder, [Sampling(temperature=0)])
    tokens = torch.ones(1, 1, dtype=torch.int64)
    for _ in range(3):
        run(pool, first, [0], tokens, 1)
    _, second = streams(decoder, [Sampling(temperature=0)])
    run(pool, second, [0], tokens, 1)
    assert int(second.drawn[0]) == 1


def test_only_so_many_graphs_are_kept(tiny, plain_vocabulary, monkeypatch):
    monkeypatch.setattr(cuda, "MAX_GRAPHS", 2)
    decoder = Decoder(tiny(plain_vocabulary))
    pool, sampler = streams(decoder, [Sampling()])
    tokens = torch.ones(1, 1, dtype=torch.int64)
    for n_steps in (1, 2, 1, 3, 1, 2):  # 2 was used least lately when 3 came
        run(pool, sampler, [0], tokens, n_steps)
    assert (decoder.recorder.n_warm, decoder.recorder.n_recorded) == (4, 1)


def test_an_engine_draws_the_same_with_several_steps_per_call(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    bos = plain_vocabulary.special_token(1)[None]

    def tokens(decoder):
        engine = Engine(decoder, max_streams=2)
        settings = Sampling(logit_bias=ENDLESS)
        handles = [
            engine.submit(bos, sampling=settings, max_tokens=n, seed=1) for n in (9, 14, 7, 12)
        ]
        engine.run()
        return [np.stack(stream.tokens).tolist() for stream in handles]

    decoder = Decoder(model)
    assert tokens(decoder) == tokens(TorchDecoder(model))


def test_sums_decay_as_with_the_torch_decoder(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    pools = []
    for decoder in (TorchDecoder(model, decay_after=3), Decoder(model, decay_after=3)):
        pools.append(decoder.open(1))
        pools[-1].write(torch.arange(1), decoder.initial_state(1))
    for token in random_tokens(plain_vocabulary, 1, 8)[0]:
        a, b = (pool.advance(torch.arange(1), token[None])[0] for pool in pools)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


class Costly(TapeRecorder):
    """A recorder under which a replay takes what the pool's kind says, by a stand-in clock."""

    now = 0.0

    def record(self, work):
        replay, results = super().record(work)
        pool = work.func.__self__ if isinstance(work, partial) else None

        def costly():
            self.now += getattr(pool, "seconds", 0.0)
            replay()

        return costly, results


class Choice:
    """A pool that chooses between kinds of steps with given costs, which wait to be compiled."""

    def __init__(self, model, seconds, choices=None, compiled=None, error=None):
        self.may_compile, waiting = Event(), self

        def compile(pool, slots, tokens):
            assert waiting.may_compile.wait(60)
            if error:
                raise error

        kinds = {
            name: type(name, (TorchPool,), {"seconds": cost, "compile": compile})
            for name, cost in seconds.items()
        }
        kinds[next(iter(kinds))].compile = TorchPool.compile
        self.choices = {} if choices is None else choices
        self.recorder, decoder = Costly(), TorchDecoder(model)
        self.pool = ChosenPool(
            decoder,
            C,
            self.recorder,
            kinds=kinds,
            choices=self.choices,
            compiled=compiled,
            clock=lambda: self.recorder.now,
        )
        self.pool.write(torch.arange(C), decoder.initial_state(C))

    def steps(self, n, rows=1, token=7):
        """Logits of n steps, and the names of the kinds that made them."""
        slots, tokens = torch.arange(rows), torch.full((rows, 1), token)
        logits = [self.pool.advance(slots, tokens)[0].clone() for _ in range(n)]
        return logits, list(self.pool._recordings)[-1][0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"torch": 3.0, "kernels": 2.0, "mixed": 2.5}, "kernels"),
        ({"torch": 2.0, "a": 3.0}, "torch"),
    ],
)
def test_the_fastest_kind_of_step_is_taken_once_it_is_compiled(
    tiny, plain_vocabulary, seconds, expected
):
    model = tiny(plain_vocabulary)
    choice = Choice(model, seconds)
    first, by = choice.steps(4)
    assert by == "torch"  # which waits for nothing
    assert not choice.choices
    choice.may_compile.set()
    choice.pool.get_ready(torch.arange(1), torch.full((1, 1), 7))
    assert choice.choices == {1: pytest.approx(seconds)}
    second, by = choice.steps(4)
    assert by == expected
    # The states are the same ones.
    pool = TorchDecoder(model).open(1)
    pool.write(torch.arange(1), TorchDecoder(model).initial_state(1))
    for logits in first + second:
        again = pool.advance(torch.arange(1), torch.full((1, 1), 7))[0]
        torch.testing.assert_close(logits, again, atol=1e-5, rtol=0)


def test_a_choice_holds_for_the_decoder_and_the_number_of_rows(tiny, plain_vocabulary):
    model, seconds = tiny(plain_vocabulary), {"torch": 3.0, "kernels": 2.0}
    choice = Choice(model, seconds)
    choice.may_compile.set()
    for rows in (1, 3, 4):
        choice.pool.get_ready(torch.arange(rows), torch.full((rows, 1), 7))
    assert list(choice.choices) == [1, 4]
    other = Choice(
        model,
        {"torch": 1.0, "kernels": 2.0},
        choices=choice.choices,
        compiled=choice.pool._compiled,
    )
    assert other.steps(1, rows=4)[1] == "kernels"  # neither compiled nor timed again
    assert other.recorder.now == 0


def test_steps_are_not_timed_while_anything_is_compiled(tiny, plain_vocabulary):
    draws: Future[None] = Future()
    seconds, compiled = {"torch": 3.0, "kernels": 2.0}, {"draws": draws}
    choice = Choice(tiny(plain_vocabulary), seconds, compiled=compiled)
    choice.may_compile.set()
    choice.steps(1)
    wait([compiled[1]])
    assert choice.steps(1)[1] == "torch"
    assert not choice.choices
    draws.set_result(None)
    assert choice.steps(1)[1] == "kernels"


def test_where_kernels_do_not_compile_steps_stay_as_they_are(tiny, plain_vocabulary):
    choice = Choice(
        tiny(plain_vocabulary), {"torch": 3.0, "kernels": 2.0}, error=RuntimeError("no ptxas")
    )
    choice.may_compile.set()
    with pytest.warns(UserWarning, match="steps are those of torch.*no ptxas"):
        choice.pool.get_ready(torch.arange(1), torch.full((1, 1), 7))
    assert choice.steps(4)[1] == "torch"


def test_a_kind_that_fails_is_not_taken(tiny, plain_vocabulary):
    choice = Choice(tiny(plain_vocabulary), {"torch": 3.0, "kernels": 2.0})
    choice.may_compile.set()

    def fail(pool, slots, tokens):
        raise RuntimeError("out of memory")

    choice.pool._kinds["kernels"].advance = fail
    with pytest.warns(UserWarning, match="steps of kernels are not used: out of memory"):
        choice.pool.get_ready(torch.arange(1), torch.full((1, 1), 7))
    assert choice.steps(4)[1] == "torch"


def test_draws_are_a_kernels_once_it_is_compiled(tiny, plain_vocabulary):
    def draw(sampler, logits, slots):
        return torch.full((len(slots), 1), 17)

    may_compile, wanted = Event(), []

    def compile_draw(sampler, slots, flags):
        wanted.append(flags)
        assert may_compile.wait(60)

    class Drawing(Decoder):
        def open(self, n_slots):
            kinds, kernel = {"torch": TorchPool}, DrawKernel(draw, compile_draw)
            return ChosenPool(
                self, n_slots, TapeRecorder(), kinds=kinds, choices={}, draw_kernel=kernel
            )

    model, tokens = tiny(plain_vocabulary), torch.ones(2, 1, dtype=torch.int64)
    sampling = [Sampling(logit_bias={17: -1e6})]
    expected, mine = (streams(d(model), sampling) for d in (TorchDecoder, Drawing))
    for _ in range(3):
        drawn = run(*expected, [0, 3], tokens, 1)
        assert torch.equal(run(*mine, [0, 3], tokens, 1), drawn)
    may_compile.set()
    pool, sampler = mine
    pool.get_ready(torch.tensor([0, 3]), tokens, sampler)
    assert wanted == [sampler.flags]
    for _ in range(3):
        assert run(pool, sampler, [0, 3], tokens, 2).flatten().tolist() == [17] * 4


def test_what_cannot_be_recorded_runs_without_a_graph(tiny, plain_vocabulary):
    class Unable(TapeRecorder):
        def record(self, work):
            with Tape() as tape:
                work()
            tape.rewind()  # a capture computes nothing
            raise RuntimeError("operation not permitted when stream is capturing")

    class Ungraphed(Decoder):
        def open(self, n_slots):
            return GraphPool(TorchPool(self, n_slots), Unable())

    model, tokens = tiny(plain_vocabulary), torch.ones(2, 1, dtype=torch.int64)
    expected, mine = (streams(d(model), [Sampling(top_k=4)]) for d in (TorchDecoder, Ungraphed))
    for i in range(4):
        drawn = run(*expected, [0, 3], tokens, 2)
        if i == 1:
            with pytest.warns(UserWarning, match="steps of 2 streams run.*not permitted"):
                same = run(*mine, [0, 3], tokens, 2)
        else:
            same = run(*mine, [0, 3], tokens, 2)
        assert torch.equal(same, drawn)


def test_a_model_on_a_cpu_is_refused(tiny, plain_vocabulary):
    with pytest.raises(UserError, match="the model is on cpu, move it to a GPU"):
        CudaDecoder(tiny(plain_vocabulary))


def test_plain_torch_steps_where_there_are_no_kernels(tiny, plain_vocabulary, monkeypatch):
    decoder = TorchDecoder(tiny(plain_vocabulary))
    assert step_kinds(decoder) == {"torch": TorchPool}
    monkeypatch.setattr(cuda, "HAS_TRITON", False)
    assert step_kinds(decoder) == {"torch": TorchPool}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("choices", [{}, *CHOICES], ids=str)
def test_graphs_on_a_gpu_draw_what_the_torch_decoder_draws(tiny, toy_vocabulary, choices):
    model = tiny(toy_vocabulary, **choices).cuda()
    bos = toy_vocabulary.special_token(1)[None]

    def tokens(decoder):
        engine = Engine(decoder, max_streams=3)
        settings = Sampling(temperature=0.7, logit_bias=ENDLESS)
        handles = [
            engine.submit(bos, sampling=settings, max_tokens=n, seed=1) for n in (40, 33, 50, 47)
        ]
        engine.run()
        return [np.stack(stream.tokens).tolist() for stream in handles]

    assert tokens(CudaDecoder(model)) == tokens(TorchDecoder(model))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graph_is_replayed_on_what_its_tensors_hold_by_then():
    recorder, x = CudaRecorder(torch.device("cuda")), torch.ones(3, device="cuda")
    assert recorder.warm_up(lambda: x + 1).tolist() == [2, 2, 2]
    replay, y = recorder.record(lambda: x.add_(1))
    assert x.tolist() == [1, 1, 1]
    replay()
    replay()
    assert y.tolist() == [3, 3, 3]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_each_kind_of_step_is_timed_and_goes_on_with_the_same_states(
    tiny, plain_vocabulary
):
    model = tiny(plain_vocabulary).cuda()
    decoder, slots = CudaDecoder(model), torch.arange(2, device="cuda")
    tokens = random_tokens(plain_vocabulary, 2, 12).cuda()
    pools = decoder.open(2), TorchDecoder(model).open(2)
    for pool in pools:
        pool.write(slots, decoder.initial_state(2))
    for t in range(12):
        if t == 4:
            pools[0].get_ready(slots, tokens[:, t])
            assert decoder.choices.keys() == {2}
            assert all(0 < seconds < 1 for seconds in decoder.choices[2].values())
        logits, expected = (pool.advance(slots, tokens[:, t])[0] for pool in pools)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
