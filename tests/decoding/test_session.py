"""A session is all of a stream: it goes on exactly, elsewhere too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decoders import EXACT, PAIRS
from ordered import bars, goes_forward
from safetensors.torch import save_file
from streams import resume, run_out, session_after, start

from seqgen.decoding import Engine, Session
from seqgen.errors import UserError
from seqgen.sampling import Sampling


@pytest.mark.parametrize(("attention", "build"), PAIRS)
@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary", "compound_vocabulary"])
def test_saved_and_loaded_goes_on_exactly(request, tiny, tmp_path, build, name, attention):
    model = tiny(request.getfixturevalue(name), attention=attention, n_layers=1)
    engine, stream = start(build(model))
    session_after(engine, stream, 8).save(tmp_path / "a.session")
    for other in [build for kind, build in PAIRS if kind == attention]:
        decoder = other(model)
        session = Session.load(tmp_path / "a.session", decoder)
        assert (session.n_drawn, session.position) == (8, 10)
        assert resume(decoder, session) == run_out(engine, stream)[8:]


def test_a_session_is_not_changed_by_streams(decoder):
    engine, stream = start(decoder)
    session = session_after(engine, stream, 8)
    assert resume(decoder, session) == resume(decoder, session) == run_out(engine, stream)[8:]


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
session = engine.session(stream)
engine.run()
print(*[int(token[0]) for token in stream.tokens], flush=True)
while True:
    session.save(folder / "b.session")
    print("saved", flush=True)
"""


@pytest.mark.slow
def test_another_process_goes_on_exactly_and_may_be_killed_while_it_saves(decoder, tmp_path):
    engine, stream = start(decoder)
    session_after(engine, stream, 8).save(tmp_path / "a.session")
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
    assert drawn == run_out(engine, stream)[8:]
    assert resume(decoder, Session.load(tmp_path / "b.session", decoder), 8) == drawn[4:]


def test_a_save_that_fails_leaves_the_older_file(decoder, tmp_path, monkeypatch):
    path, (engine, stream) = tmp_path / "a.session", start(decoder)
    session_after(engine, stream, 3).save(path)
    old = path.read_bytes()
    later = session_after(engine, stream, 6)
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
    (engine, stream), sizes = start(decoder, max_tokens=400), []
    for n_tokens in (10, 300):
        session = session_after(engine, stream, n_tokens)
        session.save(tmp_path / "a.session")
        sizes.append((tmp_path / "a.session").stat().st_size)
        assert sizes[-1] < session.state.nbytes + 2500
    assert abs(sizes[0] - sizes[1]) < 20  # a number in the record may be longer


def test_forks_share_nothing_and_draw_anew(decoder):
    engine, stream = start(decoder)
    session = session_after(engine, stream, 4)
    forks = session.fork(3)
    ways = [tuple(resume(decoder, fork)) for fork in forks]
    assert len({*ways, tuple(run_out(engine, stream)[4:16])}) == 4
    assert [tuple(resume(decoder, fork)) for fork in session.fork(3)] == ways
    grandchild = forks[0].fork(1)[0]
    assert tuple(resume(decoder, grandchild)) not in ways
    for tensor in (forks[0].state.S, forks[0].state.recent, forks[0].sampler.seen):
        tensor.fill_(1)
    forks[0].pending[:] = 9
    assert tuple(resume(decoder, forks[1])) == ways[1]
    assert resume(decoder, session) == run_out(engine, stream)[4:16]
    with pytest.raises(UserError, match="0 forks"):
        session.fork(0)


def test_no_fork_has_random_numbers_of_another(decoder):
    """To NumPy, seeds (s, r, b) and (s, r, b, 0) are the same: one more number is not enough."""
    engine, stream = start(decoder)
    marks = [session_after(engine, stream, n) for n in (1, 2)]
    sessions = [marks[0], *(fork for mark in marks for fork in mark.fork(3))]
    sessions += sessions[1].fork(2)
    seeds = [(*session.sampler.seed, block) for session in sessions for block in range(4)]
    assert len({np.random.default_rng(seed).random() for seed in seeds}) == len(seeds)


