"""Streams of an engine: alone or in a crowd they draw the same, and none of them harms another."""

from dataclasses import dataclass

import numpy as np
import pytest
from decoders import DECODERS
from making import random_tokens

from seqgen.decoding import Engine, EngineFull, ReferenceDecoder, Stream
from seqgen.errors import UserError
from seqgen.sampling import Sampling

ENDLESS = {2: -1e6}  # a bias under which EOS is never drawn
SETTINGS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=1.3, top_k=4),
    Sampling(top_p=0.8, logit_bias=ENDLESS),
    Sampling(min_p=0.1, repetition_penalty=1.5),
    Sampling(typical_p=0.7, frequency_penalty=0.5),
]


def make_prompt(vocabulary, length=1, seed=0):
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    return np.concatenate([bos, random_tokens(vocabulary, 1, length - 1, seed)[0].numpy()])


@pytest.fixture
def decoder(tiny, plain_vocabulary):
    return ReferenceDecoder(tiny(plain_vocabulary, n_layers=1))


@pytest.fixture
def bos(plain_vocabulary):
    return make_prompt(plain_vocabulary)


def ids(stream):
    return [tuple(token) for token in stream.tokens]


@dataclass
class Asked:
    """One stream of a crowd: what it is, and where it came from if it is a fork."""

    prompt: np.ndarray
    sampling: Sampling
    max_tokens: int
    number: int
    stream: Stream | None = None
    parent: "Asked | None" = None
    forked_at: int = 0
    n_rewinds: int = 0

    def submit(self, engine, **wishes):
        options = {"sampling": self.sampling, "max_tokens": self.max_tokens, **wishes}
        return engine.submit(self.prompt, number=self.number, seed=3, **options)

    def alone(self, decoder):
        """Draw it again with nobody beside it, as far as it got."""
        engine = Engine(decoder, max_streams=1)
        if self.stream.finished == "cancelled":
            self.max_tokens = max(self.stream.n_tokens, 1)
        if self.parent is None:
            stream = self.submit(engine)
        else:
            before = self.parent.submit(engine)
            while before.n_tokens < self.forked_at:
                engine.step()
            fork = before.session().fork(1)[0]
            before.cancel()
            stream = engine.resume(fork, max_tokens=self.max_tokens)
        engine.run()
        return stream


def run_crowd(decoder, n_streams):
    """Let streams join, leave, fork, rewind and be cancelled, all by chance; return them."""
    rng = np.random.default_rng(5)
    engine = Engine(decoder, max_streams=12, prefill_tokens=9)
    coming = [
        Asked(
            make_prompt(decoder.vocabulary, int(rng.integers(1, 14)), seed=int(rng.integers(20))),
            SETTINGS[int(rng.integers(len(SETTINGS)))],
            max_tokens=int(rng.integers(1, 14)),
            number=number,
        )
        for number in range(n_streams)
    ]
    there, marks, is_busy = [], [], True
    while coming or is_busy:
        for asked in coming[: rng.integers(4)]:
            asked.stream = asked.submit(engine)
            there.append(coming.pop(0))
        is_busy = engine.step()
        live = [a for a in there if a.stream.finished is None and a.stream.n_tokens]
        if not live:
            continue
        asked = live[rng.integers(len(live))]
        what = rng.integers(6)
        if what == 0:
            asked.stream.cancel()
        elif what < 3:
            marks.append((asked, asked.stream.session()))
        elif what == 3 and asked.parent is None:
            session = asked.stream.session()
            child = Asked(asked.prompt, asked.sampling, int(rng.integers(1, 9)), -1)
            child.parent, child.forked_at = asked, asked.stream.n_tokens
            child.stream = engine.resume(session.fork(1)[0], max_tokens=child.max_tokens)
            there.append(child)
        elif marks:
            asked, session = marks.pop(rng.integers(len(marks)))
            if asked.n_rewinds < 3 and session.position <= asked.stream.position:
                asked.stream.rewind(session)
                asked.n_rewinds += 1
        is_busy = True
    return there


def test_an_endless_stream_is_rewound_to_where_it_is_and_twice(decoder, bos):
    engine = Engine(decoder)
    stream = engine.submit(bos, max_tokens=None)
    engine.step()
    mark, told = stream.session(), []
    stream.rewind(mark)
    stream.on_token = lambda _, token: told.append(int(token[0]))
    for _ in range(2):
        for _ in range(3):
            engine.step()
        stream.rewind(mark)
        stream.rewind(mark)
    assert told[:3] == told[3:]


