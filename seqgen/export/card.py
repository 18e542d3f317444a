"""The model card: what a model is, what it learned from, and how good it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqgen.checkpoint import LoadedModel, RunFolder
from seqgen.config import Config, DataConfig, load_config
from seqgen.data.corpora import describe_licence
from seqgen.files import counted, read_json

HEADER = """---
library_name: seqgen
tags: [{tags}]
---
"""
USE = """
Where seqgen is installed, `seqgen generate {name}` writes files with it, and
`seqgen train --adapt {name} data.source=FOLDER` goes on training it with files of yours. {name} is
this folder; a repository on Hugging Face is called `hf:OWNER/NAME@REVISION`.

```python
import seqgen

model = seqgen.load("{name}")
model.generate(samples=1)[0].save("piece{suffix}")
```
"""


def model_card(run: Path, loaded: LoadedModel, *, name: str, weights: str) -> str:
    """Return a model card as Markdown, with what the run's folder says of it.

    Args:
        run: the run or model folder.
        loaded: its model.
        name: what the folder is called that the card is for.
        weights: number format of the weights in it.
    """
    folder = RunFolder(run.parent if run.name == "model" else run)
    config = load_config(folder.config) if folder.config.is_file() else None
    kind, suffix = loaded.tokenizer.kind, loaded.tokenizer.suffix
    lines = [
        HEADER.format(tags=f"linear-attention, {kind}"),
        f"# {name}\n",
        _about(loaded),
        USE.format(name=name, suffix=suffix),
        *_learned_from(config),
        *_figures(folder, loaded),
        *_limits(loaded, weights),
    ]
    return "\n".join(lines).strip() + "\n"


def _about(loaded: LoadedModel) -> str:
    model = loaded.model.config
    size = sum(p.numel() for p in loaded.model.parameters())
    kind = f"{loaded.tokenizer.kind} ({loaded.tokenizer.suffix} files)"
    return (
        f"A causal Transformer with {model.attention.replace('causal-linear', 'linear')} attention "
        f"for {kind}, made with seqgen: {model.n_layers} layers of width {model.d_model}, "
        f"{size:,} parameters, {loaded.tokenizer.config.type} tokens. It was trained in parallel "
        f"and generates as a recurrent network, with a state whose size never grows."
    )


def _learned_from(config: Config | None) -> Iterator[str]:
    yield "## Trained on\n"
    if config is None:
        yield "What it was trained on is not recorded.\n"
        return
    yield f"{_sources(config.data)}\n"
    train = config.train
    yield (
        f"{train.max_steps:,} steps of {train.batch_size * train.accumulate} rows of "
        f"{train.context_length} tokens"
        + (f", transposed by up to {config.data.transpose} semitones" * bool(config.data.transpose))
        + ".\n"
    )
    if config.data.tasks:
        yield f"Tasks: {', '.join(config.data.tasks)}.\n"


def _sources(data: DataConfig) -> str:
    """Name corpora with their licences; folders are private, and only counted."""
    sources = [data.source] if isinstance(data.source, str) else data.source
    known = [told for told in map(describe_licence, sources) if told is not None]
    n_own = len(sources) - len(known)
    own = f"{counted(n_own, 'folder')} of the trainer's own files." * bool(n_own)
    return "\n\n".join([*known, *filter(None, [own])])


def _figures(folder: RunFolder, loaded: LoadedModel) -> Iterator[str]:
    if folder.validation.is_file():
        yield "## Figures\n"
        yield "On held-out pieces, which it was not trained on, beside n-gram models:\n"
        yield from _table(read_json(folder.validation, way_out="train again, or remove it"))
    evaluation = folder.path / "evaluation" / "evaluation.json"
    if not evaluation.is_file():
        return
    record = read_json(evaluation, way_out="evaluate again, or remove it")
    if record["subject"]["step"] == loaded.step:
        verdict = record["verdict"]
        yield "## Evaluation\n"
        yield from (f"- {one['text']}" for one in (*verdict["summary"], *verdict["sentences"]))
        yield ""


def _table(record: dict[str, Any]) -> Iterator[str]:
    yield f"| model | nats per token | bits per {record['unit']} |"
    yield "|---|---|---|"
    for score in record["scores"]:
        nats, bits = score["nats_per_token"], score["bits_per_unit"]
        yield f"| {score['name']} | {nats:.3f} | {bits:.3f} |"
    yield ""


def _limits(loaded: LoadedModel, weights: str) -> Iterator[str]:
    yield "## Limits\n"
    if weights != "float32":
        yield f"- Its weights are rounded to {weights}; the figures above are those of float32."
    length = loaded.record.get("context_length")
    if length is not None:
        yield f"- Its training windows had {length} tokens: it hardly relates what is further away."
    yield (
        "- It writes in the manner of its training pieces, and may repeat passages of them; "
        "`seqgen evaluate` measures how much."
    )
