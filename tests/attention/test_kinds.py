"""The choices of a configuration are those that are implemented."""

from typing import get_args

import pytest

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.kinds import KINDS
from seqgen.attention.operator import KERNELS
from seqgen.config import AttentionConfig, ModelConfig


@pytest.mark.parametrize(
    ("section", "key", "implemented"),
    [
        (ModelConfig, "attention", KINDS),
        (ModelConfig, "feature_map", FEATURE_MAPS),
        (AttentionConfig, "kernel", KERNELS),
    ],
)
def test_a_configuration_accepts_what_is_implemented(section, key, implemented):
    assert set(get_args(section.model_fields[key].annotation)) == set(implemented)
