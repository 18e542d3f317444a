"""What the page is made of computes what Python does: numbers, draws, grammar, files, tokens."""

import base64
import gzip
import json
import shutil
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from making import random_walks

from seqgen.api.prompts import read_prompts
from seqgen.api.requests import plan_pieces
from seqgen.checkpoint import save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.decoding.generation import generate
from seqgen.decoding.onnx import OnnxDecoder
from seqgen.export import web
from seqgen.export.web import export_web
from seqgen.midi import midi_bytes, read_midi
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampler, Sampling
from seqgen.tasks import Teller, with_marks
from seqgen.tasks.asking import as_before, read_wishes
from seqgen.tasks.request import Writing
from seqgen.tokenizers import build_tokenizer, settled

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

STUDIO = Path(__file__).parents[2] / "studio"
ESBUILD = STUDIO / "node_modules" / ".bin" / "esbuild"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not ESBUILD.exists(),
    reason="Node or the page's packages are missing: run `make studio`",
)

BAND = {"parts": "tracks", "part_names": ["0", "40", "40.2", "33", "drums"], "quotes": True}
BAND |= {"use_time_signatures": True, "use_tempos": True, "use_velocities": True}
SEEDS = [[7, 0, 0], [0, 3, 1], [2**32 + 5, 1, 0], [2**53 - 1, 1023, 12]]
SETTINGS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.7, "top_k": 5},
    {"top_p": 0.9},
    {"temperature": 1.3, "top_p": 0.6, "top_k": 12},
    {"min_p": 0.1},
    {"temperature": 0.9, "top_k": 30, "top_p": 0.95, "min_p": 0.02},
]
WALKS, LENGTH = 6, 400
SEED, DRAWN = 11, 200
GIVEN, CONTINUED = 80, 40  # tokens of a prompt, and after it
ASKED = [  # texts by control, time signature, bars
    ({"key": "Am"}, None, 9),
    ({"chords": "Am | Bb7, - Co F#maj7"}, None, 7),
    ({"chords": "-", "key": "-"}, None, 2),
    ({"density": "low high", "instruments": "drums,33"}, None, 17),
    ({"instruments": "40.2,40", "register": "highest"}, "3/4", 66),
    ({"instruments": "0,40", "loudness": "lowest", "polyphony": "medium"}, None, 3),
    ({}, "2/4", 3),
]
WRITTEN = 4  # of these: it is written
TOLD = {"key": ["Am"], "chords": ["F"]}  # of a bar that is there already
AFTER_IT = [{"key": "Am", "chords": "F -"}, {"key": "C"}, {"chords": "-", "key": "-"}]
NEAR = 0.01  # of the draw's number from the edge between two tokens
NEAR_BEHIND_PROMPT = 0.03  # where Python has computed a prompt, in parallel and in float32


def prompt_of(walk, bos_id):
    return [bos_id, *walk[:GIVEN, 0].tolist()]


def settings(sampling):
    neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    return neutral | sampling


@pytest.fixture(scope="module")
def tokenizer():
    config = with_marks(settled(TokenizerConfig(**BAND)), DataConfig(controls=["all"]))
    return build_tokenizer(config, LimitsConfig())


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = ModelConfig(d_model=32, n_layers=2, n_heads=2, decay="fixed", conv_width=3)
    model = SequenceModel(config, tokenizer.vocabulary).eval()
    with torch.no_grad():  # as sure of its tokens as a trained model
        model.lm_head.linears[0].weight.mul_(4)
        model.lm_head.linears[0].bias[tokenizer.vocabulary.eos_id] -= 30
        model.lm_head.linears[0].bias[int(tokenizer.bar[0])] += 4
    return model


@pytest.fixture(scope="module")
def walks(tokenizer):
    rng = torch.Generator().manual_seed(1)
    size = tokenizer.vocabulary.sizes[0]
    likely = torch.zeros(size)
    for i, name in enumerate(tokenizer.names()):
        likely[i] = {"Bar": 3.0, "Part": 2.0, "Quote": -1.0}.get(name.partition("_")[0], 0.0)

    def logits():
        return [likely + torch.randn(WALKS, size, generator=rng)]

    return random_walks(tokenizer.vocabulary, WALKS, LENGTH, logits)