def test_an_interrupted_callback_lets_nobody_run_past_its_end(decoder, bos):
    engine, told = Engine(decoder), []

    def interrupt(stream, token):
        if stream.n_tokens == 3:
            raise KeyboardInterrupt

    endless = Sampling(logit_bias={2: -1e6})
    engine.submit(bos, sampling=endless, max_tokens=9, on_token=interrupt)
    other = engine.submit(bos, sampling=endless, max_tokens=3, on_token=lambda _, t: told.append(t))
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert (other.finished, other.n_tokens) == ("length", 3)
    assert engine.n_running == 1


def test_a_callback_cannot_change_what_was_drawn(decoder, bos):
    engine = Engine(decoder)

    def change(stream, token):
        token[:] = 7

    stream = engine.submit(bos, on_token=change)
    engine.run()
    assert stream.finished == "error"
    assert isinstance(stream.error, ValueError)


def test_a_rule_that_cancels_its_stream_is_the_last_word(decoder, bos):
    engine, told = Engine(decoder), []

    def rule(stream, token):
        stream.cancel()
        return True

    stream = engine.submit(bos, stop=rule, on_token=lambda _, token: told.append(token))
    engine.run()
    assert stream.finished == "cancelled"
    assert told == []


@pytest.mark.parametrize("build", DECODERS)
def test_200_streams_draw_in_a_crowd_what_each_draws_alone(
    tiny, plain_vocabulary, monkeypatch, build
):
    monkeypatch.setattr("seqgen.decoding.prompts.PIECE", 5)
    decoder = build(tiny(plain_vocabulary, d_model=16, n_layers=1, n_heads=2))
    crowd = run_crowd(decoder, n_streams=200)
    ends = [asked.stream.finished for asked in crowd]
    assert min(ends.count(reason) for reason in ("eos", "length", "cancelled")) > 5
    assert sum(asked.parent is not None for asked in crowd) > 5
    assert sum(asked.n_rewinds for asked in crowd) > 5
    for asked in crowd:
        alone = asked.alone(decoder)
        if asked.stream.finished == "cancelled":
            assert ids(asked.stream) == ids(alone)[: asked.stream.n_tokens]
        else:
            assert ids(asked.stream) == ids(alone)
            assert asked.stream.finished == alone.finished


@pytest.mark.parametrize("attention", ["causal-linear", "full"])
def test_a_crowd_of_several_fields_and_of_kv_caches(tiny, toy_vocabulary, attention):
    decoder = ReferenceDecoder(tiny(toy_vocabulary, n_layers=1, attention=attention))
    for asked in run_crowd(decoder, n_streams=25):
        alone = asked.alone(decoder)
        assert ids(asked.stream) == ids(alone)[: asked.stream.n_tokens]


def test_who_comes_first_is_served_first(decoder, bos):
    engine, order = Engine(decoder, max_streams=2), []
    for _ in range(6):
        engine.submit(
            bos,
            max_tokens=3,
            sampling=Sampling(logit_bias=ENDLESS),
            on_token=lambda stream, _: order.append(stream.number),
        )
    assert (engine.n_waiting, engine.n_running) == (6, 0)
    engine.step()
    assert (engine.n_waiting, engine.n_running) == (4, 2)
    engine.run()
    assert order == [0, 1] * 3 + [2, 3] * 3 + [4, 5] * 3


def test_the_queue_is_bounded_in_streams_and_tokens(decoder, plain_vocabulary):
    def submit(length):
        return engine.submit(make_prompt(plain_vocabulary, length), max_tokens=1)

    engine = Engine(decoder, max_streams=1, max_waiting=2, max_prompt_tokens=10)
    submit(10)
    with pytest.raises(UserError, match="at most 10"):
        submit(11)
    second = submit(3)
    with pytest.raises(EngineFull, match="2 streams are waiting"):
        submit(1)
    second.cancel()
    submit(1)
    engine.run()
    submit(1)

    engine = Engine(decoder, max_streams=1, max_waiting_tokens=12)
    first = submit(7)
    with pytest.raises(EngineFull, match="prompts of 7 tokens are waiting"):
        submit(6)
    first.cancel()
    submit(6)
    submit(6)
    with pytest.raises(EngineFull, match="prompts of 12 tokens are waiting"):
        submit(1)
    engine.step()
    submit(6)


def test_long_prompts_starve_neither_streams_nor_short_prompts(
    decoder, plain_vocabulary, bos, monkeypatch
):
    monkeypatch.setattr("seqgen.decoding.prompts.PIECE", 8)
    engine = Engine(decoder, prefill_tokens=16)
    endless = Sampling(logit_bias=ENDLESS)
    running = engine.submit(bos, sampling=endless)
    engine.step()
    long = [engine.submit(make_prompt(plain_vocabulary, 81, seed), max_tokens=2) for seed in (1, 2)]
    short = engine.submit(make_prompt(plain_vocabulary, 6), max_tokens=2)
    taken = []
    inner = decoder.prefill
    decoder.prefill = lambda *given: taken.append(int(given[1])) or inner(*given)
    for n_steps in range(1, 4):
        engine.step()
        assert running.n_tokens == 1 + n_steps
        assert sum(taken) < (16 + 8) * n_steps
    assert short.n_tokens > 0
    assert [stream.n_tokens for stream in long] == [0, 0]
    while any(stream.n_tokens == 0 for stream in long):
        engine.step()
    assert sorted(taken) == [5] + 20 * [8]
    taken.clear()
    for seed in range(9):
        engine.submit(make_prompt(plain_vocabulary, 9, 100 + seed), max_tokens=2)
    engine.step()
    assert taken == [8, 8]


