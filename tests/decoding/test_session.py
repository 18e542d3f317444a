"""A session is all of a stream: it goes on exactly, elsewhere too, or is refused with words."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from decoders import PAIRS
from safetensors.torch import save_file

from seqgen.decoding import Engine, ReferenceDecoder, Session
from seqgen.errors import UserError
from seqgen.sampling import Sampling

LIVELY = Sampling(
    temperature=1.2,
    top_k=9,
    repetition_penalty=1.4,
    frequency_penalty=0.3,
    logit_bias={2: -1e6, 7: 0.5},  # EOS is never drawn
)


@pytest.fixture
def decoder(tiny, plain_vocabulary):
    return ReferenceDecoder(tiny(plain_vocabulary, n_layers=1))


def start(decoder, *, max_tokens=20, sampling=LIVELY, **wishes):
    prompt = np.stack([decoder.vocabulary.special_token(i) for i in (1, 4, 5)])
    return Engine(decoder).submit(prompt, sampling=sampling, max_tokens=max_tokens, **wishes)


def session_after(stream, n_tokens):
    while stream.n_tokens < n_tokens:
        stream.engine.step()
    return stream.session()


def ids(stream):
    stream.engine.run()
    return [tuple(token) for token in stream.tokens]


def resume(decoder, session, max_tokens=12):
    return ids(Engine(decoder).resume(session, max_tokens=max_tokens))


@pytest.mark.parametrize(("attention", "build"), PAIRS)
@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary"])
def test_saved_and_loaded_goes_on_exactly(request, tiny, tmp_path, build, name, attention):
    model = tiny(request.getfixturevalue(name), attention=attention, n_layers=1)
    stream = start(build(model))
    session_after(stream, 8).save(tmp_path / "a.session")
    for other in [build for kind, build in PAIRS if kind == attention]:
        decoder = other(model)
        session = Session.load(tmp_path / "a.session", decoder)
        assert (session.n_drawn, session.position) == (8, 10)
        assert resume(decoder, session) == ids(stream)[8:]


def test_a_session_is_not_changed_by_streams(decoder):
    stream = start(decoder)
    session = session_after(stream, 8)
    assert resume(decoder, session) == resume(decoder, session) == ids(stream)[8:]


ELSEWHERE = """
import json
import sys
from pathlib import Path
from safetensors.torch import load_file
from seqgen.config import ModelConfig
from seqgen.decoding import Engine, ReferenceDecoder, Session
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Vocabulary

folder = Path(sys.argv[1])
config, vocabulary = json.loads((folder / "model.json").read_text())
model = SequenceModel(ModelConfig(**config), Vocabulary.from_json(vocabulary))
model.load_state_dict(load_file(folder / "weights"))
decoder = ReferenceDecoder(model.eval())
engine = Engine(decoder)
stream = engine.resume(Session.load(folder / "a.session", decoder), max_tokens=12)
while stream.n_tokens < 4:
    engine.step()
session = stream.session()
engine.run()
print(*[int(token[0]) for token in stream.tokens], flush=True)
while True:
    session.save(folder / "b.session")
    print("saved", flush=True)
