"""Streams and sessions that several tests begin with."""

import numpy as np
from making import random_tokens

from seqgen.decoding import Engine
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


def run_out(stream):
    stream.engine.run()
    return ids(stream)


def start(decoder, *, max_tokens=20, sampling=LIVELY, **wishes):
    prompt = np.stack([decoder.vocabulary.special_token(i) for i in (1, 4, 5)])
    return Engine(decoder).submit(prompt, sampling=sampling, max_tokens=max_tokens, **wishes)


def session_after(stream, n_tokens):
    while stream.n_tokens < n_tokens:
        stream.engine.step()
    return stream.session()


def resume(decoder, session, max_tokens=12):
    return run_out(Engine(decoder).resume(session, max_tokens=max_tokens))
