"""Positions since the last anchor: begun anew where they should, and carried by the state."""

import pytest
import torch
from making import random_tokens
from pydantic import ValidationError

from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.model.positions import AnchoredPositions
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.state import State
from seqgen.vocabulary import Field, Vocabulary


def ids(*rows):
    return torch.tensor(rows).unsqueeze(-1)


def test_the_index_is_that_since_the_last_anchor(plain_vocabulary):
    positions = AnchoredPositions(plain_vocabulary)  # whose anchors are 5 and 9
    tokens = ids([3, 3, 5, 3, 9, 5], [3, 3, 3, 3, 3, 3])
    alone = positions.origins(tokens, torch.arange(6))
    assert alone.tolist() == [[0, 0, 2, 2, 4, 5], [0, 0, 0, 0, 0, 0]]
    going_on = torch.arange(6) + torch.tensor([[10], [20]])
    later = positions.origins(tokens, going_on, torch.tensor([7, 20]))
    assert later.tolist() == [[7, 7, 12, 12, 14, 15], [20, 20, 20, 20, 20, 20]]


def test_a_piece_does_not_count_from_its_neighbours_anchor(plain_vocabulary):
    positions = AnchoredPositions(plain_vocabulary)
    tokens, places = ids([3, 5, 3, 3, 3, 9]), torch.tensor([[30, 31, 32, 0, 1, 2]])
    origins = positions.origins(tokens, places, torch.tensor([28]))
    assert origins.tolist() == [[28, 31, 31, 0, 0, 2]]


def test_only_the_first_field_has_anchors(toy_vocabulary):
    tokens = torch.tensor([[[3, 5, 5], [9, 3, 3], [3, 9, 5]]])
    assert AnchoredPositions(toy_vocabulary).origins(tokens, torch.arange(3)).tolist() == [
        [0, 1, 1]
    ]


def test_a_bar_is_the_same_wherever_it_begins(tiny, plain_vocabulary):
    """What precedes an anchor shows in the sums, so look at the stack's input."""
    model = tiny(plain_vocabulary, positions="bars", conv_width=0)
    tokens = random_tokens(plain_vocabulary, 1, 40)
    tokens[0, 30:] = tokens[0, :10]
    tokens[0, [0, 30]] = 5
    positions = torch.arange(40)
    x, _ = model.embed(tokens, positions, origins=model.positions.origins(tokens, positions))
    assert torch.equal(x[0, :10], x[0, 30:])
    absolute, _ = model.embed(tokens, positions)
    assert (absolute[0, :10] - absolute[0, 30:]).abs().max() > 0.1


def test_origins_travel_with_rows_joins_and_copies(tiny, plain_vocabulary):
    recurrent = RecurrentModel(tiny(plain_vocabulary, positions="bars"))
    tokens = ids([3, 5, 3], [3, 3, 9], [3, 3, 3])
    _, state = recurrent.prefill(tokens, torch.tensor([3, 3, 2]))
    assert state.origin.tolist() == [1, 2, 0]
    assert state.rows([2, 0]).origin.tolist() == [0, 1]
    assert State.join([state.rows([1]), state]).origin.tolist() == [2, 1, 2, 0]
    for copy in (state.clone(), state.detach(), state.to("cpu")):
        assert torch.equal(copy.origin, state.origin)
    assert state.clone().origin is not state.origin
    assert state.nbytes == 3 * state.rows([0]).nbytes


def test_a_state_made_without_origins_has_zeros(tiny, plain_vocabulary):
    state = RecurrentModel(tiny(plain_vocabulary)).initial_state(2)
    made = State(state.attention, state.recent, torch.tensor([4, 7]))
    assert made.origin.tolist() == [0, 0]


def test_a_vocabulary_without_anchors_is_refused():
    plain = Vocabulary((Field("token", 24),), bos_id=1, eos_id=2, pad_id=0)
    with pytest.raises(UserError, match=r"model.positions=bars .* none: use tokenizer.type=remi"):
        SequenceModel(ModelConfig(positions="bars"), plain)


@pytest.mark.parametrize("positions", ["bars", "sinusoidal"])
def test_an_odd_width_is_refused(positions):
    with pytest.raises(ValidationError, match=f"model.positions={positions} needs an even d_model"):
        ModelConfig(d_model=33, n_heads=3, positions=positions)
