"""Streams of a player: what they draw does not depend on who else listens, and they end at once."""

import threading

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")

from seqgen.api.model import load
from seqgen.api.prompts import Until, read_prompts
from seqgen.decoding import EngineFull
from seqgen.decoding.guided import Guidance
from seqgen.errors import UserError
from seqgen.sampling import Sampling
from seqgen.serving.engines import Bookmarks, Pace, Player
from seqgen.serving.problems import Limits


@pytest.fixture(scope="module")
def model(runs):
    return load(runs / "band", device="cpu")


@pytest.fixture
def player(model):
    player = Player(model, Limits())
    yield player
    player.close()


class Listener:
    """One who listens: what came, and how it ended."""

    def __init__(self, player, *, seed=0, bars=None, max_tokens=200, rule=None, guidance=None):
        self.tokens, self.error, self.over = [], None, threading.Event()
        [prompt] = read_prompts((), player.model.tokenizer, bars=None)
        self.voice = player.write(
            prompt.ids,
            rule or Until(prompt, bars),
            on_token=self.tokens.append,
            on_end=self._end,
            max_tokens=max_tokens,
            sampling=Sampling(),
            seed=seed,
            guidance=guidance,
        )

    def _end(self, stream, error):
        self.error, self.reason = error, stream and stream.finished
        self.over.set()

    def wait(self):
        assert self.over.wait(60)
        return np.concatenate(self.tokens).tolist()


def test_a_server_for_one_stream_guides_it_too(model):
    player = Player(model, Limits(max_streams=1))
    [prompt] = read_prompts((), model.tokenizer, bars=None)
    streams = [Listener(player, seed=k, bars=2, guidance=Guidance(prompt.ids, 2.0)) for k in (1, 2)]
    drawn = [stream.wait() for stream in streams]
    assert drawn == [Listener(player, seed=k, bars=2).wait() for k in (1, 2)]  # the same prompt
    player.close()


def test_a_time_limit_ends_a_bar_that_is_drawn_again_and_again(model):
    class Never(Until):
        is_passive, tries = False, 10**6

        def take(self, token):
            self.latest = int(token[0])
            return False

        def review(self):
            return 0.0 if self.latest in model.tokenizer.vocabulary.anchors else None

    player = Player(model, Limits(max_seconds=0.5))
    [prompt] = read_prompts((), model.tokenizer, bars=None)
    listener = Listener(player, rule=Never(prompt, None), max_tokens=10**6)
    assert listener.over.wait(60)
    assert "not done after 0.5 seconds" in str(listener.error)
    player.close()


def test_a_stream_beside_twenty_others_is_the_stream_alone(player):
    alone = Listener(player, seed=3).wait()
    others = [Listener(player, seed=100 + k) for k in range(20)]
    assert Listener(player, seed=3).wait() == alone
    for other in others:
        other.wait()
    assert player.is_idle


def test_a_cancelled_stream_ends_and_its_slot_is_free(player):
    listener = Listener(player, max_tokens=100_000)
    player.cancel(listener.voice)
    assert listener.over.is_set()
    assert (listener.reason, listener.error) == ("cancelled", None)
    assert player.engine.n_running == player.engine.n_waiting == 0
    player.cancel(listener.voice)


def test_the_queue_is_bounded(model):
    player = Player(model, Limits(max_streams=1, max_waiting=1))
    first = Listener(player, max_tokens=100_000)
    while player.engine.n_running == 0:
        pass
    Listener(player, max_tokens=100_000)
    with pytest.raises(EngineFull, match="try again later"):
        Listener(player)
    player.cancel(first.voice)
    player.close()
    assert player.is_idle


def test_streams_beyond_the_measured_capacity_wait(model):
    player = Player(model, Limits(tokens_per_second=1e9, max_waiting=2))  # enough for one stream
    first = Listener(player, max_tokens=100_000)
    while player.room > 1:  # until a step was measured
        pass
    others = [Listener(player, max_tokens=5) for _ in range(2)]
    with pytest.raises(EngineFull, match="try again later"):
        Listener(player)
    assert (player.engine.n_running, player.engine.n_waiting) == (1, 2)
    player.cancel(first.voice)
    for other in others:
        other.wait()
    player.close()


def test_the_capacity_follows_the_rate():
    pace = Pace(25.0)
    assert pace.room is None
    for _ in range(1000):
        pace.note(10, 0.02)
    assert pace.room == 20
    for _ in range(1000):
        pace.note(10, 0.2)
    assert (pace.room, pace.rate) == (2, pytest.approx(50))
    for _ in range(1000):
        pace.note(1, 0.2)
    assert pace.room == 1


def test_a_rule_that_fails_ends_its_own_stream_alone(player, caplog):
    class Broken(Until):
        def take(self, token):
            raise ZeroDivisionError("broken")

    [prompt] = read_prompts((), player.model.tokenizer, bars=None)
    other = Listener(player, seed=3)
    listener = Listener(player, rule=Broken(prompt, None))
    assert listener.over.wait(60)
    assert isinstance(listener.error, UserError)
    other.wait()
    assert other.error is None
    assert "ZeroDivisionError" in caplog.text


def test_a_stream_that_takes_too_long_ends(model):
    player = Player(model, Limits(max_seconds=1e-9))
    listener = Listener(player)
    assert listener.over.wait(60)
    assert "ask for less" in str(listener.error)
    player.close()


def test_an_engine_that_fails_ends_all_and_goes_on(player, monkeypatch, caplog):
    step = player.engine.step

    def fail():
        monkeypatch.setattr(player.engine, "step", step)
        raise MemoryError("no room")

    monkeypatch.setattr(player.engine, "step", fail)
    listener = Listener(player)
    assert listener.over.wait(60)
    assert "MemoryError" in str(listener.error)
    Listener(player).wait()


def test_bookmarks_stay_within_their_bound(model):
    state = model.decoder.initial_state(1)
    bookmarks = Bookmarks(3 * state.nbytes)
    for name in (b"a", b"b", b"c", b"a", b"d"):
        bookmarks.put(name, state)
    assert [bookmarks.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]