def test_a_rewound_stream_draws_the_same_again_and_a_fork_otherwise(decoder):
    engine, stream = start(decoder)
    mark = session_after(engine, stream, 5)
    first = run_out(engine, stream)
    assert stream.finished == "length"
    engine.rewind(stream, mark)
    assert (stream.finished, stream.n_tokens) == (None, 5)
    assert run_out(engine, stream) == first
    engine.rewind(stream, mark.fork(1)[0])
    assert run_out(engine, stream)[:5] == first[:5]
    assert stream.tokens[5:] != first[5:]
    assert len(stream.tokens) == 20


def test_marks_of_other_streams_are_refused(decoder):
    engine, stream = start(decoder)
    elsewhere, other = start(decoder, number=5)
    late = session_after(engine, stream, 9)
    mark = session_after(elsewhere, other, 6)
    assert not np.array_equal(mark.pending, stream.tokens[5])
    with pytest.raises(UserError, match="not a mark of stream"):
        engine.rewind(stream, mark)
    with pytest.raises(UserError, match="not a mark of stream"):
        elsewhere.rewind(other, late)
    third = Engine(decoder)
    resumed = third.resume(late, max_tokens=5)
    third.step()
    with pytest.raises(UserError, match="not a mark of stream"):
        third.rewind(resumed, session_after(*start(decoder), 3))


def test_a_stream_that_is_kept_goes_on_after_its_end(decoder):
    whole = run_out(*start(decoder, max_tokens=20))
    engine, kept = start(decoder, max_tokens=8, keep=True)
    assert run_out(engine, kept) == whole[:8]
    assert resume(decoder, engine.session(kept)) == whole[8:]
    engine, lost = start(decoder, max_tokens=8)
    engine.run()
    with pytest.raises(UserError, match="keep=True"):
        engine.session(lost)


def test_nothing_follows_eos(decoder):
    engine, stream = start(decoder, keep=True, sampling=Sampling(logit_bias={2: 1e6}))
    assert run_out(engine, stream) == [(2,)]
    with pytest.raises(UserError, match="ended with EOS"):
        Engine(decoder).resume(engine.session(stream))


def test_a_resumed_stream_may_have_other_settings(decoder):
    session = session_after(*start(decoder), 4)
    engine = Engine(decoder)
    greedy = engine.resume(session, sampling=Sampling(temperature=0), max_tokens=12)
    assert run_out(engine, greedy) != resume(decoder, session)
    with pytest.raises(UserError, match="id 99"):
        engine.resume(session, sampling=Sampling(logit_bias={99: 1.0}))


@pytest.mark.parametrize("build", EXACT)
def test_a_stream_goes_forward_through_marks_files_and_forks(tiny, tmp_path, build):
    vocabulary, parts = bars()
    decoder = build(tiny(vocabulary, n_layers=1))
    prompt = np.array([[parts.index([token])] for token in ("bos", "bar", "part 1", "position 2")])

    def plain(stream, before=()):
        rows = [*prompt, *before, *stream.tokens]
        return [token for row in rows for token in parts[row[0]]]

    for seed in range(6):
        engine = Engine(decoder)
        sampling = Sampling(temperature=2, logit_bias={vocabulary.eos_id: -1e6})
        stream = engine.submit(prompt, sampling=sampling, seed=seed, max_tokens=40)
        mark = session_after(engine, stream, 7)
        before = list(stream.tokens)
        engine.run()
        assert goes_forward(plain(stream))
        again = plain(stream)
        engine.rewind(stream, mark)
        engine.run()
        assert plain(stream) == again
        mark.save(tmp_path / "a.session")
        loaded = Session.load(tmp_path / "a.session", decoder)
        assert loaded.sampler.registers == mark.sampler.registers
        for session in (loaded, *mark.fork(2)):
            other = Engine(decoder)
            child = other.resume(session, max_tokens=33)
            other.run()
            assert goes_forward(plain(child, before))
            if session is loaded:
                assert plain(child, before) == again
