"""Streams of an engine: who is served when, in what bounds, and with what."""

import numpy as np
import pytest
from streams import ENDLESS, SETTINGS, ids, make_prompt

from seqgen.decoding import Engine, EngineFull, ReferenceDecoder
from seqgen.errors import UserError
from seqgen.sampling import Sampling


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


def test_room_can_change_while_streams_run(decoder, bos):
    engine = Engine(decoder, max_streams=3)
    engine.room = 2
    for _ in range(5):
        engine.submit(bos, max_tokens=4, sampling=Sampling(logit_bias=ENDLESS))
    engine.step()
    assert (engine.n_waiting, engine.n_running) == (3, 2)
    engine.room = 1
    engine.step()
    assert engine.n_running == 2
    engine.room = 9
    engine.step()
    assert (engine.n_waiting, engine.n_running) == (2, 3)


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
    engine.cancel(second)
    submit(1)
    engine.run()
    submit(1)

    engine = Engine(decoder, max_streams=1, max_waiting_tokens=12)
    first = submit(7)
    with pytest.raises(EngineFull, match="prompts of 7 tokens are waiting"):
        submit(6)
    engine.cancel(first)
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
    mark = engine.session(stream)
    again = [engine.step() and heard[-1] for _ in range(5)]
    engine.rewind(stream, mark)
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
        marks.append(engine.session(stream))

    sampling = Sampling(logit_bias=ENDLESS)
    inside = engine.submit(bos, on_token=mark, sampling=sampling)
    between = engine.submit(bos, max_tokens=12, sampling=sampling)
    engine.step()
    assert isinstance(inside.error, UserError)
    assert "steps_per_call=1" in str(inside.error)
    session = engine.session(between)
    engine.run()
    assert session.n_drawn == 4
    single = Engine(decoder, steps_per_call=1)
    resumed = single.resume(session, max_tokens=8)
    single.run()
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
        engine.session(stream)
