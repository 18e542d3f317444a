"""Tokenizers: files to ids and back."""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.files import read_json
from seqgen.tokenizers.base import (
    Clock,
    Edit,
    Encoded,
    MusicTokenizer,
    Original,
    Preview,
    Shift,
    Sketch,
    Tokenizer,
    ToldNote,
)
from seqgen.tokenizers.midi import (
    add_accounts,
    choose_settings,
    settled,
    survey_file,
    total_account,
)

__all__ = [
    "TYPES",
    "Clock",
    "Edit",
    "Encoded",
    "MusicTokenizer",
    "Original",
    "Preview",
    "Shift",
    "Sketch",
    "Tokenizer",
    "ToldNote",
    "add_accounts",
    "build_tokenizer",
    "choose_settings",
    "load_tokenizer",
    "modality",
    "modality_of",
    "settled",
    "survey_file",
    "total_account",
]


def _modalities(base: Any) -> dict[str, type[Tokenizer]]:
    """Return the classes of tokenizers by the values of tokenizer.type that they are for."""
    found = dict.fromkeys(base.types, base)
    for one in base.__subclasses__():
        found |= _modalities(one)
    return found


# Every file of this folder may define tokenizers: there is no other list of them.
for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
TYPES = _modalities(Tokenizer)


def modality(type: str) -> type[Tokenizer]:
    """Return the class of a tokenizer.type.

    Raises:
        UserError: there is none; it names those that there are.
    """
    if type not in TYPES:
        close = get_close_matches(type, TYPES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(TYPES))}"
        raise UserError(f"tokenizer.type = {type!r}: no such tokenizer; {hint}")
    return TYPES[type]


def modality_of(path: Path) -> type[Tokenizer] | None:
    """Return the modality that looks for files with the ending of this one; None: no one does."""
    return next((one for one in TYPES.values() if path.suffix.lower() in one.suffixes), None)


def build_tokenizer(config: TokenizerConfig, limits: LimitsConfig) -> Tokenizer:
    """Build the tokenizer that the configuration names, refusing files beyond `limits`.

    Raises:
        UserError: there is none of the type, or it cannot learn merged tokens, or not so few.
    """
    size, made_by = config.bpe_vocab_size, modality(config.type)
    if size is not None and not made_by.merges:
        raise UserError(
            f"tokenizer.bpe_vocab_size merges MIDI tokens of one field; leave it out for "
            f"{config.type}"
        )
    tokenizer = made_by(config, limits)
    if size is not None and size <= tokenizer.vocabulary.sizes[0]:
        raise UserError(
            f"tokenizer.bpe_vocab_size={size} must be above the {tokenizer.vocabulary.sizes[0]} "
            f"plain tokens of {config.type}"
        )
    return tokenizer


def load_tokenizer(folder: Path, limits: LimitsConfig | None = None) -> Tokenizer:
    """Load what `Tokenizer.save` wrote; `limits` replace those it was saved with.

    Raises:
        UserError: the folder holds no tokenizer, or a damaged one.
    """
    record = read_json(
        folder / "tokenizer.json", way_out="copy the folder again, or train a new run"
    )
    try:
        limits = limits or LimitsConfig.model_validate(record["limits"])
        config = TokenizerConfig.model_validate(record["config"])
        return modality(config.type).load(config, limits, folder)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"no usable tokenizer in {folder} ({type(error).__name__}: {error})"
        ) from None
