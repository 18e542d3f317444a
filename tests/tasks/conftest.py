"""Tokens with marks, and pieces told in them."""

import numpy as np
import pytest
from making import write_band

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.tasks import Teller, level_borders, with_marks
from seqgen.tasks.bars import BarReader
from seqgen.tokenizers import build_tokenizer, settled

TRACKS = {"parts": "tracks", "part_names": ["0", "33", "40", "drums"], "use_time_signatures": True}
TRACKS |= {"use_tempos": True, "use_velocities": True, "positions_per_beat": 12}
ALL_TASKS = {"continue": 1.0, "infill": 1.0, "accompany": 1.0}


def build(options, *, tasks=ALL_TASKS, controls=("all",), band=None):
    """A tokenizer with marks, its levels from one song."""
    config = settled(TokenizerConfig(**options))
    config = with_marks(config, DataConfig(tasks=tasks, controls=list(controls)))
    tokenizer = build_tokenizer(config, LimitsConfig())
    piece = BarReader(tokenizer).read(tokenizer.encode(band))
    levels = {"levels": level_borders([piece])}
    return build_tokenizer(config.model_copy(update=levels), LimitsConfig())


@pytest.fixture(scope="session")
def band(tmp_path_factory):
    """A song of four parts in twelve bars."""
    return write_band(tmp_path_factory.mktemp("band") / "band.mid", bars=12)


@pytest.fixture(scope="session", params=["several parts", "with quotes", "one part"])
def tokenizer(request, band):
    """Tokens that know all tasks that they can tell."""
    if request.param == "one part":
        tasks = dict.fromkeys(("continue", "infill"), 1.0)
        return build({"use_time_signatures": True}, tasks=tasks, band=band)
    return build({**TRACKS, "quotes": request.param == "with quotes"}, band=band)


@pytest.fixture(scope="session")
def teller(tokenizer):
    return Teller(tokenizer)


@pytest.fixture(scope="session")
def ids(tokenizer, band):
    """The song as training has it [T, 1]."""
    vocabulary = tokenizer.vocabulary
    bos, eos = (vocabulary.special_token(i)[None] for i in (vocabulary.bos_id, vocabulary.eos_id))
    return np.concatenate([bos, tokenizer.encode(band), eos])


@pytest.fixture(scope="session")
def piece(teller, ids):
    return teller.reader.read(ids)
