"""Targets are written for their sources: the sources are read once, and are part of the state."""

import numpy as np
import pytest
import torch
from making import random_tokens
from streams import LIVELY, ids, make_prompt, resume, run_out, session_after

from seqgen.decoding import Engine, Session, build_decoder, continuations, generate
from seqgen.errors import UserError
from seqgen.sampling import Sampling

GREEDY = Sampling(temperature=0, grammar=False, logit_bias={2: -1e6})
LENGTHS = (7, 1, 4)


@pytest.fixture(params=["encoder-decoder", "decoder"])
def model(request, tiny, plain_vocabulary):
    """Both read a source: in both directions, or as a prefix."""
    return tiny(plain_vocabulary, kind=request.param, positions="bar-numbers")


@pytest.fixture
def sources(plain_vocabulary):
    return [random_tokens(plain_vocabulary, 1, n, seed=n)[0].numpy() for n in LENGTHS]


def test_greedy_targets_are_those_of_whole_passes(model, sources, plain_vocabulary):
    prompt = make_prompt(plain_vocabulary, 2)
    steps = generate(
        build_decoder(model), [prompt] * 3, sources=sources, sampling=GREEDY, max_tokens=12
    )
    drawn = sorted(continuations(steps), key=lambda found: found.row)
    for source, found in zip(sources, drawn, strict=True):
        tokens = prompt
        for _ in range(12):
            with torch.no_grad():
                state = model.begin(torch.from_numpy(source)[None], torch.tensor([len(source)]))
                hidden, _ = model.run(torch.from_numpy(tokens)[None], state=state)
                scores = model.lm_head(hidden)[0][0, -1]
            scores[:3] = -1e6  # special ids: no sampler draws PAD or BOS
            tokens = np.concatenate([tokens, [[int(scores.argmax())]]])
        assert found.tokens.tolist() == tokens[2:].tolist()
    assert len({found.tokens.tobytes() for found in drawn}) == 3


def test_equal_sources_are_read_once(model, sources, plain_vocabulary):
    decoder, read = build_decoder(model), []
    begin = decoder.begin
    decoder.begin = lambda *given: read.append(1) or begin(*given)
    engine = Engine(decoder)
    for number in range(4):
        engine.submit(make_prompt(plain_vocabulary), source=sources[number % 2], max_tokens=3)
    engine.run()
    assert len(read) == 2


def test_a_session_keeps_its_source(model, sources, plain_vocabulary, tmp_path):
    decoder = build_decoder(model)
    begin = {"sampling": LIVELY, "max_tokens": 17, "source": sources[0]}
    whole = Engine(decoder)
    expected = run_out(whole, whole.submit(make_prompt(plain_vocabulary), **begin))
    engine = Engine(decoder)
    stream = engine.submit(make_prompt(plain_vocabulary), **begin)
    session = session_after(engine, stream, 5)
    session.save(tmp_path / "a.session")
    loaded = Session.load(tmp_path / "a.session", decoder)
    assert resume(decoder, loaded) == expected[5:]
    first, second = (resume(decoder, fork) for fork in loaded.fork(2))
    assert first != second
    assert run_out(engine, stream) == expected
    engine = Engine(decoder)
    stream = engine.submit(make_prompt(plain_vocabulary), keep=True, **begin)
    mark = session_after(engine, stream, 5)
    engine.run()
    engine.rewind(stream, mark)
    engine.run()
    assert ids(stream) == expected


def test_other_decoders_refuse_an_encoder(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, kind="encoder-decoder")
    for name in ("torch", "native", "onnx"):
        with pytest.raises(UserError, match=r"model\.kind=encoder-decoder is not supported"):
            build_decoder(model, name)
