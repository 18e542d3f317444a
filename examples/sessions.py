"""Mark a stream, save the mark as a small file, and try three ways to go on from it.

python examples/sessions.py RUN idea.session
"""

import sys

import seqgen

run, path = sys.argv[1:]
model = seqgen.load(run)
engine = seqgen.Engine(model.decoder)
vocabulary = model.tokenizer.vocabulary
never_end = seqgen.Sampling(logit_bias={vocabulary.eos_id: -1e6})
begin = vocabulary.special_token(vocabulary.bos_id)[None]
stream = engine.submit(begin, sampling=never_end, max_tokens=None)
for _ in range(50):
    engine.step()
engine.session(stream).save(path)  # its size does not depend on how much came before
engine.cancel(stream)

mark = seqgen.Session.load(path, model.decoder)
variants = [engine.resume(fork, max_tokens=20) for fork in mark.fork(3)]
engine.run()
for variant in variants:
    print(" ".join(str(token[0]) for token in variant.tokens))
