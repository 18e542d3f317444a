"""Tokenizers: files to ids and back."""

from collections.abc import Callable
from pathlib import Path

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.files import read_json
from seqgen.tokenizers.base import (
    Clock,
    Edit,
    Encoded,
    Original,
    Shift,
    Sketch,
    Tokenizer,
    ToldNote,
)
from seqgen.tokenizers.grid import GridTokenizer
from seqgen.tokenizers.midi import (
    COMPOUND,
    CompoundTokenizer,
    FileSurvey,
    MidiTokenizer,
    choose_settings,
    settled,
    survey_file,
    total_account,
)
from seqgen.tokenizers.text import ByteTokenizer

__all__ = [
    "Clock",
    "Edit",
    "Encoded",
    "FileSurvey",
    "Original",
    "Shift",
    "Sketch",
    "Tokenizer",
    "ToldNote",
    "build_tokenizer",
    "choose_settings",
    "is_open",
    "load_tokenizer",
    "settled",
    "survey_file",
    "total_account",
]

# By tokenizer.type; the other types are MidiTok's, but for "grid".
WITHOUT_OPTIONS: dict[str, Callable[[LimitsConfig], Tokenizer]] = {"bytes": ByteTokenizer}


def is_open(config: TokenizerConfig) -> bool:
    """Whether a configuration leaves settings open that are chosen from the corpus."""
    is_own = config.type in WITHOUT_OPTIONS or config.type == "grid"
    return not is_own and config != settled(config)


def build_tokenizer(config: TokenizerConfig, limits: LimitsConfig) -> Tokenizer:
    """Build the tokenizer that the configuration names, refusing files beyond `limits`.

    Raises:
        UserError: it cannot learn merged tokens, or not so few.
    """
    size = config.bpe_vocab_size
    if config.type in WITHOUT_OPTIONS:
        if size is not None:
            raise UserError(
                f"tokenizer.bpe_vocab_size is for MIDI tokens; leave it out for {config.type}"
            )
        return WITHOUT_OPTIONS[config.type](limits)
    if config.type in COMPOUND or config.type == "grid":
        if size is not None:
            raise UserError(
                f"tokenizer.bpe_vocab_size merges tokens of one field; leave it out for "
                f"{config.type}"
            )
        if config.type == "grid":
            return GridTokenizer(config, limits)
        return CompoundTokenizer(config, limits)
    tokenizer = MidiTokenizer(config, limits)
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
        if record["type"] in WITHOUT_OPTIONS:
            return WITHOUT_OPTIONS[record["type"]](limits)
        config = TokenizerConfig.model_validate(record["config"])
        if config.type == "grid":
            return GridTokenizer(config, limits)
        if config.type in COMPOUND:
            return CompoundTokenizer(config, limits)
        return MidiTokenizer(config, limits, folder / "miditok.json")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"no usable tokenizer in {folder} ({type(error).__name__}: {error})"
        ) from None
