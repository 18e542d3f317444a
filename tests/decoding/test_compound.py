"""Tokens of several fields: every decoder draws from the joint distribution of the model."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from decoders import EXACT
from making import random_tokens
from streams import make_prompt
from tapes import TapeRecorder

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.decoding import Engine, beam_search, best_of
from seqgen.decoding.cuda import GraphPool
from seqgen.decoding.fused import TorchDecoder, TorchPool
from seqgen.errors import UserError
from seqgen.evaluation.likelihood import score_piece
from seqgen.model.embedding import add_chain
from seqgen.model.loss import token_nats
from seqgen.sampling import Sampling
from seqgen.tokenizers import build_tokenizer


@pytest.fixture(params=["toy_vocabulary", "compound_vocabulary"])
def vocabulary(request):
    return request.getfixturevalue(request.param)


def drawn(decoder, prompt, n, *, scored=False, **options):
    """Tokens [n, F] of a stream, and the stream."""
    engine = Engine(decoder, scored=scored)
    stream = engine.submit(prompt, max_tokens=n, **options)
    engine.run()
    return np.stack(stream.tokens), stream


@pytest.mark.parametrize("build", EXACT)
def test_logits_and_chain_are_the_parallel_forms_at_every_position(tiny, vocabulary, build):
    model = tiny(vocabulary, positions="bars")
    decoder, tokens = build(model), random_tokens(vocabulary, 3, 12)
    with torch.no_grad():
        expected = model(tokens[:, :-1], targets=tokens[:, 1:])
    pool, slots = decoder.open(3), torch.arange(3)
    pool.write(slots, decoder.initial_state(3))
    for t in range(11):
        logits = add_chain(pool.advance(slots, tokens[:, t]), decoder.chain, tokens[:, t + 1])
        for ours, theirs in zip(logits, expected, strict=True):
            torch.testing.assert_close(ours, theirs[:, t], atol=3e-5, rtol=0)


@pytest.mark.parametrize("build", EXACT)
def test_embeddings_may_have_widths_of_their_own(tiny, toy_vocabulary, build):
    model = tiny(toy_vocabulary, field_widths={"pitch": 5, "family": 40})
    assert [table.weight.shape[1] for table in model.embedding.tables] == [40, 5, 32]
    decoder, tokens = build(model), random_tokens(toy_vocabulary, 3, 9)
    with torch.no_grad():
        expected = model(tokens)
    pool, slots = decoder.open(3), torch.arange(3)
    pool.write(slots, decoder.prefill(tokens[:, :4], torch.full((3,), 4))[1])
    for t in range(4, 9):
        for ours, theirs in zip(pool.advance(slots, tokens[:, t]), expected, strict=True):
            torch.testing.assert_close(ours, theirs[:, t], atol=3e-5, rtol=0)


def test_a_width_of_no_field_is_refused_with_the_fields_that_are(tiny, toy_vocabulary):
    with pytest.raises(UserError, match=r"field_widths.*colour.*family, pitch, length"):
        tiny(toy_vocabulary, field_widths={"colour": 5})


@pytest.mark.parametrize("build", EXACT)
def test_the_likelihood_of_what_is_drawn_is_that_of_its_fields(tiny, vocabulary, build):
    model = tiny(vocabulary)
    prompt = make_prompt(vocabulary, 1)
    for seed in range(4):
        tokens, stream = drawn(build(model), prompt, 30, scored=True, seed=seed)
        nats = score_piece(model, np.concatenate([prompt, tokens]))
        assert nats.shape == tokens.shape
        assert stream.log_likelihood == pytest.approx(-nats.sum(), abs=1e-3)
        assert ((nats == 0) == ~vocabulary.uses[tokens[:, 0]]).all()


@pytest.mark.parametrize("build", EXACT)
def test_tokens_come_as_often_as_the_joint_distribution_says(tiny, compound_vocabulary, build):
    model, v = tiny(compound_vocabulary, n_layers=1), compound_vocabulary
    with torch.no_grad():
        model.lm_head.linears[0].bias[5] += 6  # a note
    prompt, n = np.array([[1] * 4, [3, 0, 0, 0], [4, 5, 0, 0], [5, 0, 4, 3]]), 3000
    engine = Engine(build(model), max_streams=n, max_waiting=n, max_waiting_tokens=4 * n)
    streams = [engine.submit(prompt, max_tokens=1, sampling=Sampling()) for _ in range(n)]
    engine.run()
    counts = Counter(tuple(stream.tokens[0].tolist()) for stream in streams)
    notes = [(5, 0, pitch, length) for pitch in range(3, 8) for length in range(3, 6)]
    targets = torch.tensor(notes)[:, None]
    with torch.no_grad():
        hidden = model.run(torch.from_numpy(prompt)[None])[0][:, -1:].expand(len(notes), -1, -1)
        nats = token_nats(model.lm_head(hidden, targets), targets, uses=model.uses)[:, 0]
    shares = (-nats).exp() / (-nats).exp().sum()  # without special ids, which are never drawn
    # So much of the special ids' probability goes to each field's others that shares are compared
    # within notes of one pitch.
    for pitch in range(3, 8):
        mine = [note for note in notes if note[2] == pitch]
        total = sum(counts[note] for note in mine)
        weight = sum(float(shares[notes.index(note)]) for note in mine)
        for note in mine:
            share = float(shares[notes.index(note)]) / weight
            assert abs(counts[note] / max(total, 1) - share) < 4 * (0.25 / max(total, 1)) ** 0.5
    assert sum(counts[note] for note in notes) > 0.9 * n
    assert v.fill_unused(np.array(list(counts))).tolist() == [list(token) for token in counts]


@pytest.mark.parametrize("build", EXACT)
def test_positions_rise_inside_a_bar_and_unused_fields_are_filled(tiny, compound_vocabulary, build):
    decoder = build(tiny(compound_vocabulary, n_layers=1))
    for seed in range(8):
        sampling = Sampling(temperature=2, logit_bias={2: -1e6})
        tokens, _ = drawn(
            decoder, make_prompt(compound_vocabulary), 60, sampling=sampling, seed=seed
        )
        assert np.array_equal(compound_vocabulary.fill_unused(tokens), tokens)
        position = 0
        for kind, at, *_ in tokens:
            position = 0 if kind == 3 else position
            if kind == 4:
                assert at > position
                position = at


def test_streams_of_all_decoders_are_the_same(tiny, vocabulary):
    model = tiny(vocabulary)
    sampling = Sampling(temperature=1.2, top_p=0.9, logit_bias={2: -1e6})
    results = [
        drawn(build(model), make_prompt(vocabulary, 5), 40, sampling=sampling)[0].tolist()
        for build in EXACT
    ]
    assert all(result == results[0] for result in results)


def test_recorded_steps_draw_the_same(tiny, compound_vocabulary):
    class Recorded(TorchDecoder):
        steps_per_call = 3

        def open(self, n_slots):
            return GraphPool(TorchPool(self, n_slots), TapeRecorder())

    model, prompt = tiny(compound_vocabulary), make_prompt(compound_vocabulary, 3)
    sampling = Sampling(logit_bias={2: -1e6})
    expected, _ = drawn(TorchDecoder(model), prompt, 30, sampling=sampling)
    assert np.array_equal(drawn(Recorded(model), prompt, 30, sampling=sampling)[0], expected)


def test_beams_are_scored_by_the_joint_distribution(tiny, compound_vocabulary):
    model = tiny(compound_vocabulary, n_layers=1)
    decoder, prompt = TorchDecoder(model), make_prompt(compound_vocabulary)
    found = beam_search(decoder, prompt, 300, max_tokens=4)
    assert found
    sampled = best_of(decoder, prompt, 40, max_tokens=4)
    for candidate in found[::17] + sampled[:5]:
        nats = score_piece(model, np.concatenate([prompt, candidate.tokens]))
        assert candidate.log_likelihood == pytest.approx(-nats.sum(), abs=1e-4)
    for candidate in found:
        times = [at for kind, at, *_ in candidate.tokens if kind == 4]
        bars = [kind for kind, *_ in candidate.tokens].count(3)
        assert bars > 1 or times == sorted(set(times))
    whole = [c for c in sampled if c.ended or len(c.tokens) == 4]
    assert found[0].log_likelihood > max(c.log_likelihood for c in whole) - 1e-4


@pytest.mark.parametrize("build", EXACT)
def test_fields_have_settings_of_their_own(tiny, toy_vocabulary, build):
    decoder, prompt = build(tiny(toy_vocabulary)), make_prompt(toy_vocabulary)
    bias = {2: -1e6}
    greedy = {"family": 0, "pitch": 0, "length": 0}
    alone, _ = drawn(decoder, prompt, 20, sampling=Sampling(temperature=0, logit_bias=bias))
    for given in (greedy, {"": 0}, tuple(greedy.items())):
        sampling = Sampling(temperature=given, logit_bias=bias)
        assert np.array_equal(drawn(decoder, prompt, 20, sampling=sampling)[0], alone)
    for seed in range(5):
        sampling = Sampling(temperature={"": 0, "length": 3}, logit_bias=bias)
        tokens, _ = drawn(decoder, prompt, 1, sampling=sampling, seed=seed)
        assert tokens[0, :2].tolist() == alone[0, :2].tolist()
    lengths = {
        int(drawn(decoder, prompt, 1, sampling=sampling, seed=seed)[0][0, 2]) for seed in range(20)
    }
    assert len(lengths) > 1


def test_a_field_that_is_not_there_is_refused_with_those_that_are(tiny, toy_vocabulary):
    engine = Engine(TorchDecoder(tiny(toy_vocabulary)))
    prompt = make_prompt(toy_vocabulary)
    for name in ("temperature", "top_k", "min_p"):
        with pytest.raises(UserError, match=f"{name} is given for colour.*family, pitch, length"):
            engine.submit(prompt, sampling=Sampling(**{name: {"colour": 1}}))


@pytest.mark.parametrize("build", EXACT)
def test_quotes_are_drawn_and_forced_as_they_are_prefilled(tiny, build):
    t = build_tokenizer(TokenizerConfig(type="cpword", quotes=True), LimitsConfig())
    v = t.vocabulary
    model = tiny(v)
    quote, bar = (t.words.kinds.index(kind) for kind in ("quote", "bar"))
    sampling = Sampling(logit_bias=((quote, 2.0), (bar, 3.0), (v.eos_id, -1e6)))
    prompt = v.special_token(v.bos_id)[None]
    tokens, _ = drawn(build(model), prompt, 120, sampling=sampling, seed=3)
    expected, _ = drawn(EXACT[0](model), prompt, 120, sampling=sampling, seed=3)
    assert np.array_equal(tokens, expected)
    n_bars = 0
    for token in tokens:
        n_bars += token[0] == bar
        if token[0] == quote:
            assert 1 <= token[t.words.fields.index("quote")] - 2 < n_bars
    assert (tokens[:, 0] == quote).sum() > 5
    piece = np.concatenate([prompt, tokens, t.bar[None]])
    ahead = t.quote_bars(piece, back=4, n_bars=4)
    engine = Engine(build(model), steps_per_call=1)
    stream = engine.submit(piece, max_tokens=12, sampling=replace(sampling, temperature=0))
    engine.step()
    first = stream.tokens[0]
    engine.force(stream, ahead)
    engine.run()
    whole = np.concatenate([piece, first[None], ahead])
    again, _ = drawn(build(model), whole, 11, sampling=replace(sampling, temperature=0))
    assert np.array_equal(np.stack(stream.tokens)[1 + len(ahead) :], again)
