"""The fields of a token are one joint distribution: each is predicted from those before it."""

from itertools import product

import pytest
import torch
from making import random_tokens
from ordered import compound

from seqgen.config import ModelConfig
from seqgen.model.embedding import OutputHead, add_chain
from seqgen.model.loss import field_nats, token_nats
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Field, Vocabulary

SMALL = Vocabulary(
    (Field("kind", 6), Field("pitch", 7), Field("length", 5)),
    bos_id=1,
    eos_id=2,
    pad_id=0,
    used=((False, False),) * 3 + ((True, True), (True, False), (False, True)),
)


@pytest.fixture(params=["toy_vocabulary", "compound_vocabulary"])
def vocabulary(request):
    return request.getfixturevalue(request.param)


def test_one_field_has_no_tables_and_no_chain(plain_vocabulary):
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), plain_vocabulary)
    assert list(model.embedding.state_dict()) == ["tables.0.weight"]
    assert list(model.lm_head.state_dict()) == ["linears.0.weight", "linears.0.bias"]
    assert model.lm_head.chain().numel() == 0
    assert model.uses is None


def test_the_chain_added_to_plain_logits_gives_those_under_teacher_forcing(tiny, vocabulary):
    model = tiny(vocabulary)
    tokens = random_tokens(vocabulary, 2, 9)
    with torch.no_grad():
        expected = model(tokens[:, :-1], targets=tokens[:, 1:])
        plain = model(tokens[:, :-1])
    actual = add_chain(plain, model.lm_head.chain(), tokens[:, 1:])
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    assert torch.equal(plain[0], expected[0])
    assert all((a - b).abs().max() > 0.1 for a, b in zip(plain[1:], expected[1:], strict=True))


def test_a_field_sees_the_fields_before_it_and_no_other():
    head = OutputHead((7, 6, 5, 8), 16)
    x, targets = torch.randn(16), torch.tensor([3, 3, 3, 3])
    before = head(x, targets)
    for g in range(4):
        after = head(x, targets + torch.eye(4, dtype=torch.long)[g])
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [f > g for f in range(4)]


def test_the_probabilities_of_all_tokens_sum_to_one(tiny):
    """Over tokens whose unused fields hold what they must; special ids of later fields are ids."""
    model = tiny(SMALL, n_layers=1).double()
    first = torch.tensor(SMALL.fills)
    tokens = []
    for token in product(*(range(size) for size in SMALL.sizes)):
        used = SMALL.uses[token[0]]
        if all(use or i == first[token[0]] for use, i in zip(used, token, strict=True)):
            tokens.append(token)
    targets = torch.tensor(tokens)[:, None]  # [B, 1, F]
    context = random_tokens(SMALL, 1, 4).expand(len(tokens), -1, -1)
    with torch.no_grad():
        hidden = model.run(context)[0][:, -1:]
        nats = token_nats(model.lm_head(hidden, targets), targets, uses=model.uses)
    assert float((-nats.double()).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_fields_that_mean_nothing_cost_nothing_and_teach_nothing():
    vocabulary = compound()
    logits = [torch.zeros(1, 3, size, requires_grad=True) for size in vocabulary.sizes]
    targets = torch.tensor([[[3, 0, 0, 0], [4, 5, 0, 0], [5, 0, 3, 3]]])
    uses = torch.tensor(vocabulary.uses)
    nats = field_nats(logits, targets, uses=uses)
    sizes = torch.tensor(vocabulary.sizes, dtype=torch.float32)
    wanted = sizes.log() * torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 1]])
    torch.testing.assert_close(nats[0], wanted)
    whole = token_nats(logits, targets, uses=uses)
    torch.testing.assert_close(whole, nats.sum(-1))
    whole.sum().backward()
    for f, field in enumerate(logits):
        used = uses[targets[0, :, 0], f]
        assert (field.grad[0].abs().sum(-1) > 0).tolist() == used.tolist()


def test_a_joint_distribution_is_learned_that_independent_fields_cannot_be():
    """Two fields, each uniform, that are always equal: 1 of 4 at best without the chain."""
    vocabulary = Vocabulary((Field("a", 7), Field("b", 7)), bos_id=1, eos_id=2, pad_id=0)
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), vocabulary)
    optimizer = torch.optim.Adam(model.lm_head.parameters(), lr=0.05)
    for _ in range(60):
        ids = torch.randint(3, 7, (32, 2, 1)).expand(-1, -1, 2)
        logits = model(ids[:, :-1], targets=ids[:, 1:])
        nats = field_nats(logits, ids[:, 1:], uses=model.uses)
        optimizer.zero_grad()
        nats.sum(-1).mean().backward()
        optimizer.step()
    nats = nats.detach()
    assert float(nats[..., 0].mean()) == pytest.approx(torch.tensor(4.0).log().item(), abs=0.2)
    assert float(nats[..., 1].mean()) < 0.1
