"""Train on a folder of MIDI files, and generate from what was learned.

python examples/train.py FOLDER
"""

import sys

import seqgen

folder, *settings = sys.argv[1:]
model = seqgen.train(f"data.source={folder}", *settings, tell=print)
for number, piece in enumerate(model.generate(samples=2, temperature=0.9), start=1):
    print(piece.save(f"new-{number}.mid"))
