"""One piece from nothing, in a fresh process: `python -m seqgen.benchmark.cold FOLDER`.

The time is that of the whole process: Python, the imports, the model from its file, the decoder
made ready, and all tokens of one piece. The files were read before, so that they are in memory.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from seqgen.config import ModelConfig
from seqgen.decoding import build_decoder, generate
from seqgen.errors import UserError
from seqgen.files import write_json
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampling
from seqgen.vocabulary import Vocabulary

ORDER, WEIGHTS, RESULT = "order.json", "model.safetensors", "result.json"
ROOT = Path(__file__).resolve().parents[2]  # where the package is imported from
NEVER = -1e6  # added to the logit of EOS


def cold_starts(
    model: SequenceModel, *, decoder: str, weights: str, n_tokens: int, times: int
) -> list[float]:
    """Write a piece in each of `times` new processes, one after the other; return their seconds.

    Raises:
        UserError: such a process fails, or does not write the whole piece.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_file(
            {key: x.cpu().contiguous() for key, x in model.state_dict().items()}, folder / WEIGHTS
        )
        order = {
            "model": model.config.model_dump(),
            "vocabulary": model.vocabulary.to_json(),
            "decoder": decoder,
            "weights": weights,
            "n_tokens": n_tokens,
            "device": str(next(model.parameters()).device),
            "threads": torch.get_num_threads(),
        }
        write_json(folder / ORDER, order)
        return [_start(folder, n_tokens) for _ in range(times)]


def endless_sampling(vocabulary: Vocabulary) -> Sampling:
    """Draw from the 40 most likely ids and never EOS, so that pieces have the length asked for."""
    return Sampling(top_k=40, logit_bias=((vocabulary.eos_id, NEVER),))


def main(folder: Path) -> None:
    """Write the piece that is ordered in a folder, and say there that it was done."""
    order = json.loads((folder / ORDER).read_text())
    torch.set_num_threads(order["threads"])
    vocabulary = Vocabulary.from_json(order["vocabulary"])
    model = SequenceModel(ModelConfig.model_validate(order["model"]), vocabulary)
    model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    model = model.to(order["device"]).eval()
    decoder = build_decoder(model, order["decoder"], weights=order["weights"])
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    sampling = endless_sampling(vocabulary)
    steps = generate(decoder, [bos], sampling=sampling, max_tokens=order["n_tokens"])
    n_tokens = sum(len(step.tokens) for step in steps)
    write_json(folder / RESULT, {"n_tokens": n_tokens, "process": os.getpid()})


def _start(folder: Path, n_tokens: int) -> float:
    (folder / RESULT).unlink(missing_ok=True)
    command: Sequence[str] = (sys.executable, "-m", "seqgen.benchmark.cold", str(folder))
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    begin = time.perf_counter()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"a fresh process failed: {reason}")
    result = json.loads((folder / RESULT).read_text())
    if result["n_tokens"] != n_tokens:
        raise UserError(f"a fresh process wrote {result['n_tokens']} of {n_tokens} tokens")
    return seconds


if __name__ == "__main__":
    main(Path(sys.argv[1]))
