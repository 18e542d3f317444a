"""A model as ONNX graphs in a folder, checked against the reference decoder while they are written.

step.onnx, prefill.onnx                        float32
step-int8.onnx, prefill-int8.onnx              weights in 8 bits, activations in 7
vocabulary.json                                names of ids, special ids, grammar
README.md                                      what goes in and out
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqgen.checkpoint import LoadedModel, check_no_source, load_model
from seqgen.decoding.agreement import agree, score
from seqgen.decoding.decoder import Decoder
from seqgen.decoding.formats import comparison_tokens
from seqgen.decoding.onnx import OnnxDecoder, check_exportable, open_graph
from seqgen.decoding.reference import ReferenceDecoder
from seqgen.errors import UserError
from seqgen.files import atomic_folder, check_new

MOST_DIFFERENCE = 1e-3  # of a logit from the reference's, relative to the largest one
CHECKED = 64  # positions at most
README = Path(__file__).parent / "onnx_readme.md"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        n_positions: at which the graph was compared with the reference decoder.
        difference: the largest, relative to the largest logit.
        bits: per token of the reference, and of the graph in 8 bits.
        source: of the tokens on which bits were measured.
    """

    n_positions: int
    difference: float
    bits: tuple[float, float]
    source: str


def export_onnx(run: Path, folder: Path, *, checkpoint: str = "best") -> Exported:
    """Write the graphs of a run or model folder into a new folder.

    Raises:
        UserError: the folder holds something, there is no such run, its attention has no graphs,
            packages are missing, or a graph does not compute what the reference does.
    """
    check_new(folder)
    loaded = load_model(run, checkpoint=checkpoint)
    check_no_source(loaded.pairs, "the exported model")
    check_exportable(loaded.model)
    from seqgen.decoding.onnx_graph import OPSET, prefill_graph, step_graph

    model = loaded.model
    tokens, source = comparison_tokens(loaded, run)
    exact = OnnxDecoder(model)
    with atomic_folder(folder) as temporary:
        for weights in OnnxDecoder.supported_weights:
            suffix = "" if weights == "float32" else f"-{weights}"
            for name, build in (("step", step_graph), ("prefill", prefill_graph)):
                content = build(model, weights).SerializeToString()
                (temporary / f"{name}{suffix}.onnx").write_bytes(content)
        few = tokens[:, :CHECKED]
        difference = _compare_steps(exact, ReferenceDecoder(model), few)
        prefill = (temporary / "prefill.onnx").read_bytes()
        difference = max(difference, _compare_prefill(prefill, ReferenceDecoder(model), few))
        if not difference < MOST_DIFFERENCE:
            raise UserError(
                f"{run}: its ONNX graph differs from the reference decoder by {difference:.1e} of "
                f"the largest logit, so nothing was written; please report this with the run"
            )
        logits = score(model, tokens)
        bits = (
            agree(exact, tokens, logits).exact_bits,
            agree(OnnxDecoder(model, "int8"), tokens, logits).bits,
        )
        told = Exported(few.shape[1], difference, bits, source)
        (temporary / "vocabulary.json").write_text(json.dumps(vocabulary_record(loaded)))
        (temporary / "README.md").write_text(_readme(folder, told, opset=OPSET), encoding="utf-8")
    return told


def _compare_steps(ours: Decoder, theirs: Decoder, tokens: Tensor) -> float:
    """Return the largest difference of logits after each of tokens [B, T, F], in relation."""
    slots, worst, largest = torch.arange(len(tokens)), 0.0, 1.0
    pools = [decoder.open(len(tokens)) for decoder in (ours, theirs)]
    for pool in pools:
        pool.write(slots, theirs.initial_state(len(tokens)))
    for token in tokens.unbind(1):
        a, b = (torch.cat(pool.advance(slots, token), dim=1) for pool in pools)
        worst = max(worst, float((a - b).abs().max()))
        largest = max(largest, float(b.abs().max()))
    return worst / largest


def _compare_prefill(content: bytes, theirs: Decoder, tokens: Tensor) -> float:
    """Return the same of a prefill of rows of different lengths."""
    session, state = open_graph(content), theirs.initial_state(len(tokens))
    lengths = 1 + torch.arange(len(tokens)) * (tokens.shape[1] - 1) // max(len(tokens) - 1, 1)
    given = {"tokens": tokens.numpy(), "lengths": lengths.numpy()}
    for one in session.get_inputs()[2:]:
        given[one.name] = getattr(state, one.name).numpy()
    ours = session.run(["logits"], given)[0]
    logits, _ = theirs.prefill(tokens, lengths)
    expected = torch.cat(logits, dim=1).numpy()
    return float(np.abs(ours - expected).max() / max(1.0, np.abs(expected).max()))


def vocabulary_record(loaded: LoadedModel) -> dict:
    """Return what a program needs to turn ids into music or text, and to keep their order."""
    tokenizer = loaded.tokenizer
    return {
        "format": 1,
        "unit": tokenizer.unit,
        "suffix": tokenizer.suffix,
        "names": tokenizer.names(),
        "chain": OnnxDecoder(loaded.model).chain.tolist(),
        **tokenizer.vocabulary.to_json(),
    }


def _readme(folder: Path, told: Exported, *, opset: int) -> str:
    return README.read_text(encoding="utf-8").format(
        name=folder.resolve().name,
        opset=opset,
        positions=told.n_positions,
        difference=told.difference,
        source=told.source,
        exact=told.bits[0],
        rounded=told.bits[1],
    )