"""


def test_another_process_goes_on_exactly_and_may_be_killed_while_it_saves(decoder, tmp_path):
    stream = start(decoder)
    session_after(stream, 8).save(tmp_path / "a.session")
    model = decoder.model
    save_file(model.state_dict(), tmp_path / "weights")
    facts = [model.config.model_dump(), model.vocabulary.to_json()]
    (tmp_path / "model.json").write_text(json.dumps(facts))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        drawn = [(int(word),) for word in process.stdout.readline().split()]
        for _ in range(20):
            process.stdout.readline()
        process.kill()
    assert drawn == ids(stream)[8:]
    assert resume(decoder, Session.load(tmp_path / "b.session", decoder), 8) == drawn[4:]


def test_a_save_that_fails_leaves_the_older_file(decoder, tmp_path, monkeypatch):
    path, stream = tmp_path / "a.session", start(decoder)
    session_after(stream, 3).save(path)
    old = path.read_bytes()
    later = session_after(stream, 6)
    write = Path.write_bytes

    def half(self, content):
        write(self, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        later.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_its_size_is_that_of_the_state_however_long_it_is(decoder, tmp_path):
    stream, sizes = start(decoder, max_tokens=400), []
    for n_tokens in (10, 300):
        session = session_after(stream, n_tokens)
        session.save(tmp_path / "a.session")
        sizes.append((tmp_path / "a.session").stat().st_size)
        assert sizes[-1] < session.state.nbytes + 2500
    assert abs(sizes[0] - sizes[1]) < 20  # a number in the record may be longer


def other_model(decoder, tiny, *, what):
    model = tiny(
        decoder.vocabulary, n_layers=1, **({"attention": "full"} if what == "kind" else {})
    )
    model.load_state_dict(decoder.model.state_dict())
    if what == "weights":
        with torch.no_grad():
            model.heads.heads[0].bias[3] += 1e-3
    return ReferenceDecoder(model)


def test_a_session_of_another_model_is_refused(decoder, tiny, tmp_path):
    session = session_after(start(decoder), 5)
    session.save(tmp_path / "a.session")
    same = other_model(decoder, tiny, what=None)
    assert resume(same, Session.load(tmp_path / "a.session", same)) == resume(decoder, session)
    for what in ("weights", "kind"):
        other = other_model(decoder, tiny, what=what)
        with pytest.raises(UserError, match=r"a\.session is a session of another model"):
            Session.load(tmp_path / "a.session", other)
        with pytest.raises(UserError, match="another model"):
            Engine(other).resume(session)


def test_a_damaged_file_is_refused(decoder, tmp_path):
    path = tmp_path / "a.session"
    session_after(start(decoder), 5).save(path)
    content = path.read_bytes()
    Session.load(path, decoder)
    damaged = [content[:n] for n in range(0, len(content), 97)]
    for place in range(0, len(content), 11):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    for wrong in damaged:
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=r"a\.session is damaged or no session"):
            Session.load(path, decoder)


def test_foreign_and_missing_files_are_refused(decoder, tmp_path):
    save_file(decoder.model.state_dict(), tmp_path / "weights")
    (tmp_path / "text").write_text("a song")
    for name, said in (("weights", "no session"), ("text", "no session"), ("none", "cannot read")):
        with pytest.raises(UserError, match=f"{name}.*{said}|{said}.*{name}"):
            Session.load(tmp_path / name, decoder)
    with pytest.raises(UserError, match="cannot read"):
        Session.load(tmp_path, decoder)


def test_a_whole_file_of_impossible_content_is_refused(decoder, tmp_path):
    good = session_after(start(decoder), 5)
    state, row, path = good.state, good.sampler, tmp_path / "a.session"
    for bad, said in (
        (replace(good, state=replace(state, recent=state.recent[:, 1:])), "recent has shape"),
        (replace(good, state=replace(state, position=state.position - 99)), "position -"),
        (replace(good, state=replace(state, attention=state.attention[:1])), "attention.1"),
        (replace(good, pending=np.array([24])), "not in the vocabulary"),
        (replace(good, sampler=replace(row, seed=(0, -1))), "seed"),
        (replace(good, sampler=replace(row, seen=row.seen[1:])), "another vocabulary"),
        (replace(good, sampler=replace(row, drawn=None)), "draw None"),
        (replace(good, sampler=replace(row, drawn=1.5)), "draw 1.5"),
        (replace(good, sampler=replace(row, previous=24)), "previous id 24"),
        (replace(good, state=replace(state, origin=state.origin - 9)), "origin -9"),
        (replace(good, state=replace(state, origin=state.origin + 1)), "origin 1"),
    ):
        bad.save(path)
        with pytest.raises(UserError, match=said):
            Session.load(path, decoder)


@pytest.mark.parametrize("record", ["[]", "3", "{}", '{"format": 1}'])
def test_a_record_that_says_nothing_is_refused(decoder, tmp_path, monkeypatch, record):
    session = session_after(start(decoder), 5)
    with monkeypatch.context() as patch:
        patch.setattr("seqgen.decoding.session.json.dumps", lambda value: record)
        session.save(tmp_path / "a.session")
    with pytest.raises(UserError, match=r"a\.session"):
        Session.load(tmp_path / "a.session", decoder)


def test_forks_share_nothing_and_draw_anew(decoder):
    stream = start(decoder)
    session = session_after(stream, 4)
    forks = session.fork(3)
    ways = [tuple(resume(decoder, fork)) for fork in forks]
    assert len({*ways, tuple(ids(stream)[4:16])}) == 4
    assert [tuple(resume(decoder, fork)) for fork in session.fork(3)] == ways
    grandchild = forks[0].fork(1)[0]
    assert tuple(resume(decoder, grandchild)) not in ways
    for tensor in (forks[0].state.S, forks[0].state.recent, forks[0].sampler.seen):
        tensor.fill_(1)
    forks[0].pending[:] = 9
    assert tuple(resume(decoder, forks[1])) == ways[1]
    assert resume(decoder, session) == ids(stream)[4:16]
    with pytest.raises(UserError, match="0 forks"):
        session.fork(0)


def test_no_fork_has_random_numbers_of_another(decoder):
    """To NumPy, seeds (s, r, b) and (s, r, b, 0) are the same: one more number is not enough."""
    stream = start(decoder)
    marks = [session_after(stream, n) for n in (1, 2)]
    sessions = [marks[0], *(fork for mark in marks for fork in mark.fork(3))]
    sessions += sessions[1].fork(2)
    seeds = [(*session.sampler.seed, block) for session in sessions for block in range(4)]
    assert len({np.random.default_rng(seed).random() for seed in seeds}) == len(seeds)


def test_a_rewound_stream_draws_the_same_again_and_a_fork_otherwise(decoder):
    stream = start(decoder)
    mark = session_after(stream, 5)
    first = ids(stream)
    assert stream.finished == "length"
    stream.rewind(mark)
    assert (stream.finished, stream.n_tokens) == (None, 5)
    assert ids(stream) == first
    stream.rewind(mark.fork(1)[0])
    assert ids(stream)[:5] == first[:5]
    assert stream.tokens[5:] != first[5:]
    assert len(stream.tokens) == 20


def test_marks_of_other_streams_are_refused(decoder):
    stream, other = start(decoder), start(decoder, number=5)
    late = session_after(stream, 9)
    mark = session_after(other, 6)
    assert not np.array_equal(mark.pending, stream.tokens[5])
    with pytest.raises(UserError, match="no mark of stream"):
        stream.rewind(mark)
    with pytest.raises(UserError, match="no mark of stream"):
        other.rewind(late)
    resumed = Engine(decoder).resume(late, max_tokens=5)
    resumed.engine.step()
    with pytest.raises(UserError, match="no mark of stream"):
        resumed.rewind(session_after(start(decoder), 3))


def test_a_stream_that_is_kept_goes_on_after_its_end(decoder):
    whole = ids(start(decoder, max_tokens=20))
    kept = start(decoder, max_tokens=8, keep=True)
    assert ids(kept) == whole[:8]
    assert resume(decoder, kept.session()) == whole[8:]
    lost = start(decoder, max_tokens=8)
    lost.engine.run()
    with pytest.raises(UserError, match="keep=True"):
        lost.session()


def test_nothing_follows_eos(decoder):
    stream = start(decoder, keep=True, sampling=Sampling(logit_bias={2: 1e6}))
    assert ids(stream) == [(2,)]
    with pytest.raises(UserError, match="ended with EOS"):
        Engine(decoder).resume(stream.session())


def test_a_resumed_stream_may_have_other_settings(decoder):
    session = session_after(start(decoder), 4)
    engine = Engine(decoder)
    greedy = engine.resume(session, sampling=Sampling(temperature=0), max_tokens=12)
    assert ids(greedy) != resume(decoder, session)
    with pytest.raises(UserError, match="id 99"):
        engine.resume(session, sampling=Sampling(logit_bias={99: 1.0}))


def test_a_session_is_refused_where_its_sums_would_fade_otherwise(tiny, tmp_path, plain_vocabulary):
    model = tiny(plain_vocabulary)
    session = session_after(start(ReferenceDecoder(model, window=8)), 3)
    session.save(tmp_path / "a.session")
    assert Session.load(tmp_path / "a.session", ReferenceDecoder(model, window=8)).window == 8
    for window in (None, 9):
        other = ReferenceDecoder(model, window=window)
        with pytest.raises(UserError, match="window=8"):
            Session.load(tmp_path / "a.session", other)
        with pytest.raises(UserError, match="window=8"):
            Engine(other).resume(session)
