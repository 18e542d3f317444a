"""A model as a page that needs no server: a folder of static files for any web space.

index.html, assets/, runtime.bin     the page, built from studio/web, and onnxruntime-web
model/step-int8.bin                  the ONNX graph of a step, weights in 8 bits
model/vocabulary.json                names of ids, special ids, grammar
model/manifest.json                  what the page has to know besides
model/sound.bin                      a soundfont, if a small one was found

Files called .bin are compressed with gzip: many servers send a file as it lies there.
"""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from seqgen.checkpoint import LoadedModel, RunFolder, check_no_source, load_model
from seqgen.config import TokenizerConfig, load_config
from seqgen.data.corpora import describe_licence
from seqgen.decoding.onnx import check_exportable
from seqgen.errors import UserError
from seqgen.export.controls import asking_record
from seqgen.export.folder import CARD
from seqgen.export.onnx import vocabulary_record
from seqgen.files import atomic_folder, check_new
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.tokenizers.midi.scores import title
from seqgen.tokenizers.midi.tokenizer import MidiTokenizer

FORMAT = 2  # of the manifest; the page names the one that it reads
PAGE = Path(__file__).parent / "page"
NOT_BUILT = (
    "the page is not built here: run `make studio` (it needs Node 20), or install a wheel, which "
    "carries it"
)
LARGEST_SOUNDFONT = 8_000_000  # bytes


def export_web(run: Path, folder: Path, *, name: str, checkpoint: str = "best") -> Path | None:
    """Write a page with a run's or model folder's model into a new folder.

    Args:
        run: the run or model folder.
        folder: one that is not there yet, or is empty.
        name: of the model, for the page.
        checkpoint: "best" or "last".

    Returns:
        The soundfont that was taken along; None: there was none of at most `LARGEST_SOUNDFONT`.

    Raises:
        UserError: the folder holds something, there is no such run, the page cannot read its tokens
            or run its model, or the page is not built.
    """
    check_new(folder)
    if not (PAGE / "index.html").is_file():
        raise UserError(NOT_BUILT)
    loaded = load_model(run, checkpoint=checkpoint)
    check_no_source(loaded.pairs, "the page")
    tokenizer = _readable(loaded)
    check_exportable(loaded.model)
    from seqgen.decoding.onnx_graph import step_graph

    graph, model = step_graph(loaded.model, "int8"), loaded.model.config
    sound = _small_soundfont()
    manifest = {
        "format": FORMAT,
        "name": name,
        "about": _about(run, loaded),
        "n_parameters": sum(p.numel() for p in loaded.model.parameters()),
        "step": loaded.step,
        "unit": tokenizer.unit,
        "loss_bits": None,
        "tempo": tokenizer.config.tempo,
        "velocity": tokenizer.config.velocity,
        "positions_per_beat": tokenizer.config.positions_per_beat,
        "max_positions": model.max_positions if model.positions == "learned" else None,
        "parts": _parts(tokenizer),
        "state": _state(graph),
        "sound": None if sound is None else "model/sound.bin",
        "asking": asking_record(tokenizer),
    }
    with atomic_folder(folder) as temporary:
        shutil.copytree(PAGE, temporary, dirs_exist_ok=True)
        place = temporary / "model"
        place.mkdir()
        (place / "step-int8.bin").write_bytes(_compressed(graph.SerializeToString()))
        (place / "vocabulary.json").write_text(json.dumps(vocabulary_record(loaded)))
        (place / "manifest.json").write_text(json.dumps(manifest))
        if sound is not None:
            (place / "sound.bin").write_bytes(_compressed(sound.read_bytes()))
    return sound


def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)  # the same content gives the same file


def _readable(loaded: LoadedModel) -> MidiTokenizer:
    """Return a tokenizer whose tokens the page can turn into music, or name the setting."""
    tokenizer = loaded.tokenizer
    kind = tokenizer.config.type
    if not isinstance(tokenizer, MidiTokenizer) or kind != "remi":
        what = "such tokens" if tokenizer.is_music else tokenizer.kind
        raise UserError(
            f"tokenizer.type={kind}: the page cannot read {what}; train with tokenizer.type=remi"
        )
    for key in ("use_sustain_pedals", "use_pitch_bends"):
        if getattr(tokenizer.config, key):
            raise UserError(
                f"tokenizer.{key}=true: the page plays notes alone; train with it false"
            )
    return tokenizer


def _parts(tokenizer: MidiTokenizer) -> list[dict[str, Any]]:
    """Describe the parts, with what Part or Program tokens call them."""
    config: TokenizerConfig = tokenizer.config
    is_alone = config.parts == "one"

    def token(name: str, code: int) -> str:
        if is_alone:
            return ""
        return name if tokenizer.tells_parts else str(code)

    return [
        {
            "token": token(part.name, part.code),
            "name": title(part),
            "program": part.program,
            "is_drum": part.is_drum,
        }
        for part in (tokenizer.parts[:1] if is_alone else tokenizer.parts)
    ]


def _state(graph: Any) -> dict[str, Any]:
    """Describe the parts of the graph's state: types, and shapes with "rows" where rows count."""
    types = {1: "float32", 7: "int64"}  # as onnx numbers them
    return {
        value.name: {
            "type": types[value.type.tensor_type.elem_type],
            "shape": [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        }
        for value in graph.graph.input
        if value.name != "tokens"
    }


def _about(run: Path, loaded: LoadedModel) -> list[str]:
    """Return sentences about the model; sources that are no corpora of datasets/ stay private.

    A folder to publish has a card instead of the run's configuration.
    """
    model = loaded.model.config
    size = sum(p.numel() for p in loaded.model.parameters())
    about = [
        f"A recurrent network with {size:,} parameters, {model.n_layers} layers of width "
        f"{model.d_model}, which was trained as a Transformer with linear attention, with seqgen. "
        f"Its weights are rounded to 8 bits here."
    ]
    place = RunFolder(run.parent if run.name == "model" else run)
    if place.config.is_file():
        sources = load_config(place.config).data.source
        known = map(describe_licence, [sources] if isinstance(sources, str) else sources)
        return about + [f"It was trained on {text}" for text in known if text is not None]
    card = place.path / CARD
    if card.is_file():
        _, _, told = card.read_text(encoding="utf-8").partition("\n## Trained on\n")
        first = told.partition("\n## ")[0].strip().partition("\n")[0]
        about += [f"It was trained on {first}"] * bool(first)
    return about


def _small_soundfont() -> Path | None:
    try:
        sound = find_soundfont(most_bytes=LARGEST_SOUNDFONT)
    except UserError:
        return None
    return sound if sound.stat().st_size <= LARGEST_SOUNDFONT else None
