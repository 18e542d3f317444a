"""Continue a MIDI file: four different continuations of its first bars.

python examples/continue_file.py RUN song.mid
"""

import sys

import seqgen

run, song = sys.argv[1:]
model = seqgen.load(run)
pieces = model.generate(song, prompt_bars=4, bars=8, samples=4, temperature=0.9, top_p=0.95)
for number, piece in enumerate(pieces, start=1):
    print(piece.save(f"continued-{number}.mid"), f"{len(piece.tokens)} new tokens")
