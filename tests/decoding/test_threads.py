"""An engine serves any number of threads: each stream is what it is in one thread, and alone."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from decoders import EXACT
from streams import ENDLESS, Asked, assert_drew_as_alone, ids

from seqgen.decoding import Engine
from seqgen.decoding.turns import Turns
from seqgen.errors import UserError
from seqgen.sampling import Sampling

N_THREADS, N_STREAMS = 4, 10  # streams of each thread, at least
RACES = (
    "has not begun",
    "not a mark of stream",
    "ended with EOS",
)  # what another thread may have caused


@pytest.fixture
def _switching():
    """Let threads take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def a_recent_one(things, rng):
    return things[-1 - rng.integers(min(len(things), 16))]


def do_everything(engine, there, marks, seed):
    """Submit streams, and mark, fork, rewind and cancel any thread's, until all has been done."""
    rng = np.random.default_rng((7, seed))
    n_submitted, done = 0, set()
    while n_submitted < N_STREAMS or len(done) < 4:
        if rng.random() < 0.25:
            asked = Asked.at_random(engine.decoder.vocabulary, rng, 1000 * seed + n_submitted)
            asked.stream = asked.submit(engine)
            there.append(asked)
            n_submitted += 1
        if not there:
            continue
        asked, what = a_recent_one(there, rng), rng.integers(12)
        try:
            if what == 0:
                engine.cancel(asked.stream)
                done.add("cancel")
            elif what < 7:
                marks.append((asked, engine.session(asked.stream)))
                done.add("mark")
            elif what < 9 and asked.parent is None:
                session = engine.session(asked.stream)
                there.append(asked.fork(engine, session, int(rng.integers(1, 9))))
                done.add("fork")
            elif marks:
                asked, session = a_recent_one(marks, rng)
                if asked.n_rewinds < 3:
                    engine.rewind(asked.stream, session)
                    asked.n_rewinds += 1
                    done.add("rewind")
        except UserError as error:
            if not any(race in str(error) for race in RACES):
                raise


def assert_is_the_mark_of_a_single_thread(mark, expected):
    assert np.array_equal(mark.pending, expected.pending)
    assert (mark.position, mark.n_drawn) == (expected.position, expected.n_drawn)
    for name, value in vars(expected.sampler).items():
        ours = getattr(mark.sampler, name)
        same = torch.equal(ours, value) if isinstance(value, torch.Tensor) else ours == value
        assert same, name
    pairs = zip(mark.state.attention, expected.state.attention, strict=True)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)
    assert torch.allclose(mark.state.recent, expected.state.recent, atol=1e-5)


@pytest.mark.usefixtures("_switching")
@pytest.mark.parametrize("build", EXACT)
def test_threads_that_do_everything_at_random_change_no_stream(
    tiny, plain_vocabulary, monkeypatch, build
):
    monkeypatch.setattr("seqgen.decoding.prompts.PIECE", 5)
    decoder = build(tiny(plain_vocabulary, d_model=16, n_layers=1, n_heads=2))
    engine = Engine(decoder, max_streams=8, prefill_tokens=9)
    there, marks, no_more = [], [], threading.Event()

    def keep_stepping():
        while not no_more.is_set() or engine.step():
            engine.step()

    with ThreadPoolExecutor(N_THREADS + 2) as threads:
        stepping = [threads.submit(keep_stepping) for _ in range(2)]
        asking = [threads.submit(do_everything, engine, there, marks, i) for i in range(N_THREADS)]
        try:
            for thread in asking:
                thread.result()
        finally:
            no_more.set()
        for thread in stepping:
            thread.result()
    assert (engine.n_running, engine.n_waiting) == (0, 0)
    for asked in there:
        assert asked.stream.finished in ("eos", "length", "cancelled")
        assert_drew_as_alone(asked, decoder)
        own = {mark.n_drawn: mark for whose, mark in marks if whose is asked}
        single, stream = asked.begin_alone(decoder)
        while stream.finished is None:
            if stream.slot is not None and stream.n_tokens + asked.forked_at in own:
                expected = single.session(stream)
                assert_is_the_mark_of_a_single_thread(own.pop(expected.n_drawn), expected)
            single.step()
        assert set(own) <= {asked.forked_at}  # marks from before the first step of a fork


def test_a_request_is_carried_out_between_the_steps_of_another_thread(decoder, bos):
    engine, seen = Engine(decoder), []

    def ask(stream, token):
        if stream.n_tokens == 2:
            threads.append(thread := threading.Thread(target=cancel))
            thread.start()
            while not engine._turns.n_waiting:
                pass
        seen.append(other.finished)

    def cancel():
        engine.cancel(other)

    threads, sampling = [], Sampling(logit_bias=ENDLESS)
    asking = engine.submit(bos, sampling=sampling, max_tokens=5, on_token=ask)
    other = engine.submit(bos, sampling=sampling, max_tokens=5)
    engine.run()
    threads[0].join()
    assert seen == [None, None, "cancelled", "cancelled", "cancelled"]
    assert (len(ids(asking)), len(ids(other))) == (5, 2)


def test_turns_come_in_the_order_in_which_threads_asked():
    turns, order, threads = Turns(), [], []

    def ask(i):
        with turns, turns:
            order.append(i)

    with turns:
        for i in range(5):
            threads.append(threading.Thread(target=ask, args=(i,)))
            threads[-1].start()
            while turns.n_waiting <= i:
                pass
        with turns:  # whose turn it is enters again at once
            order.append("first")
    ask("last")
    for thread in threads:
        thread.join()
    assert order == ["first", 0, 1, 2, 3, 4, "last"]


def test_an_interrupted_wait_blocks_nobody(monkeypatch):
    turns, errors = Turns(), []

    def interrupt(condition):
        raise KeyboardInterrupt

    def ask():
        try:
            with turns:
                pass
        except KeyboardInterrupt as error:
            errors.append(error)

    with turns:
        monkeypatch.setattr(turns._changed, "wait_for", interrupt)
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        monkeypatch.undo()
    assert len(errors) == 1
    ask()
    assert turns.n_waiting == 0