def test_equal_prompts_are_prefilled_once_also_for_those_who_wait(decoder, plain_vocabulary):
    calls = []
    inner = decoder.prefill
    decoder.prefill = lambda *given: calls.append(given[1].tolist()) or inner(*given)
    engine = Engine(decoder, max_streams=2)
    same, other = make_prompt(plain_vocabulary, 7), make_prompt(plain_vocabulary, 5, seed=9)
    streams = [engine.submit(prompt, max_tokens=2) for prompt in (same, same, other, same, same)]
    engine.run()
    assert sorted(calls) == [[4], [6]]
    assert all(stream.finished for stream in streams)
    engine.submit(same, max_tokens=1)  # nobody had been waiting with it, so it was not kept
    engine.run()
    assert sorted(calls) == [[4], [6], [6]]


def test_an_error_ends_its_own_stream_alone(decoder, bos):
    def fail(stream, token):
        if stream.n_tokens == 3:
            raise KeyError("mine")

    def run(**wishes):
        engine = Engine(decoder)
        sampling = Sampling(logit_bias=ENDLESS)
        bad = engine.submit(bos, sampling=sampling, max_tokens=8, **wishes)
        good = engine.submit(bos, sampling=sampling, max_tokens=8)
        engine.run()
        return bad, good

    _, undisturbed = run()
    for wishes in ({"stop": fail}, {"on_token": fail}):
        bad, good = run(**wishes)
        assert bad.finished == "error"
        assert bad.n_tokens == 3
        assert isinstance(bad.error, KeyError)
        assert good.finished == "length"
        assert good.error is None
        assert ids(good) == ids(undisturbed)


def test_streams_are_cancelled_wherever_they_are(decoder, plain_vocabulary, bos, monkeypatch):
    monkeypatch.setattr("seqgen.decoding.prompts.PIECE", 4)
    engine = Engine(decoder, max_streams=2, prefill_tokens=4)
    running = engine.submit(bos, max_tokens=50)
    joining = engine.submit(make_prompt(plain_vocabulary, 40), max_tokens=50)
    waiting = engine.submit(bos, max_tokens=5)
    engine.step()
    assert (engine.n_running, engine.n_waiting) == (2, 1)
    for stream in (waiting, joining, running, running):
        stream.cancel()
        assert stream.finished == "cancelled"
        assert stream.start is None  # a handle holds no state
    assert (engine.n_running, engine.n_waiting) == (0, 0)
    assert running.n_tokens == 1
    assert not engine.step()
    last = [engine.submit(bos, max_tokens=5) for _ in range(2)]
    engine.step()
    assert [stream.n_tokens for stream in last] == [1, 1]


def test_callbacks_may_submit_mark_and_cancel_but_not_step(decoder, bos):
    engine = Engine(decoder)
    sampling, marks, born = Sampling(logit_bias=ENDLESS), [], []

    def callback(stream, token):
        marks.append(other.session())
        if stream.n_tokens == 2:
            born.append(engine.submit(bos, max_tokens=2, sampling=sampling))
            other.cancel()
            stream.on_token = lambda *_: engine.step()

    first = engine.submit(bos, sampling=sampling, on_token=callback)
    other = engine.submit(bos, sampling=sampling)
    engine.run()
    assert isinstance(first.error, RuntimeError)
    assert other.finished == "cancelled"
    assert ids(born[0])
    for n, mark in enumerate(marks):  # `other` comes after `first`, and is whole in its callback
        assert mark.n_drawn == n + 1
        assert tuple(mark.pending) == ids(other)[n]


def test_a_token_that_a_callback_took_back_is_told_to_nobody(decoder, bos):
    engine, heard, marks = Engine(decoder), [], []

    def callback(stream, token):
        if stream.n_tokens == 2:
            marks.append(other.session())
        if stream.n_tokens == 4:
            other.rewind(marks[0])

    sampling = Sampling(logit_bias=ENDLESS)
    engine.submit(bos, sampling=sampling, max_tokens=5, on_token=callback)
    other = engine.submit(
        bos, sampling=sampling, max_tokens=5, on_token=lambda s, t: heard.append((s.n_tokens, *t))
    )
    engine.run()
    assert [n for n, _ in heard] == [1, 2, 3, 3, 4, 5]
    assert heard[2] == heard[3]
    assert [token for _, *token in heard[:2] + heard[3:]] == [list(t) for t in other.tokens]