@pytest.fixture(scope="module")
def draws(tokenizer):
    """Draws by Python: logits, number, settings, what is allowed, and the token."""
    rng = torch.Generator().manual_seed(2)
    vocabulary = tokenizer.vocabulary
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    made = []
    for n, sampling in enumerate(SETTINGS * 4):
        sampler = Sampler(vocabulary, 1)
        sampler.enter(0, Sampling(**sampling, grammar=False), seed=(n,), prompt=bos)
        sampler.prepare([0])
        logits = 3 * torch.randn(1, vocabulary.sizes[0], generator=rng)
        logits[0, n % 7 :: 7] = [float("-inf"), float("nan"), -1e35, 0.0][n // 7]
        number = float(sampler.numbers[0, 0, 0])
        token = int(sampler.draw([logits], torch.tensor([0]))[0, 0])
        allowed = np.ones(vocabulary.sizes[0], dtype=int)
        allowed[[vocabulary.bos_id, vocabulary.pad_id]] = 0
        made.append((logits[0], allowed, settings(sampling), number, token))
    return made


@pytest.fixture(scope="module")
def exported(tokenizer, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    save_model(folder / "run" / "model", model, tokenizer, step=0)
    patch = pytest.MonkeyPatch()
    page = folder / "page"
    page.mkdir()
    (page / "index.html").write_text("")
    patch.setattr(web, "PAGE", page)
    patch.setattr(web, "_small_soundfont", lambda: None)
    export_web(folder / "run", folder / "out", name="band")
    patch.undo()
    return folder / "out" / "model"


@pytest.fixture(scope="module")
def requests(tokenizer):
    """What Python gives for what is asked, from nothing."""
    [start] = read_prompts((), tokenizer, bars=None)
    return [
        plan_pieces(tokenizer, [start], asked, metre=metre, bars=bars).requests[0]
        for asked, metre, bars in ASKED
    ]


def given_of(request):
    return {
        "openings": [request.opening(number) for number in range(request.n_bars)],
        "after": {str(i): list(ids) for i, ids in request.after.items()},
        "forbidden": list(request.forbidden),
    }


@pytest.fixture(scope="module")
def answers(exported, walks, draws, requests, tokenizer, tmp_path_factory):
    """What the page's own code says, all asked at once: Node takes a second to start."""
    folder = tmp_path_factory.mktemp("check")
    script = STUDIO / "node_modules" / ".cache" / f"check-{folder.parent.name}.mjs"
    vocabulary = json.loads((exported / "vocabulary.json").read_text())
    nothing = {"openings": [], "after": {}, "forbidden": []}
    common = {"sampling": settings(SETTINGS[-1]), "bars": 10_000, "seed": SEED, "given": nothing}
    start = {"prompt": [vocabulary["bos_id"]], "maxTokens": DRAWN}
    later = {"prompt": prompt_of(walks[0], vocabulary["bos_id"]), "maxTokens": CONTINUED}
    request = requests[WRITTEN]
    asked = {"prompt": request.prompt[:, 0].tolist(), "given": given_of(request)}
    asked |= {"bars": request.n_bars, "maxTokens": DRAWN}
    marks = Teller(tokenizer).controls.marks(TOLD, {})
    told = [vocabulary["bos_id"], int(tokenizer.bar[0]), *marks]
    graph = folder / "step.onnx"
    graph.write_bytes(gzip.decompress((exported / "step-int8.bin").read_bytes()))
    questions = {
        "seeds": SEEDS,
        "draws": [
            {
                "logits": [None if x != x else max(x, -3e38) for x in logits.tolist()],
                "allowed": allowed.tolist(),
                "sampling": sampling,
                "number": number,
            }
            for logits, allowed, sampling, number, _ in draws
        ],
        "vocabulary": vocabulary,
        "streams": [walk[:, 0].tolist() for walk in walks],
        "manifest": json.loads((exported / "manifest.json").read_text()),
        "asked": [
            {"asked": asked, "metre": metre, "bars": bars, "before": [vocabulary["bos_id"]]}
            for asked, metre, bars in ASKED
        ]
        + [{"asked": asked, "metre": None, "bars": 2, "before": told} for asked in AFTER_IT],
        "graph": str(graph),
        "orders": [
            common | start | {"rows": [0, 1, 2, 3], "dropped": []},
            common | later | {"rows": [0, 1, 2], "dropped": [1]},  # while the prompt is read
            common | asked | {"rows": [0, 1], "dropped": []},
        ],
    }
    (folder / "questions.json").write_text(json.dumps(questions))
    options = ["--bundle", "--format=esm", "--platform=node", "--external:onnxruntime-web"]
    try:
        subprocess.run(
            [ESBUILD, "web/check.ts", *options, "--log-level=error", f"--outfile={script}"],
            cwd=STUDIO,
            check=True,
        )
        done = subprocess.run(
            ["node", script, folder / "questions.json"], capture_output=True, check=True, text=True
        )
    finally:
        script.unlink(missing_ok=True)
    return json.loads(done.stdout)


def test_random_numbers_are_numpys(answers):
    for seed, numbers in zip(SEEDS, answers["series"], strict=True):
        assert numbers == np.random.default_rng(seed).random(len(numbers)).tolist()


def test_equal_logits_and_numbers_draw_equal_tokens(answers, draws):
    assert answers["draws"] == [token for *_, token in draws]


def test_the_grammar_allows_what_it_does_in_python(answers, walks, tokenizer):
    vocabulary = tokenizer.vocabulary
    grammar = vocabulary.grammar
    for walk, masks in zip(walks, answers["allowed"], strict=True):
        before = np.concatenate([[vocabulary.bos_id], walk[:-1, 0]])
        units = np.cumsum(grammar.completes_unit[before]) > 0
        registers = np.array([grammar.registers_after(walk[:t, 0]) for t in range(len(walk))])
        expected = vocabulary.allowed(before[:, None], has_unit=units, registers=registers)
        assert masks == ["".join(map(str, row)) for row in expected.astype(int)]


def test_a_file_holds_the_music_of_the_tokens(answers, walks, tokenizer, tmp_path):
    def music(content):
        path = tmp_path / "one.mid"
        path.write_bytes(content)
        midi = read_midi(path, LimitsConfig()).midi
        tracks = []
        for track in midi.instruments:
            times = Counter((n.start, n.pitch) for n in track.notes)
            # Of two notes of one key that begin together, MIDI cannot say which is which.
            notes = sorted(
                (n.start, n.pitch, n.end, n.velocity if times[n.start, n.pitch] == 1 else None)
                for n in track.notes
            )
            tracks.append((track.name, track.program, track.is_drum, notes))
        metres = [(x.time, x.numerator, x.denominator) for x in midi.time_signature_changes]
        # Where no token says so, Python takes the tempo of a token and the page the plain one.
        return midi.ticks_per_beat, tracks, metres, round(midi.tempo_changes[0].tempo)

    for walk, file in zip(walks, answers["files"], strict=True):
        assert music(base64.b64decode(file)) == music(midi_bytes(tokenizer.played(walk)))


def test_tokens_are_pythons_until_a_number_falls_on_an_edge(answers, model, tokenizer):
    """The page and onnxruntime here round floats differently; everything else is the same."""
    tokens = answers["tokens"][0]
    assert n_equal(model, [tokenizer.vocabulary.bos_id], tokens, DRAWN) >= DRAWN


def test_a_continuation_reads_the_prompt_and_a_dropped_one_is_not_written(
    answers, model, tokenizer, walks
):
    prompt = prompt_of(walks[0], tokenizer.vocabulary.bos_id)
    first, dropped, last = answers["tokens"][1]
    assert dropped == []
    assert n_equal(model, prompt, [first, None, last], CONTINUED) >= CONTINUED


def test_what_is_asked_is_given_as_python_gives_it(answers, requests, tokenizer):
    bos, bar = tokenizer.vocabulary.bos_id, int(tokenizer.bar[0])
    for given, request in zip(answers["given"][: len(ASKED)], requests, strict=True):
        expected = given_of(request)
        assert set(given.pop("forbidden")) == set(expected.pop("forbidden"))
        assert given == expected
        assert request.prompt[:, 0].tolist() == [bos, bar, *given["openings"][0]]


def test_what_is_in_force_is_told_where_it_changes(answers, tokenizer):
    controls = Teller(tokenizer).controls
    for given, asked in zip(answers["given"][len(ASKED) :], AFTER_IT, strict=True):
        wish = read_wishes(controls, as_before(controls, asked, []), 2)
        bars = [TOLD, wish(0), wish(1)]
        told = [controls.marks(now, before) for before, now in pairwise(bars)]
        assert given["openings"] == told


def test_what_is_asked_follows_each_bar_and_all_else_is_drawn(answers, requests, model, tokenizer):
    """Python computes what is given in parallel, so the draws are compared with steps of its own.

    A draw on the edge between two tokens may fall on either.
    """
    request, decoder = requests[WRITTEN], OnnxDecoder(model, "int8")
    for row, tokens in enumerate(answers["tokens"][2]):
        writing, given, drawn = Writing(request, request, int(tokenizer.bar[0])), [], 0
        made = request.prompt[:, 0].tolist()
        for token, reached in zip(tokens, shares(decoder, made, tokens, request), strict=True):
            if given:
                assert token == given.pop(0)
            else:
                number = number_of(row, drawn)
                assert reached[token - 1] - NEAR < number < reached[token] + NEAR
                drawn += 1
            assert not writing.take(np.array([token])) or token == tokens[-1]
            given = given or writing.given()[:, 0].tolist()
        assert drawn == DRAWN or writing.is_whole
        assert len(tokens) > drawn + 10


def shares(decoder, prompt, tokens, request):
    """Yield for each token the summed probabilities of all ids, from -1 on, before its draw."""
    pool, slots = decoder.open(1), torch.tensor([0])
    pool.write(slots, decoder.initial_state(1))
    for t, token in enumerate([*prompt, *tokens[:-1]]):
        (logits,) = pool.advance(slots, torch.tensor([[token]]))
        if t >= len(prompt) - 1:
            made = np.array([*prompt, *tokens][: t + 1])
            logits[:, list(request.forbidden)] -= 1e6
            yield reached_by(decoder.vocabulary, logits, made)


def number_of(row, draw):
    return np.random.default_rng([SEED, row, draw // 256]).random(256)[draw % 256]


def n_equal(model, prompt, written, max_tokens):
    """Count tokens that equal Python's, and check where rows part; None: not compared."""
    decoder, sampling = OnnxDecoder(model, "int8"), Sampling(**SETTINGS[-1])
    prompts = [np.array(prompt)[:, None]] * len(written)
    rows = {row: [] for row in range(len(written))}
    steps = generate(decoder, prompts, sampling=sampling, max_tokens=max_tokens, seed=SEED)
    for step in steps:
        for row, token in zip(step.rows, step.tokens, strict=True):
            rows[row].append(int(token[0]))
    total = 0
    for row, ours in rows.items():
        theirs = written[row]
        if theirs is None:
            continue
        pairs = list(zip(ours, theirs, strict=False))
        t = next((t for t, (a, b) in enumerate(pairs) if a != b), None)
        total += len(pairs) if t is None else t
        if t is None:
            assert len(ours) == len(theirs)
            continue
        near = NEAR if len(prompt) == 1 else NEAR_BEHIND_PROMPT
        for edge in edges_between(decoder, [*prompt, *ours[:t]], pairs[t]):
            assert abs(edge - number_of(row, t)) < near
    return total


def edges_between(decoder, tokens, pair):
    """Return the two ends, on the way from 0 to 1, of what lies between two tokens' shares."""
    pool, slots = decoder.open(1), torch.tensor([0])
    pool.write(slots, decoder.initial_state(1))
    for token in tokens:
        (logits,) = pool.advance(slots, torch.tensor([[token]]))
    reached = reached_by(decoder.vocabulary, logits, np.array(tokens))
    return reached[min(pair)], reached[max(pair) - 1]


def reached_by(vocabulary, logits, made):
    """Return the summed probabilities of ids after tokens, with 0 for id -1."""
    grammar = vocabulary.grammar
    mask = vocabulary.allowed(
        made[-1:, None],
        has_unit=grammar.completes_unit[made].any(keepdims=True),
        registers=np.array([grammar.registers_after(made[1:])]),
    )
    sampling = settings(SETTINGS[-1])
    kept = logits.masked_fill(torch.from_numpy(~mask), -torch.inf) / sampling["temperature"]
    from seqgen.sampling import filters

    kept = filters.keep_top_k_and_p(
        kept, torch.tensor([[sampling["top_k"]]]), torch.tensor([[sampling["top_p"]]])
    )
    kept = filters.keep_min_p(kept, torch.tensor([[sampling["min_p"]]]))
    return [*kept.double().softmax(-1).cumsum(-1)[0].tolist(), 0.0]
