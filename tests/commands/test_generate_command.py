"""Generated files: their options, names and records, and what is left after a failure or a stop."""

import errno
import importlib
import itertools
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import click
import pytest
from making import write_model, write_song

from seqgen.api.prompts import read_prompts
from seqgen.commands import COMMANDS, FiniteFloat, generating
from seqgen.commands.outputs import OutputFolder
from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.decoding import generation
from seqgen.midi import open_midi
from seqgen.tokenizers import build_tokenizer

SMALL = ("--max-tokens", "60", "--seed", "1", "--no-png", "-o", "out")


@pytest.fixture
def generate(command, tmp_path):
    """Run `generate` with a small model in an empty folder."""
    write_model(tmp_path / "run")
    return lambda *options: command("generate", "run", *SMALL, *options)


def reserve(folder, n, **facts):
    """Reserve n numbers, and give none of them back."""
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    prompt = read_prompts((), tokenizer, bars=None)[0]
    output = OutputFolder(folder, tokenizer, facts=facts, pictures=False)
    output.reserve(dict.fromkeys(range(n), prompt))


def names(folder):
    return {path.name for path in folder.iterdir()}


def record_of(path):
    return json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("option", ["--seconds", "--temperature", "--min-p"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_numbers_are_finite(command, option, value):
    for text in [value] if option == "--seconds" else [value, f"pitch={value}"]:
        code, said = command("generate", option, text)
        assert code == 2
        assert f"'{value}' is not a finite number" in said


def test_sections_without_a_form_are_refused(generate):
    code, said = generate("--section", "4")
    assert code == 1
    assert "give --form too" in said


def test_as_many_are_written_as_samples_are_picked_from_the_alternatives(generate, tmp_path):
    code, said = generate("--alternatives", "5", "--samples", "2", "--pick", "most-different")
    assert code == 0, said
    assert names(tmp_path / "out") == {"001.mid", "001.json", "002.mid", "002.json"}
    record = record_of(tmp_path / "out" / "001.mid")
    assert (record["alternatives"], record["pick"]) == (5, "most-different")
    for options, words in (
        (("--pick", "likeliest"), "--pick chooses from --alternatives"),
        (("--alternatives", "2", "--samples", "3"), "3 samples of 2 alternatives"),
    ):
        code, said = generate(*options)
        assert code == 1
        assert words in said


def test_every_float_option_of_every_command_is_finite():
    for name in COMMANDS:
        found = getattr(importlib.import_module(f"seqgen.commands.{name}"), name)
        for option in found.params:
            is_float = isinstance(option.type, click.types.FloatParamType)
            assert isinstance(option.type, FiniteFloat) or not is_float, (name, option.name)


def test_processes_that_write_into_one_folder_share_no_name(tmp_path, fork):
    write_model(tmp_path / "run")
    processes = [fork(tmp_path, "generate", "run", *SMALL) for _ in range(3)]
    codes, outputs = zip(*(process.end() for process in processes), strict=True)
    assert codes == (0, 0, 0), outputs
    numbers = [f"{n:03d}" for n in range(1, 13)]
    assert names(tmp_path / "out") == {f"{n}{kind}" for n in numbers for kind in (".mid", ".json")}
    for n in numbers:
        assert sum(f"out/{n}.mid: " in out for out in outputs) == 1
        assert record_of(tmp_path / f"out/{n}.mid")["file"] == f"{n}.mid"


def test_numbers_reserved_at_the_same_time_differ(tmp_path):
    together = Barrier(8)

    def take(seed):
        together.wait()
        reserve(tmp_path, 20, seed=seed)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(8)))
    records = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert {(r["seed"], r["row"]) for r in records} == {(s, i) for s in range(8) for i in range(20)}


def test_a_killed_process_leaves_records_that_name_no_file(generate, tmp_path):
    reserve(tmp_path / "out", 2, seed=7)
    for number in ("001", "002"):
        record = record_of(tmp_path / f"out/{number}.mid")
        assert record["seed"] == 7
        assert "file" not in record
    assert generate("--samples", "1")[0] == 0
    left = {"001.json", "002.json"}
    assert names(tmp_path / "out") == {*left, "003.mid", "003.json"}


