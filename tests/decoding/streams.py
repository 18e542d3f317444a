"""Streams and sessions that several tests begin with."""

from dataclasses import dataclass

import numpy as np
from making import random_tokens

from seqgen.decoding import Engine, Stream
from seqgen.sampling import Sampling

ENDLESS = {2: -1e6}  # a bias under which EOS is never drawn
SETTINGS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=1.3, top_k=4),
    Sampling(top_p=0.8, logit_bias=ENDLESS),
    Sampling(min_p=0.1, repetition_penalty=1.5),
    Sampling(typical_p=0.7, frequency_penalty=0.5),
]
LIVELY = Sampling(
    temperature=1.2,
    top_k=9,
    repetition_penalty=1.4,
    frequency_penalty=0.3,
    logit_bias={2: -1e6, 7: 0.5},  # EOS is never drawn
)


def make_prompt(vocabulary, length=1, seed=0):
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    return np.concatenate([bos, random_tokens(vocabulary, 1, length - 1, seed)[0].numpy()])


def ids(stream):
    return [tuple(token) for token in stream.tokens]


def run_out(engine, stream):
    engine.run()
    return ids(stream)


def start(decoder, *, max_tokens=20, sampling=LIVELY, **wishes):
    prompt = np.stack([decoder.vocabulary.special_token(i) for i in (1, 4, 5)])
    engine = Engine(decoder)
    return engine, engine.submit(prompt, sampling=sampling, max_tokens=max_tokens, **wishes)


def session_after(engine, stream, n_tokens):
    while stream.n_tokens < n_tokens:
        engine.step()
    return engine.session(stream)


def resume(decoder, session, max_tokens=12):
    engine = Engine(decoder)
    return run_out(engine, engine.resume(session, max_tokens=max_tokens))


@dataclass
class Asked:
    """One stream among others: what it is, and where it came from if it is a fork."""

    prompt: np.ndarray
    sampling: Sampling
    max_tokens: int
    number: int
    stream: Stream | None = None
    parent: "Asked | None" = None
    forked_at: int = 0
    n_rewinds: int = 0

    @classmethod
    def at_random(cls, vocabulary, rng, number):
        return cls(
            make_prompt(vocabulary, int(rng.integers(1, 14)), seed=int(rng.integers(20))),
            SETTINGS[int(rng.integers(len(SETTINGS)))],
            max_tokens=int(rng.integers(1, 14)),
            number=number,
        )

    def submit(self, engine, **wishes):
        options = {"sampling": self.sampling, "max_tokens": self.max_tokens, **wishes}
        return engine.submit(self.prompt, number=self.number, seed=3, **options)

    def fork(self, engine, session, max_tokens):
        """Let a fork of `session`, a mark of this stream, go on in the engine."""
        child = Asked(self.prompt, self.sampling, max_tokens, -1)
        child.parent, child.forked_at = self, session.n_drawn
        child.stream = engine.resume(session.fork(1)[0], max_tokens=max_tokens)
        return child

    def begin_alone(self, decoder):
        """Return an engine in which it begins again with nobody beside it, and the stream."""
        engine = Engine(decoder, max_streams=1)
        if self.parent is None:
            return engine, self.submit(engine)
        before = self.parent.submit(engine)
        session = session_after(engine, before, self.forked_at)
        engine.cancel(before)
        return engine, engine.resume(session.fork(1)[0], max_tokens=self.max_tokens)


def assert_drew_as_alone(asked, decoder):
    engine, alone = asked.begin_alone(decoder)
    engine.run()
    if asked.stream.finished == "cancelled":
        assert ids(asked.stream) == ids(alone)[: asked.stream.n_tokens]
    else:
        assert ids(asked.stream) == ids(alone)
        assert asked.stream.finished == alone.finished
