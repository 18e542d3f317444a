"""A model as a folder to publish, such as a repository on Hugging Face: weights, tokenizer, card.

config.json, model.safetensors, tokenizer/     a model folder: `seqgen.checkpoint` reads it
README.md                                      the model card
"""

from pathlib import Path

from seqgen.checkpoint import check_no_source, load_model, save_model
from seqgen.errors import UserError
from seqgen.export.card import model_card
from seqgen.files import atomic_folder, check_new

WEIGHTS = ("float32", "bf16")
CARD = "README.md"


def export_folder(
    run: Path, folder: Path, *, weights: str = "float32", checkpoint: str = "best"
) -> None:
    """Write a model and its card into a new folder.

    Args:
        run: a run or model folder. Its validation and evaluation, where they are there, go into the
            card; paths of this machine do not.
        folder: one that is not there yet, or is empty.
        weights: number format of the matrices in the file, one of `WEIGHTS`; computed is in float32
            either way.
        checkpoint: "best" or "last".

    Raises:
        UserError: the folder holds something, there is no such run, or it is damaged.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights = {weights}: must be one of {', '.join(WEIGHTS)}")
    check_new(folder)
    loaded = load_model(run, checkpoint=checkpoint)
    check_no_source(loaded.pairs, "an exported model")
    facts = {name: loaded.record.get(name) for name in ("loss", "context_length", "formats")}
    with atomic_folder(folder) as temporary:
        save_model(
            temporary, loaded.model, loaded.tokenizer, step=loaded.step, weights=weights, **facts
        )
        card = model_card(run, loaded, name=folder.resolve().name, weights=weights)
        (temporary / CARD).write_text(card, encoding="utf-8")
