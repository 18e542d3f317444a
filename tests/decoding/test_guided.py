"""Guidance: two streams of one draw, in an engine like any other stream."""

import dataclasses

import numpy as np
import pytest
import torch
from decoders import EXACT
from streams import ENDLESS, ids, make_prompt, resume, run_out, session_after

from seqgen.decoding import Engine, ReferenceDecoder, Session, generate
from seqgen.decoding.guided import Guidance
from seqgen.errors import UserError
from seqgen.sampling import Sampling

LIVELY = Sampling(temperature=1.2, top_k=9, repetition_penalty=1.4, logit_bias=ENDLESS)
GREEDY = Sampling(temperature=0, logit_bias=ENDLESS)


@pytest.fixture(params=EXACT[::2], ids=lambda build: build.__name__)
def decoder(request, tiny, toy_vocabulary):
    return request.param(sharp(tiny(toy_vocabulary)))


def sharp(model):
    with torch.no_grad():  # so that what came before matters
        for parameter in model.parameters():
            parameter *= 3
    return model


def submit(engine, *, scale=2.5, sampling=LIVELY, length=7, **wishes):
    vocabulary = engine.decoder.vocabulary
    guidance = Guidance(make_prompt(vocabulary, length, seed=8), scale)
    prompt = make_prompt(vocabulary, 4, seed=3)
    options = {"max_tokens": 20} | wishes
    return engine.submit(prompt, guidance=guidance, sampling=sampling, **options)


@pytest.mark.parametrize("build", EXACT)
def test_each_token_is_the_likeliest_under_the_logits_of_both(build, tiny, plain_vocabulary):
    """Step by step against the reference: c + (scale - 1) (c - o), by hand."""
    decoder = build(sharp(tiny(plain_vocabulary)))
    engine = Engine(decoder)
    stream = submit(engine, sampling=GREEDY)
    run_out(engine, stream)
    reference = ReferenceDecoder(decoder.model)
    ends = [stream.prompt, make_prompt(plain_vocabulary, 7, seed=8)]
    for token in stream.tokens:
        both = []
        for tokens in ends:
            lengths = torch.tensor([len(tokens)])
            logits, _ = reference.prefill(torch.from_numpy(tokens)[None], lengths)
            both.append(logits[0][0].detach())
        scores = both[0] + 1.5 * (both[0] - both[1])
        scores[2] += ENDLESS[2]
        assert scores[int(token[0])] >= scores.max() - 1e-3
        ends = [np.concatenate([tokens, token[None]]) for tokens in ends]


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_same_prompt_or_a_weight_of_1_changes_nothing(decoder, scale):
    prompts = [make_prompt(decoder.vocabulary, 3 + r, seed=r) for r in range(3)]
    others = [make_prompt(decoder.vocabulary, 6, seed=9 + r) for r in range(3)]
    guidance = [Guidance(one, scale) for one in (others if scale == 1 else prompts)]
    options = {"sampling": LIVELY, "max_tokens": 30, "seed": 4}
    plain, guided = (
        [(step.rows, step.tokens.tolist()) for step in generate(decoder, prompts, **how, **options)]
        for how in ({}, {"guidance": guidance})
    )
    assert guided == plain


def test_more_weight_draws_what_the_asked_stream_likes_more(tiny, plain_vocabulary):
    """The mean of (c - o) over the tokens drawn first rises with the scale."""
    decoder = ReferenceDecoder(sharp(tiny(plain_vocabulary)))
    asked, free = (make_prompt(plain_vocabulary, 9, seed=seed) for seed in (1, 2))
    logits = [
        decoder.prefill(torch.from_numpy(one)[None], torch.tensor([len(one)]))[0][0][0]
        for one in (asked, free)
    ]
    likes = (torch.log_softmax(logits[0], -1) - torch.log_softmax(logits[1], -1)).detach()
    means = []
    for scale in (0.0, 1.0, 3.0):
        options = {"max_tokens": 1, "seed": 1, "guidance": [Guidance(free, scale)] * 100}
        steps = generate(decoder, [asked] * 100, **options)
        means.append(np.mean([likes[t] for step in steps for t in step.tokens[:, 0]]))
    assert means[0] < means[1] < means[2]


def test_streams_beside_it_are_as_they_are_alone(decoder):
    prompts = [make_prompt(decoder.vocabulary, 2 + r, seed=r) for r in range(3)]

    def run(*, plain, guided):
        engine = Engine(decoder, max_streams=5)
        wishes = {"sampling": LIVELY, "seed": 6}
        streams = []
        for number, prompt in enumerate(prompts if plain else []):
            streams.append(engine.submit(prompt, number=number, max_tokens=15, **wishes))
        if guided:
            streams.append(submit(engine, number=7, seed=6))
        engine.run()
        return [ids(stream) for stream in streams]

    together = run(plain=True, guided=True)
    assert together[:3] == run(plain=True, guided=False)
    assert together[3:] == run(plain=False, guided=True)


