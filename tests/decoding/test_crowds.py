"""A stream draws in a crowd what it draws alone."""

import numpy as np
import pytest
from decoders import DECODERS
from streams import Asked, assert_drew_as_alone

from seqgen.attention.kinds import KINDS
from seqgen.decoding import Engine, ReferenceDecoder


def run_crowd(decoder, n_streams):
    """Let streams join, leave, fork, rewind and be cancelled, all by chance; return them."""
    rng = np.random.default_rng(5)
    engine = Engine(decoder, max_streams=12, prefill_tokens=9)
    coming = [Asked.at_random(decoder.vocabulary, rng, number) for number in range(n_streams)]
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
            engine.cancel(asked.stream)
        elif what < 3:
            marks.append((asked, engine.session(asked.stream)))
        elif what == 3 and asked.parent is None:
            session = engine.session(asked.stream)
            there.append(asked.fork(engine, session, int(rng.integers(1, 9))))
        elif marks:
            asked, session = marks.pop(rng.integers(len(marks)))
            if asked.n_rewinds < 3 and session.position <= asked.stream.position:
                engine.rewind(asked.stream, session)
                asked.n_rewinds += 1
        is_busy = True
    return there


@pytest.mark.parametrize("build", DECODERS)
def test_140_streams_draw_in_a_crowd_what_each_draws_alone(
    tiny, plain_vocabulary, monkeypatch, build
):
    monkeypatch.setattr("seqgen.decoding.prompts.PIECE", 5)
    decoder = build(tiny(plain_vocabulary, d_model=16, n_layers=1, n_heads=2))
    crowd = run_crowd(decoder, n_streams=140)
    ends = [asked.stream.finished for asked in crowd]
    assert min(ends.count(reason) for reason in ("eos", "length", "cancelled")) > 5
    assert sum(asked.parent is not None for asked in crowd) > 5
    assert sum(asked.n_rewinds for asked in crowd) > 5
    for asked in crowd:
        assert_drew_as_alone(asked, decoder)


@pytest.mark.parametrize("attention", KINDS)
def test_a_crowd_of_several_fields_and_of_kv_caches(tiny, toy_vocabulary, attention):
    decoder = ReferenceDecoder(tiny(toy_vocabulary, n_layers=1, attention=attention))
    for asked in run_crowd(decoder, n_streams=25):
        assert_drew_as_alone(asked, decoder)