def test_numbers_go_on_after_the_highest_of_any_kind(generate, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/007.png").write_text("picture")
    code, said = generate("--samples", "2")
    assert code == 0, said
    assert names(tmp_path / "out") == {"007.png", "008.mid", "008.json", "009.mid", "009.json"}


def test_a_sample_without_a_note_leaves_no_name(generate, tmp_path):
    code, said = generate("--samples", "2", "--max-tokens", "1")
    assert code == 1
    assert "2 of 2 samples were not written (sample 1: it has no note" in said
    assert names(tmp_path / "out") == set()


def test_a_file_is_no_folder_for_samples(generate, tmp_path):
    (tmp_path / "out").write_text("letter")
    code, said = generate()
    assert (code, said.splitlines()[-1]) == (
        1,
        "Error: out is a file: name a folder for the samples with -o",
    )


def test_limits_count_from_the_end_of_the_prompt(generate, tmp_path):
    write_song(tmp_path / "song.mid", bars=4)  # 2.4 s a bar
    options = ("--prompt", "song.mid", "--samples", "1", "--max-tokens", "2000")
    assert generate(*options, "--bars", "2", "--prompt-bars", "3")[0] == 0
    record = record_of(tmp_path / "out/001.mid")
    assert record["prompt_seconds"] == pytest.approx(3 * 2.4)
    assert record["tokens"] < 2000
    assert generate(*options, "--seconds", "1.5")[0] == 0
    assert open_midi(tmp_path / "out/002.mid").instruments
    assert record_of(tmp_path / "out/002.mid")["tokens"] < 2000


def interrupt(monkeypatch, *, after, signals=(signal.SIGINT,)):
    """Send signals to this process once so many steps have been drawn."""

    def draw(*arguments, **options):
        for n, step in enumerate(decode(*arguments, **options)):
            yield step
            if n == after:
                for number in signals:
                    signal.raise_signal(number)

    decode = generating.draw
    monkeypatch.setattr(generating, "draw", draw)


def test_a_model_that_forgets_needs_no_window_to_be_endless(generate, tmp_path):
    write_model(tmp_path / "run", decay="fixed")
    code, said = generate("--endless")
    assert code == 0, said
    record = record_of(tmp_path / "out/001.mid")
    assert record["decay_after"] is None
    assert record["tokens"] == 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_piece_ends_at_its_last_whole_note(generate, tmp_path, monkeypatch, number):
    interrupt(monkeypatch, after=40, signals=[number])
    handler = signal.getsignal(signal.SIGINT)
    code, said = generate(
        "--samples", "2", "--endless", "--decay-after", "8", "--max-tokens", "9999"
    )
    assert code == 128 + number
    assert signal.getsignal(signal.SIGINT) == handler
    assert "2 files in out" in said
    for name in ("001.mid", "002.mid"):
        record = record_of(tmp_path / "out" / name)
        assert 40 < record["tokens"] < 60
        assert (record["ended_by_itself"], record["interrupted"]) == (False, True)
        notes = open_midi(tmp_path / "out" / name).instruments[0].notes
        assert len(notes) == record["notes"] > 0
        assert f"out/{name}: {record['tokens']} tokens" in said
    assert said.count("(interrupted)") == 2


def test_an_interrupt_keeps_what_has_ended_and_leaves_no_name_of_what_has_not_begun(
    generate, tmp_path, monkeypatch
):
    write_song(tmp_path / "song.mid")
    monkeypatch.setattr(generation, "MAX_STREAMS", 2)
    interrupt(monkeypatch, after=3)  # two have drawn three tokens and ended, two have drawn one
    code, said = generate("--samples", "5", "--prompt", "song.mid", "--max-tokens", "3")
    assert code == 130
    assert "1 of 5 samples were not written" in said
    pieces = sorted((tmp_path / "out").glob("*.mid"))
    assert [record_of(piece)["interrupted"] for piece in pieces] == [False, False, True, True]
    assert len(names(tmp_path / "out")) == 8


def test_the_second_interrupt_ends_at_once_and_lists_what_had_ended(
    generate, tmp_path, monkeypatch
):
    write_song(tmp_path / "song.mid")
    monkeypatch.setattr(generation, "MAX_STREAMS", 2)
    interrupt(monkeypatch, after=3, signals=[signal.SIGINT, signal.SIGINT])
    code, said = generate("--samples", "4", "--prompt", "song.mid", "--max-tokens", "3")
    assert code == 130
    assert "2 files in out" in said
    assert said.splitlines()[-1] == "Error: interrupted"
    assert names(tmp_path / "out") == {"001.mid", "001.json", "002.mid", "002.json"}


def test_ctrl_c_writes_what_was_drawn(tmp_path, fork):
    write_model(tmp_path / "run")
    write_song(tmp_path / "song.mid")
    options = (
        "--prompt",
        "song.mid",
        "--endless",
        "--decay-after",
        "8",
        "--max-tokens",
        "1000000000",
    )
    process = fork(tmp_path, "generate", "run", *SMALL, *options)
    deadline = time.time() + 60
    while time.time() < deadline and not (tmp_path / "out/004.json").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    code, out = process.end()
    assert code == 130, out
    assert "4 files in out" in out
    assert names(tmp_path / "out") == {
        f"00{n}.{kind}" for n in range(1, 5) for kind in ("mid", "json")
    }


@pytest.mark.parametrize("fails", range(1, 11))
def test_a_full_disk_leaves_a_piece_with_its_record_or_neither(
    generate, tmp_path, monkeypatch, fails
):
    replace, calls = Path.replace, itertools.count(1)

    def replace_until_full(self, target):
        if next(calls) == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_until_full)
    code, said = generate("--samples", "2")
    assert code == 1
    assert "Error: the disk is full: could not write out/00" in said
    assert "; nothing half-written was kept" in said
    pieces = list((tmp_path / "out").glob("*.mid"))
    kept = {path.name for piece in pieces for path in (piece, piece.with_suffix(".json"))}
    assert names(tmp_path / "out") == kept
    assert len(pieces) == (fails > 6)  # two reservations, and four files on the way to a piece
    for piece in pieces:  # what is there is listed
        assert f"out/{piece.name}: " in said
        assert record_of(piece)["file"] == piece.name
