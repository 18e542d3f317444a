"""Many streams in one engine: each joins and leaves when it likes, with settings of its own.

python examples/engine.py RUN
"""

import sys

import seqgen

model = seqgen.load(sys.argv[1])
engine = seqgen.Engine(model.decoder, max_streams=8)
vocabulary = model.tokenizer.vocabulary
begin = vocabulary.special_token(vocabulary.bos_id)[None]  # ids [1, fields]
streams = [
    engine.submit(begin, sampling=seqgen.Sampling(temperature=t / 10), max_tokens=64)
    for t in range(5, 15)
]
while engine.step():  # another thread, or a callback, may submit and cancel meanwhile
    pass
for stream in streams:
    print(f"stream {stream.number}: {stream.n_tokens} tokens, ended by {stream.finished}")
