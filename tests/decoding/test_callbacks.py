"""What rules and callbacks do harms no other stream, and loses nothing."""

import pytest
from streams import ENDLESS, ids, make_prompt

from seqgen.decoding import Engine
from seqgen.sampling import Sampling


def test_an_endless_stream_is_rewound_to_where_it_is_and_twice(decoder, bos):
    engine = Engine(decoder)
    stream = engine.submit(bos, max_tokens=None)
    engine.step()
    mark, told = engine.session(stream), []
    engine.rewind(stream, mark)
    stream.on_token = lambda _, token: told.append(int(token[0]))
    for _ in range(2):
        for _ in range(3):
            engine.step()
        engine.rewind(stream, mark)
        engine.rewind(stream, mark)
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
        engine.cancel(stream)
        return True

    stream = engine.submit(bos, stop=rule, on_token=lambda _, token: told.append(token))
    engine.run()
    assert stream.finished == "cancelled"
    assert told == []


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
        engine.cancel(stream)
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
        marks.append(engine.session(other))
        if stream.n_tokens == 2:
            born.append(engine.submit(bos, max_tokens=2, sampling=sampling))
            engine.cancel(other)
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
            marks.append(engine.session(other))
        if stream.n_tokens == 4:
            engine.rewind(other, marks[0])

    sampling = Sampling(logit_bias=ENDLESS)
    engine.submit(bos, sampling=sampling, max_tokens=5, on_token=callback)
    other = engine.submit(
        bos, sampling=sampling, max_tokens=5, on_token=lambda s, t: heard.append((s.n_tokens, *t))
    )
    engine.run()
    assert [n for n, _ in heard] == [1, 2, 3, 3, 4, 5]
    assert heard[2] == heard[3]
    assert [token for _, *token in heard[:2] + heard[3:]] == [list(t) for t in other.tokens]