def test_it_takes_two_slots_and_waits_for_them(decoder):
    engine = Engine(decoder, max_streams=3)
    streams = [submit(engine, number=number) for number in range(4)]
    plain = engine.submit(make_prompt(decoder.vocabulary, 2), max_tokens=3)
    engine.step()
    assert (engine.n_running, engine.n_taken, engine.n_waiting) == (1, 2, 4)
    engine.run()
    assert all(stream.finished == "length" for stream in (*streams, plain))
    assert engine.n_running == engine.n_waiting == 0
    again = submit(engine, number=0)
    assert run_out(engine, again) == ids(streams[0])
    engine.room = 1  # less than it takes: it runs alone
    assert run_out(engine, submit(engine, number=0)) == ids(streams[0])


def test_an_engine_of_one_slot_refuses_it(decoder):
    with pytest.raises(UserError, match="max_streams=2"):
        submit(Engine(decoder, max_streams=1))


def test_its_marks_go_on_exactly(decoder, tmp_path):
    engine = Engine(decoder)
    stream = submit(engine, keep=True)
    mark = session_after(engine, stream, 8)
    mark.save(tmp_path / "a.session")
    whole = run_out(engine, stream)
    assert engine.session(stream).guide is not None
    loaded = Session.load(tmp_path / "a.session", decoder)
    assert resume(decoder, mark) == resume(decoder, loaded) == whole[8:]
    engine.rewind(stream, mark)
    assert run_out(engine, stream) == whole
    forks = {tuple(resume(decoder, fork)) for fork in mark.fork(5)}
    assert len(forks) > 1
    unguided = dataclasses.replace(mark, guide=None)
    assert resume(decoder, unguided) != whole[8:]
    with pytest.raises(UserError, match="not a mark of stream"):
        engine.rewind(stream, unguided)


def test_both_streams_take_what_is_forced(decoder):
    """As if the given tokens were in both prompts, the second one's own included."""
    vocabulary = decoder.vocabulary
    forced, others = (make_prompt(vocabulary, n + 1, seed=n)[1:] for n in (5, 2))
    for second in (None, others, others[:0]):
        engine = Engine(decoder)
        stream = submit(engine, sampling=GREEDY)
        first = session_after(engine, stream, 3)
        engine.force(stream, forced, second)
        run_out(engine, stream)
        drawn = np.stack(stream.tokens[:3])
        taken = forced if second is None else second
        free = np.concatenate([make_prompt(vocabulary, 7, seed=8), drawn, taken])
        other = Engine(decoder)
        again = other.submit(
            np.concatenate([stream.prompt, drawn, forced]),
            guidance=Guidance(free, first.guide.scale),
            sampling=GREEDY,
            max_tokens=17,
        )
        assert run_out(other, again) == ids(stream)[8:]


def test_its_likelihood_is_not_told(decoder):
    engine = Engine(decoder, scored=True)
    guided, plain = submit(engine), engine.submit(make_prompt(decoder.vocabulary, 2), max_tokens=3)
    engine.run()
    assert guided.log_likelihood is None
    assert plain.log_likelihood < 0


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_an_impossible_weight_is_refused(scale):
    with pytest.raises(UserError, match="0 or more"):
        Guidance(np.zeros((1, 1), dtype=np.int64), scale)


def test_both_prompts_count_towards_those_that_wait(decoder):
    engine = Engine(decoder, max_streams=2, max_waiting_tokens=15)
    streams = [submit(engine, number=0)]
    with pytest.raises(UserError, match="would exceed 15"):
        submit(engine, number=1)  # 4 and 7 tokens, as the first
    engine.step()
    streams.append(submit(engine, number=1))
    engine.run()
    assert all(stream.finished == "length" for stream in streams)
    submit(engine, number=2)  # nothing is counted any more


def test_prompts_of_guidance_are_checked(decoder):
    engine = Engine(decoder, max_prompt_tokens=6)
    with pytest.raises(UserError, match="at most 6"):
        submit(engine)
    prompt = make_prompt(decoder.vocabulary, 2)
    with pytest.raises(UserError, match="a prompt of guidance has no tokens"):
        Engine(decoder).submit(prompt, guidance=Guidance(prompt[:0], 2.0))
