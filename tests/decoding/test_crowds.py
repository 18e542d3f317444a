"""A stream draws in a crowd what it draws alone."""

from dataclasses import dataclass

import numpy as np
import pytest
from decoders import DECODERS
from streams import SETTINGS, ids, make_prompt

from seqgen.decoding import Engine, ReferenceDecoder, Stream
from seqgen.sampling import Sampling


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
