"""Random trials of what must never fail, for as many minutes as you give it.

    python scripts/soak.py --minutes 10 --seed 0
    python scripts/soak.py --only files --minutes 60

    files     prepare folders of damaged MIDI files: each file is used or listed with a reason
    kills     kill training at random moments and resume it: the run equals an uninterrupted one
    streams   let several threads submit, fork, rewind, cancel: each stream draws as it does alone
    sessions  load damaged session files: refused with our own error, or unchanged
    models    load damaged model folders: refused with our own error, or unchanged

The trials take turns. A failure is printed with the seed that repeats it, and the exit code is 1.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from seqgen.checkpoint import load_model, save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.data.prepare import prepare
from seqgen.decoding import Engine, Session, build_decoder
from seqgen.decoding.stream import Stream
from seqgen.errors import UserError
from seqgen.midi import Instrument, MidiFile, Note, TempoChange
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampling
from seqgen.tokenizers import build_tokenizer
from seqgen.vocabulary import Field, Vocabulary

PROJECT = Path(__file__).resolve().parents[1]
console = Console(markup=False, highlight=False)
Trial = Callable[[random.Random, Path], Counter]


class Failure(Exception):
    """What must never happen has happened."""


def main() -> None:
    arguments = _arguments()
    names = arguments.only or list(TRIALS)
    counts, failures = Counter(), 0
    end, number = time.monotonic() + 60 * arguments.minutes, 0
    while number < len(names) or time.monotonic() < end:
        name, seed = names[number % len(names)], arguments.seed + number // len(names)
        number += 1
        try:
            with tempfile.TemporaryDirectory(prefix="seqgen-soak-") as folder:
                counts += TRIALS[name](random.Random(seed), Path(folder))
        except Exception as error:
            failures += 1
            console.print(f"FAILED: --only {name} --seed {seed}: {type(error).__name__}: {error}")
        else:
            counts[f"rounds of {name}"] += 1
    for what, count in sorted(counts.items()):
        console.print(f"{count:>9,} {what}")
    console.print("no failure" if not failures else f"{failures} failures")
    raise SystemExit(1 if failures else 0)


# --- files -------------------------------------------------------------------------------------


def damaged_files(rng: random.Random, folder: Path) -> Counter:
    """Prepare 40 damaged files beside three whole ones."""
    source = folder / "source"
    for i in range(3):
        _write_song(source / f"whole-{i}.mid", rng)
    whole = [path.read_bytes() for path in sorted(source.iterdir())]
    for i in range(40):
        (source / f"damaged-{i}.mid").write_bytes(_damage(rng.choice(whole), rng))
    data = DataConfig(source=str(source), prepared_dir=str(folder / "prepared"), workers=2)
    programs = rng.random() < 0.5
    tokens = TokenizerConfig(parts="tracks" if programs else "one", use_tempos=programs)
    prepared = prepare(data, LimitsConfig(), tokens).data
    report = json.loads((prepared.folder / "report.json").read_text())
    if report["files_used"] < 3 or report["files_used"] + report["files_skipped"] != 43:
        raise Failure(f"43 files, {report['files_used']} used, {report['files_skipped']} skipped")
    crashes = [entry for entry in report["skipped"] if "crashed" in entry["reason"]]
    if crashes:
        raise Failure(f"a file crashed its reader: {crashes}")
    return Counter({"damaged files": 40, "of these refused": report["files_skipped"]})


def _damage(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = rng.randrange(len(damaged))
        match rng.randrange(5):
            case 0:
                damaged[place] = rng.randrange(256)
            case 1:
                damaged[place] ^= 1 << rng.randrange(8)
            case 2:
                del damaged[place : place + rng.randrange(1, 9)]
            case 3:
                damaged[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                damaged[place : place + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"MTrk"])
        damaged = damaged or bytearray(1)
    return bytes(damaged[: rng.randrange(1, len(damaged) + 1)] if rng.random() < 0.1 else damaged)


def _write_song(path: Path, rng: random.Random) -> None:
    midi = MidiFile(ticks_per_beat=480)
    midi.tempo_changes = [TempoChange(rng.uniform(60, 180), 0)]
    for program in rng.sample(range(128), 2):
        part = Instrument(program)
        for beat in range(32):
            pitch = rng.randrange(40, 90)
            part.notes.append(Note(rng.randrange(1, 128), pitch, 480 * beat, 480 * beat + 240))
        midi.instruments.append(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.dump(str(path))


# --- kills -------------------------------------------------------------------------------------


def killed_training(rng: random.Random, folder: Path) -> Counter:
    """Kill a run up to five times, resume it to its end, and compare it with a run left alone."""
    words = [rng.randbytes(rng.randrange(2, 8)).hex() for _ in range(50)]
    (folder / "book.txt").write_text(" ".join(rng.choice(words) for _ in range(4000)))
    seed = rng.randrange(1000)
    _train(folder, "alone", seed).wait()
    kills = 0
    for _ in range(5):
        process = _train(folder, "killed", seed)
        try:
            process.wait(timeout=rng.uniform(2, 14))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    process = _train(folder, "killed", seed)
    if process.wait():
        raise Failure(f"resuming ended with {process.returncode}: {process.stderr.read().decode()}")
    for what in (_metrics, _weights, _hidden):
        if (alone := what(folder / "alone")) != (killed := what(folder / "killed")):
            raise Failure(f"{what.__name__[1:]} after {kills} kills: {killed} instead of {alone}")
    return Counter({"kills of training": kills})


def _train(folder: Path, name: str, seed: int) -> subprocess.Popen:
    """Start a run, or resume it where it has a checkpoint."""
    resume = (folder / name / "checkpoints/last.ckpt").exists()
    settings = [
        f"data.source={folder / 'book.txt'}",
        f"data.prepared_dir={folder / 'prepared'}",
        f"run.dir={folder / name}",
        f"run.seed={seed}",
        "model.d_model=16",
        "model.n_layers=1",
        "model.n_heads=2",
        "train.max_steps=60",
        "train.warmup_steps=5",
        "train.context_length=32",
        "train.validate_every=15",
        "train.checkpoint_every=10",
        "train.log_every=5",
        "train.sample_tokens=0",
        "train.accelerator=cpu",
    ]
    command = [
        sys.executable,
        "cli.py",
        "train",
        *(["--resume"] if resume else [PROJECT / "configs/text.yaml"]),
    ]
    return subprocess.Popen(
        [*command, *settings],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocks = ("seconds", "per_second", "waiting", "time")
    return [
        {key: x for key, x in line.items() if not any(word in key for word in clocks)}
        for line in lines
    ]


def _weights(run: Path) -> dict[str, str]:
    files = sorted(run.glob("model*/*.safetensors"))
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def _hidden(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob(".*"))


# --- streams -----------------------------------------------------------------------------------


@dataclass
class Asked:
    """A stream, and what draws the same alone."""

    stream: Stream
    again: Callable[[Engine], Stream]


def threaded_streams(rng: random.Random, folder: Path) -> Counter:
    """Four threads ask an engine for everything while a fifth steps; each stream is drawn again."""
    decoder = build_decoder(_model(rng))
    engine = Engine(decoder, max_streams=24, steps_per_call=1)
    counts: Counter[str] = Counter()
    asked: list[Asked] = []
    troubles: list[BaseException] = []

    def ask(rng: random.Random, first: int) -> None:
        mine: list[Asked] = []
        try:
            for number in range(first, first + 12):
                mine.append(_submit(engine, rng, number))
                time.sleep(rng.random() / 100)
                _disturb(engine, rng.choice(mine), rng, counts, mine)
        except BaseException as error:
            troubles.append(error)
        asked.extend(mine)

    threads = [
        threading.Thread(target=ask, args=(random.Random(rng.random()), 100 * n)) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        engine.step()
    engine.run()
    if troubles:
        raise troubles[0]
    for one in asked:
        beside_none = Engine(decoder, max_streams=1)
        alone = one.again(beside_none)
        beside_none.run()
        drawn = [tuple(token) for token in one.stream.tokens]
        expected = [tuple(token) for token in alone.tokens]
        if one.stream.finished == "cancelled":
            expected = expected[: len(drawn)]
        if drawn != expected:
            raise Failure(f"stream {one.stream.number} drew {drawn}, alone {expected}")
    return counts + Counter(streams=len(asked))


def _submit(engine: Engine, rng: random.Random, number: int) -> Asked:
    prompt = np.array([[1], *([rng.randrange(3, 24)] for _ in range(rng.randrange(9)))])
    sampling = Sampling(temperature=rng.uniform(0.5, 1.5), top_k=rng.choice([None, 5]))
    wishes = {"sampling": sampling, "max_tokens": rng.randrange(1, 400), "number": number}

    def submit(engine: Engine) -> Stream:
        return engine.submit(prompt, **wishes)

    return Asked(submit(engine), submit)


def _disturb(
    engine: Engine, one: Asked, rng: random.Random, counts: Counter, mine: list[Asked]
) -> None:
    """Mark, rewind, fork or cancel a stream, wherever it is."""
    try:
        match rng.randrange(5):
            case 0 | 1:
                mark = engine.session(one.stream)
                time.sleep(rng.random() / 100)
                engine.rewind(one.stream, mark)
                counts["rewinds"] += 1
            case 2 | 3:
                for fork in engine.session(one.stream).fork(2):
                    resume = partial(Engine.resume, session=fork, max_tokens=5)
                    mine.append(Asked(resume(engine), resume))
                    counts["forks"] += 1
            case 4:
                engine.cancel(one.stream)
                counts["cancels"] += 1
    except UserError:
        counts["requests refused"] += 1  # the stream has not begun, or it has ended


# --- sessions and models -----------------------------------------------------------------------


def damaged_sessions(rng: random.Random, folder: Path) -> Counter:
    """Damage a session file 200 times."""
    decoder = build_decoder(_model(rng))
    engine = Engine(decoder, steps_per_call=1)
    endless = Sampling(logit_bias={2: -1e6})  # EOS is never drawn
    stream = engine.submit(np.array([[1], [5]]), sampling=endless, max_tokens=None)
    for _ in range(5):
        engine.step()
    path = folder / "whole.session"
    engine.session(stream).save(path)
    content = path.read_bytes()

    def draw(path: Path) -> list:
        engine = Engine(decoder)
        stream = engine.resume(Session.load(path, decoder), max_tokens=8)
        engine.run()
        return [tuple(token) for token in stream.tokens]

    expected = draw(path)
    counts = Counter()
    for _ in range(200):
        path = folder / "damaged.session"
        path.write_bytes(_damage(content, rng))
        counts += _refused_or(lambda path=path: draw(path), expected)
    return Counter({f"damaged sessions {what}": n for what, n in counts.items()})


def damaged_models(rng: random.Random, folder: Path) -> Counter:
    """Damage a file of a model folder 100 times."""
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), tokenizer.vocabulary)
    save_model(folder / "whole", model, tokenizer, step=1)
    tokens = torch.arange(3, 40)[None, :, None]
    files = [path for path in sorted((folder / "whole").rglob("*")) if path.is_file()]

    def logits(path: Path) -> bytes:
        with torch.no_grad():
            return load_model(path).model(tokens)[0].numpy().tobytes()

    expected, counts = logits(folder / "whole"), Counter()
    for i in range(100):
        damaged = folder / f"damaged-{i}"
        shutil.copytree(folder / "whole", damaged)
        file = damaged / rng.choice(files).relative_to(folder / "whole")
        file.write_bytes(_damage(file.read_bytes(), rng))
        counts += _refused_or(lambda damaged=damaged: logits(damaged), expected)
        shutil.rmtree(damaged)
    return Counter({f"damaged models {what}": n for what, n in counts.items()})


def _refused_or(load: Callable[[], object], expected: object) -> Counter:
    try:
        if load() != expected:
            raise Failure("a damaged file was loaded and gives something else")
    except UserError:
        return Counter(refused=1)
    return Counter(unchanged=1)


def _model(rng: random.Random) -> SequenceModel:
    torch.manual_seed(rng.randrange(2**31))
    vocabulary = Vocabulary((Field("token", 24),), bos_id=1, eos_id=2, pad_id=0)
    return SequenceModel(ModelConfig(d_model=16, n_layers=2, n_heads=2), vocabulary).eval()


TRIALS: dict[str, Trial] = {
    "files": damaged_files,
    "kills": killed_training,
    "streams": threaded_streams,
    "sessions": damaged_sessions,
    "models": damaged_models,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5, help="how long to go on [5]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round [0]")
    parser.add_argument("--only", action="append", choices=TRIALS, help="may be repeated [all]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
