"""The commands as a user types them, one after the other in a folder."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner
from making import write_song, write_songs

from seqgen.checkpoint import read_metrics
from seqgen.commands import cli, main
from seqgen.midi import open_midi

SMALL = [
    "model.d_model=16",
    "model.n_layers=1",
    "model.n_heads=2",
    "data.transpose=0",
    "data.validation=0.2",
    "train.accelerator=cpu",
    "train.batch_size=4",
    "train.context_length=32",
    "train.validate_every=20",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.sample_tokens=16",
    "train.warmup_steps=2",
]


@pytest.fixture
def run(command_in):
    """Run the command line in this process; return what it said."""

    def run_here(folder, *arguments, code=0):
        ended, said = command_in(folder, *arguments)
        assert ended == code, said
        return said

    return run_here


def losses(run_folder):
    return [x["loss"] for x in read_metrics(run_folder / "metrics.jsonl") if "loss" in x]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with songs and one finished run of forty steps."""
    folder = tmp_path_factory.mktemp("place")
    write_songs(folder / "songs", 10, bars=4)
    (folder / "songs" / "broken.mid").write_bytes(b"MThd broken")
    arguments = ["data.source=songs", "run.dir=runs/a", "train.max_steps=40", *SMALL]
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli, ["train", *arguments], catch_exceptions=False)
    return folder, done.output


def test_training_reports_files_losses_and_ngram_models(place):
    folder, out = place
    for said in ("10 files read, 1 refused (1 unreadable;", "refused broken.mid:", "5-gram"):
        assert said in out
    assert out.startswith("configuration: configs/midi.yaml; ")
    scores = json.loads((folder / "runs/a/validation.json").read_text())["scores"]
    assert [s["name"] for s in scores][-1] == "this model"
    assert len(scores) == 6
    assert list((folder / "runs/a/samples").glob("*.mid"))


def test_an_endless_piece_goes_on_and_its_decoder_is_explained(place, run):
    folder, _ = place
    arguments = ["--samples", "1", "--seed", "2", "--endless", "--max-tokens", "90", "--explain"]
    out = run(folder, "generate", *arguments, "-o", "endless")
    for said in ("decoder ", "bits per token", "float32", "state: "):
        assert said in out
    record = json.loads((folder / "endless/001.json").read_text())
    assert record["tokens"] == 90
    assert record["decay_after"] == 8  # a quarter of the context length in training


def test_generation_writes_checked_files_with_records_and_pictures(place, run):
    folder, _ = place
    prompt = write_song(folder / "prompt.mid", seed=50, bars=6)
    arguments = ["--prompt", str(prompt), "--prompt-bars", "2", "--bars", "3", "--seed", "5"]
    out = run(folder, "generate", *arguments, "--samples", "2", "-o", "out")
    assert "2 files in out" in out
    for number in ("001", "002"):
        record = json.loads((folder / f"out/{number}.json").read_text())
        assert open_midi(folder / f"out/{number}.mid").instruments[0].notes
        assert record["seed"] == 5
        assert record["prompt"] == str(prompt)
        assert record["notes"] > 0
        assert record["decode_tokens_per_second"] > 0
        assert (folder / f"out/{number}.png").stat().st_size > 1000
    run(folder, "generate", *arguments, "--samples", "1", "-o", "out", "--no-png")
    assert (folder / "out/003.mid").read_bytes() == (folder / "out/001.mid").read_bytes()
    assert not (folder / "out/003.png").exists()


def test_an_interrupted_run_stops_after_the_step_and_resumes(place, fork, run):
    folder, _ = place
    settings = ["data.source=songs", "run.dir=runs/i", "train.max_steps=4000", *SMALL]
    process = fork(folder, "train", *settings)
    metrics = folder / "runs/i/metrics.jsonl"
    deadline = time.time() + 60
    while time.time() < deadline and not (metrics.exists() and len(read_metrics(metrics)) >= 4):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    code, out = process.end()
    assert code == 130, out
    assert "resume with: python cli.py train --resume run.dir=runs/i" in out
    reached = len(losses(folder / "runs/i"))
    assert "until then, generate with: python cli.py generate runs/i (step " in out
    generated = run(
        folder, "generate", "runs/i", "--checkpoint", "last", "--samples", "1", "-o", "last"
    )
    assert f"runs/i (step {reached:,}, the last), seed" in generated
    out = run(folder, "train", "--resume", "run.dir=runs/i", f"train.max_steps={reached + 3}")
    assert "falling to 0 at step 4,000 (cosine), stopped at step" in out
    assert f"trained to step {reached + 3:,}" in out


