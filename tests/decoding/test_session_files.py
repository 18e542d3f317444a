"""A session file that is damaged, foreign or impossible is refused with words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from decoders import EXACT
from safetensors.torch import save_file
from streams import resume, session_after, start

from seqgen.decoding import Engine, ReferenceDecoder, Session
from seqgen.errors import UserError


def other_model(decoder, tiny, *, what):
    model = tiny(
        decoder.vocabulary, n_layers=1, **({"attention": "softmax"} if what == "kind" else {})
    )
    model.load_state_dict(decoder.model.state_dict())
    if what == "weights":
        with torch.no_grad():
            model.lm_head.linears[0].bias[3] += 1e-3
    return ReferenceDecoder(model)


def test_a_session_of_another_model_is_refused(decoder, tiny, tmp_path):
    session = session_after(*start(decoder), 5)
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
    session_after(*start(decoder), 5).save(path)
    content = path.read_bytes()
    Session.load(path, decoder)
    damaged = [content[:n] for n in range(0, len(content), 97)]
    for place in range(0, len(content), 11):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    for wrong in damaged:
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=r"a\.session is damaged or not a session"):
            Session.load(path, decoder)


def test_foreign_and_missing_files_are_refused(decoder, tmp_path):
    save_file(decoder.model.state_dict(), tmp_path / "weights")
    (tmp_path / "text").write_text("a song")
    for name, said in (
        ("weights", "not a session"),
        ("text", "not a session"),
        ("none", "cannot read"),
    ):
        with pytest.raises(UserError, match=f"{name}.*{said}|{said}.*{name}"):
            Session.load(tmp_path / name, decoder)
    with pytest.raises(UserError, match="cannot read"):
        Session.load(tmp_path, decoder)


def test_a_whole_file_of_impossible_content_is_refused(decoder, tmp_path):
    good = session_after(*start(decoder), 5)
    state, row, path = good.state, good.sampler, tmp_path / "a.session"
    for bad, said in (
        (replace(good, state=replace(state, recent=state.recent[:, 1:])), "recent has shape"),
        (replace(good, state=replace(state, position=state.position - 99)), "position -"),
        (replace(good, state=replace(state, attention=state.attention[:1])), "attention.1"),
        (replace(good, state=replace(state, held=state.held * 0 - 1)), r"marks \[-1, -1\]"),
        (replace(good, state=replace(state, held=state.held * 0 + 4)), r"marks \[4, 4\] cannot"),
        (replace(good, state=replace(state, held=state.held[:, :1])), "held has shape"),
        (replace(good, pending=np.array([24])), "not in the vocabulary"),
        (replace(good, sampler=replace(row, seed=(0, -1))), "seed"),
        (replace(good, sampler=replace(row, seen=row.seen[1:])), "another vocabulary"),
        (replace(good, sampler=replace(row, drawn=None)), "draw None"),
        (replace(good, sampler=replace(row, drawn=1.5)), "draw 1.5"),
        (replace(good, sampler=replace(row, previous=24)), "previous id 24"),
        (replace(good, sampler=replace(row, registers=(0,))), "registers"),
        (replace(good, state=replace(state, origin=state.origin - 9)), "origin -9"),
        (replace(good, state=replace(state, origin=state.origin + 1)), "origin 1"),
    ):
        bad.save(path)
        with pytest.raises(UserError, match=said):
            Session.load(path, decoder)


def test_a_file_from_before_guidance_is_read(decoder, tmp_path, monkeypatch):
    engine, stream = start(decoder)
    session = session_after(engine, stream, 5)
    with monkeypatch.context() as patch:
        patch.setattr("seqgen.decoding.session.FORMAT", 4)
        session.save(tmp_path / "a.session")
    loaded = Session.load(tmp_path / "a.session", decoder)
    assert resume(decoder, loaded) == resume(decoder, session)


@pytest.mark.parametrize("record", ["[]", "3", "{}", '{"format": 3}'])
def test_a_record_that_says_nothing_is_refused(decoder, tmp_path, monkeypatch, record):
    session = session_after(*start(decoder), 5)
    with monkeypatch.context() as patch:
        patch.setattr("seqgen.decoding.session.json.dumps", lambda value: record)
        session.save(tmp_path / "a.session")
    with pytest.raises(UserError, match=r"a\.session"):
        Session.load(tmp_path / "a.session", decoder)


def test_a_session_of_heads_that_forget_goes_on_in_every_decoder_of_their_model_alone(
    tiny, tmp_path, plain_vocabulary
):
    model = tiny(plain_vocabulary, decay="fixed")
    session_after(*start(ReferenceDecoder(model)), 3).save(tmp_path / "a.session")
    session = Session.load(tmp_path / "a.session", ReferenceDecoder(model))
    drawn = [resume(build(model), session) for build in EXACT]
    assert drawn == drawn[:1] * len(EXACT)
    other = tiny(plain_vocabulary, decay="fixed", decay_range=[2.0, 8.0])
    with pytest.raises(UserError, match="another model"):
        Session.load(tmp_path / "a.session", ReferenceDecoder(other))


def test_a_session_is_refused_by_a_decoder_of_another_decay(tiny, tmp_path, plain_vocabulary):
    model = tiny(plain_vocabulary)
    session = session_after(*start(ReferenceDecoder(model, decay_after=8)), 3)
    session.save(tmp_path / "a.session")
    assert (
        Session.load(tmp_path / "a.session", ReferenceDecoder(model, decay_after=8)).decay_after
        == 8
    )
    for decay_after in (None, 9):
        other = ReferenceDecoder(model, decay_after=decay_after)
        with pytest.raises(UserError, match="decay_after=8"):
            Session.load(tmp_path / "a.session", other)
        with pytest.raises(UserError, match="decay_after=8"):
            Engine(other).resume(session)