def test_endless_streams_keep_nothing(decoder, bos):
    heard = []
    engine = Engine(decoder)
    stream = engine.submit(
        bos,
        max_tokens=None,
        sampling=Sampling(logit_bias=ENDLESS),
        on_token=lambda _, token: heard.append(tuple(token)),
    )
    for _ in range(20):
        engine.step()
    assert stream.n_tokens == len(heard) == 20
    assert stream.tokens == []
    mark = stream.session()
    again = [engine.step() and heard[-1] for _ in range(5)]
    stream.rewind(mark)
    assert [engine.step() and heard[-1] for _ in range(5)] == again


def several_steps(decoder, n):
    decoder.steps_per_call = n
    return decoder


def test_steps_in_one_call_draw_what_single_steps_do(decoder, plain_vocabulary):
    told = []
    for n_steps in (1, 4):
        engine = Engine(several_steps(decoder, n_steps), max_streams=3)
        streams = [
            engine.submit(
                make_prompt(plain_vocabulary, 1 + i, seed=i),
                sampling=SETTINGS[i % len(SETTINGS)],
                max_tokens=1 + i,
                stop=lambda _, token: token[0] % 8 == 4,
            )
            for i in range(16)
        ]
        engine.run()
        told.append([(ids(stream), stream.finished) for stream in streams])
    assert told[0] == told[1]
    assert {end for _, end in told[0]} == {"stop", "length", "eos"}


def test_sessions_exist_between_calls_of_several_steps_alone(decoder, bos):
    marks, engine = [], Engine(several_steps(decoder, 4))

    def mark(stream, token):
        marks.append(stream.session())

    sampling = Sampling(logit_bias=ENDLESS)
    inside = engine.submit(bos, on_token=mark, sampling=sampling)
    between = engine.submit(bos, max_tokens=12, sampling=sampling)
    engine.step()
    assert isinstance(inside.error, UserError)
    assert "steps_per_call=1" in str(inside.error)
    session = between.session()
    engine.run()
    assert session.n_drawn == 4
    resumed = Engine(decoder, steps_per_call=1).resume(session, max_tokens=8)
    resumed.engine.run()
    assert ids(resumed) == ids(between)[4:]
    with pytest.raises(UserError, match="steps_per_call=1"):
        engine.submit(bos, keep=True)


def test_no_step_of_a_call_is_past_the_positions_there_are(tiny, plain_vocabulary, bos):
    model = tiny(plain_vocabulary, n_layers=1, positions="learned", max_positions=10)
    decoder = several_steps(ReferenceDecoder(model), 4)
    engine = Engine(decoder)
    stream = engine.submit(bos, max_tokens=10, sampling=Sampling(logit_bias=ENDLESS))
    engine.run()
    assert stream.n_tokens == 10
    for max_tokens in (11, None):
        with pytest.raises(UserError, match="exceed the 10 positions"):
            engine.submit(bos, max_tokens=max_tokens)


def test_streams_of_one_prompt_have_series_of_their_own(decoder, bos):
    def draw(**options):
        engine = Engine(decoder)
        sampling = Sampling(logit_bias=ENDLESS)
        streams = [engine.submit(bos, max_tokens=8, sampling=sampling, **options) for _ in "abc"]
        engine.run()
        return [tuple(ids(stream)) for stream in streams]

    assert len(set(draw())) == 3
    assert draw() == draw()
    assert not set(draw()) & set(draw(seed=1))
    assert len(set(draw(number=2))) == 1


def test_impossible_requests_are_refused(decoder, bos):
    engine = Engine(decoder)
    for prompt, options, said in (
        (bos[:0], {}, "begin it with BOS"),
        (np.ones((3, 2), dtype=int), {}, r"shape \(3, 2\)"),
        (np.ones((3, 1)), {}, "float64"),
        (np.array([[1], [24]]), {}, "ids from 1 to 24"),
        (np.array([[1], [-1]]), {}, "ids from -1 to 1"),
        (bos, {"max_tokens": 0}, "max_tokens = 0"),
        (bos, {"seed": -1}, "seed -1"),
        (bos, {"sampling": Sampling(logit_bias={24: 1.0})}, "id 24"),
    ):
        with pytest.raises(UserError, match=said):
            engine.submit(prompt, **options)
    assert engine.n_waiting == 0
    with pytest.raises(UserError, match="max_streams = 0"):
        Engine(decoder, max_streams=0)
    stream = engine.submit(bos)
    with pytest.raises(ValueError, match="another engine"):
        Engine(decoder).cancel(stream)
    with pytest.raises(UserError, match="has not begun"):
        stream.session()
