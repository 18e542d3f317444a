"""Small models that many tests share."""

import gc

import pytest
import torch
from ordered import compound

from seqgen.config import ModelConfig
from seqgen.model.embedding import HELD_SCALE
from seqgen.model.encoder_decoder import build_model
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Field, Vocabulary


def pytest_collection_finish():
    gc.freeze()  # what is imported is not looked through by each collection, which takes 0.3 s


@pytest.fixture(autouse=True)
def _one_thread():
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tiny models gain nothing from more


@pytest.fixture
def plain_vocabulary() -> Vocabulary:
    fields = (Field("token", 24),)
    held = ((10, 11, 12, 13), (14, 15))
    return Vocabulary(fields, bos_id=1, eos_id=2, pad_id=0, anchors=(5, 9), held=held)


@pytest.fixture
def toy_vocabulary() -> Vocabulary:
    """Three fields, as a compound word has them."""
    fields = (Field("family", 12), Field("pitch", 20), Field("length", 9))
    held = ((3, 4, 8), (7, 10))
    return Vocabulary(fields, bos_id=1, eos_id=2, pad_id=0, anchors=(5, 9), held=held)


@pytest.fixture
def compound_vocabulary() -> Vocabulary:
    """Four fields of which the first decides which others mean something, and an order."""
    return compound()


@pytest.fixture
def tiny():
    """Build a tiny model whose weights are large enough for a wrong position to show."""

    def build(vocabulary: Vocabulary, **choices) -> SequenceModel:
        config = ModelConfig(**{"d_model": 32, "n_layers": 2, "n_heads": 4, **choices})
        model = build_model(config, vocabulary).eval()
        for head in model.lm_head.linears:
            torch.nn.init.normal_(head.weight, std=0.3)
        for table in model.lm_head.tables:
            torch.nn.init.normal_(table.weight)
        if model.held is not None:
            torch.nn.init.normal_(model.held.table.weight[1:], std=1 / HELD_SCALE)
            torch.nn.init.normal_(model.held.output.weight[1:], std=1 / HELD_SCALE)
        return model

    return build