@pytest.mark.slow
def test_two_processes_give_the_loss_of_one(place, fork, run):
    folder, _ = place
    settings = [
        "data.source=songs",
        "train.max_steps=4",
        "model.dropout=0.0",
        "train.ngram_models=false",
        "train.weight_formats=false",
        *SMALL,
    ]
    run(folder, "train", *settings, "run.dir=runs/one")
    two = ["run.dir=runs/two", "train.devices=2", "train.strategy=ddp"]
    code, out = fork(folder, "train", *settings, *two).end()  # it starts the second one itself
    assert code == 0, out
    one, two = losses(folder / "runs/one"), losses(folder / "runs/two")
    assert two == pytest.approx(one, rel=1e-5)


def test_text_trains_and_generates(tmp_path, run):
    (tmp_path / "poem.txt").write_text("tell me a line of verse\n" * 200)
    run(
        tmp_path,
        "train",
        "data.source=poem.txt",
        "tokenizer.type=bytes",
        "run.dir=runs/t",
        "train.max_steps=4",
        *SMALL,
    )
    out = run(tmp_path, "generate", "--max-tokens", "30", "--samples", "1", "-o", "out")
    assert (tmp_path / "out/001.txt").stat().st_size > 0
    assert "1 file in" in out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_cuda_trains_and_generates(place, run, precision):
    folder, _ = place
    settings = [x for x in SMALL if not x.startswith("train.accelerator")]
    name = f"runs/{precision}"
    run(
        folder,
        "train",
        "data.source=songs",
        f"run.dir={name}",
        "train.max_steps=12",
        f"train.precision={precision}",
        *settings,
        "--device",
        "cuda",
    )
    on_cpu, on_cuda = losses(folder / "runs/a"), losses(folder / name)
    assert on_cuda[0] == pytest.approx(on_cpu[0], rel=0.05)  # dropout differs
    assert on_cuda[-1] < on_cuda[0]
    run(folder, "generate", name, "--device", "cuda", "-o", f"out-{precision}", "--seed", "1")
    assert len(list((folder / f"out-{precision}").glob("*.mid"))) == 4


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["train", "train.max_stepz=3"], "train.max_stepz is not a known key", 1),
        (["train", "data.source=nowhere"], "no such folder or file", 1),
        (["train", "configs/none.yaml"], "no configuration file", 1),
        (["train", "data.source=songs", "run.dir=runs/a"], "runs/a exists: add --resume", 1),
        (["train", "--resume", "run.dir=runs/none"], "nothing to resume", 1),
        (["train", "--resume", "run.dir=runs/a", "model.d_model=32"], "resuming cannot", 1),
        (["train", "data.source=songs", "train.init_from=runs/a", "model.d_model=64"],
         "contradicts runs/a", 1),
        (["train", "configs/text.yaml", "data.source=songs", "train.init_from=runs/a"],
         "configs/text.yaml is for other files (tokenizer.type=bytes) than train.init_from", 1),
        (["train", "--resme"], "No such option", 2),
        (["generate", "runs/none"], "no run runs/none", 1),
        (["generate", "--temperature", "-1"], "temperature", 1),
        (["generate", "--temperature", "hot"], "not a valid float", 2),
        (["generate", "--temperature", "colour=1"],
         "temperature is given for colour: the fields of these tokens are remi", 1),
        (["generate", "--temperature", "remi=-1"], "temperature of field remi = -1.0", 1),
        (["generate", "--top-k", "remi=2.5"], "'2.5' is not a valid integer", 2),
        (["generate", "--min-p", "0.1,0.2"], "name each field once", 2),
        (["generate", "--prompt", "none.mid"], "prompt none.mid: no such file", 1),
        (["generate", "--prompt", "songs/broken.mid"], "prompt songs/broken.mid", 1),
        (["generate", "--prompt-bars", "3"], "needs a prompt file: --prompt FILE", 1),
        (["generate", "--device", "cuda:99"], "device cuda:99 does not work here", 1),
        (["sing"], "No such command", 2),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence_and_no_traceback(
    place, arguments, said, code, monkeypatch, capsys
):
    folder, _ = place
    before = sorted(p for p in folder.rglob("*"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["seqgen", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    if code == 1:
        assert err.count("\n") == 1
    assert sorted(p for p in folder.rglob("*")) == before


def test_debug_shows_the_traceback(place, run):
    assert "Traceback" in run(place[0], "generate", "runs/none", "--debug", code=1)


def test_help_loads_nothing_heavy():
    heavy = "torch", "numpy", "rich", "pytorch_lightning", "matplotlib"
    code = (
        "import sys; from click.testing import CliRunner;"
        "from seqgen.commands import COMMANDS, cli;"
        "[CliRunner().invoke(cli, [*c, '--help'], catch_exceptions=False) "
        "for c in [[], *([name] for name in COMMANDS)]];"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
