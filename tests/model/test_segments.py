"""Segments that share a row, and sequences cut into rows, give the same as each sequence alone."""

import pytest
import torch
from making import random_tokens

from seqgen.attention.kinds import KINDS
from seqgen.model.positions import positions_in_segments
from seqgen.model.recurrent_model import RecurrentModel

CHOICES = [
    {},
    {"positions": "sinusoidal", "conv_width": 3},
    {"positions": "bars"},
    {"positions": "learned", "max_positions": 64},
    {"conv_width": 0},
    {"conv_width": 1, "feature_map": "dpfp"},
    {"decay": "learned", "decay_range": [1.0, 6.0], "heads_without_decay": 1},
    *({"attention": kind, "positions": "sinusoidal"} for kind in KINDS),
]
LENGTHS = (7, 1, 2, 20)  # of the pieces in a row; two of them shorter than the convolution is wide


def one_row(tokens):
    """Lay rows of `LENGTHS` tokens end to end; return them and where each begins."""
    pieces = [row[:n] for row, n in zip(tokens, LENGTHS, strict=True)]
    boundaries = torch.zeros(1, sum(LENGTHS), dtype=torch.bool)
    boundaries[0, torch.tensor([0, *LENGTHS[:-1]]).cumsum(0)] = True
    return torch.cat(pieces)[None], boundaries


def gradients(model, logits):
    loss = sum(field.float().square().sum() for field in logits)
    return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("choices", CHOICES)
def test_pieces_in_one_row_do_not_see_each_other(tiny, toy_vocabulary, choices):
    model = tiny(toy_vocabulary, **choices)
    tokens = random_tokens(toy_vocabulary, len(LENGTHS), max(LENGTHS))
    row, boundaries = one_row(tokens)
    together = model(row, boundaries=boundaries, targets=row)
    pieces = [piece[None, :n] for piece, n in zip(tokens, LENGTHS, strict=True)]
    alone = [model(piece, targets=piece) for piece in pieces]
    joined = [torch.cat(field, dim=1) for field in zip(*alone, strict=True)]
    for a, b in zip(together, joined, strict=True):
        assert (a - b).abs().max() < 2e-5
    for a, b in zip(gradients(model, together), gradients(model, joined), strict=True):
        assert (a - b).abs().max() < 1e-4 * b.abs().max().clamp(min=1)


def test_without_starts_they_would(tiny, toy_vocabulary):
    """So that the test above can fail."""
    model = tiny(toy_vocabulary)
    row, boundaries = one_row(random_tokens(toy_vocabulary, len(LENGTHS), max(LENGTHS)))
    with torch.no_grad():
        apart, mixed = model(row, boundaries=boundaries)[0], model(row)[0]
    assert (apart - mixed)[0, LENGTHS[0] :].abs().max() > 0.01
    assert (apart - mixed)[0, : LENGTHS[0]].abs().max() < 1e-5


@pytest.mark.parametrize("choices", [c for c in CHOICES if c.get("positions") != "learned"])
@pytest.mark.parametrize("cut", [1, 3, 8, 10, 29])
def test_a_row_cut_in_two_goes_on_from_the_state(tiny, toy_vocabulary, choices, cut):
    model = tiny(toy_vocabulary, **choices)
    row, boundaries = one_row(random_tokens(toy_vocabulary, len(LENGTHS), max(LENGTHS)))
    with torch.no_grad():
        whole, end = model.run(row, boundaries=boundaries, keep_state=True)
        first, state = model.run(row[:, :cut], boundaries=boundaries[:, :cut], keep_state=True)
        rest, last = model.run(
            row[:, cut:], boundaries=boundaries[:, cut:], state=state, keep_state=True
        )
    assert (torch.cat([first, rest], dim=1) - whole).abs().max() < 2e-5
    assert torch.equal(last.position, end.position)
    assert torch.equal(last.origin, end.origin)
    assert end.position.item() == LENGTHS[-1]
    for a, b in zip((*last.attention, last.recent), (*end.attention, end.recent), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_the_state_after_a_row_of_pieces_is_that_of_the_last_one(tiny, toy_vocabulary):
    model = tiny(toy_vocabulary)
    tokens = random_tokens(toy_vocabulary, len(LENGTHS), max(LENGTHS))
    row, boundaries = one_row(tokens)
    with torch.no_grad():
        _, state = model.run(row, boundaries=boundaries, keep_state=True)
        logits, after = RecurrentModel(model).step(row[:, 5], state)
    last = torch.cat([tokens[-1:, : LENGTHS[-1]], row[:, 5:6]], dim=1)
    with torch.no_grad():
        for stepped, whole in zip(logits, model(last), strict=True):
            assert (stepped - whole[:, -1]).abs().max() < 2e-5
    assert after.position.item() == LENGTHS[-1] + 1


def test_the_state_of_a_piece_shorter_than_the_convolution_holds_nothing_of_its_neighbour(
    tiny, toy_vocabulary
):
    model = tiny(toy_vocabulary, conv_width=5)
    row = random_tokens(toy_vocabulary, 1, 8)
    boundaries = torch.zeros(1, 8, dtype=torch.bool)
    boundaries[0, 6] = True
    with torch.no_grad():
        _, mixed = model.run(row, boundaries=boundaries, keep_state=True)
        _, alone = model.run(row[:, 6:], keep_state=True)
    assert torch.equal(mixed.recent, alone.recent)


def test_prefill_goes_on_from_any_state(tiny, toy_vocabulary):
    model = tiny(toy_vocabulary, positions="sinusoidal")
    recurrent = RecurrentModel(model)
    tokens = random_tokens(toy_vocabulary, 3, 30)
    lengths = torch.tensor([30, 12, 21])
    logits, end = recurrent.prefill(tokens, lengths)
    _, state = recurrent.prefill(tokens[:, :9], torch.full((3,), 9))
    resumed, last = recurrent.prefill(tokens[:, 9:], lengths - 9, state)
    for a, b in zip(logits, resumed, strict=True):
        assert (a - b).abs().max() < 2e-5
    assert torch.equal(end.position, last.position)
    assert (end.S - last.S).abs().max() < 1e-4


def test_an_empty_row_leaves_the_state_where_it_was(tiny, toy_vocabulary):
    model = tiny(toy_vocabulary)
    tokens = random_tokens(toy_vocabulary, 2, 12)
    with torch.no_grad():
        _, before = model.run(tokens[:, :7], keep_state=True)
        _, after = model.run(tokens[:, 7:], torch.tensor([0, 5]), state=before, keep_state=True)
        _, fresh = model.run(tokens, torch.tensor([0, 12]), keep_state=True)
    assert after.position.tolist() == [7, 12]
    assert torch.equal(after.S[:, 0], before.S[:, 0])
    assert torch.equal(after.recent[0], before.recent[0])
    assert fresh.position.tolist() == [0, 12]
    assert fresh.S[:, 0].abs().sum() == 0


def test_positions_count_from_each_start():
    boundaries = torch.tensor([[False, False, True, False], [True, True, False, False]])
    first = torch.tensor([10, 7])
    cpu = torch.device("cpu")
    assert positions_in_segments(2, 4, boundaries, first, cpu).tolist() == [
        [10, 11, 0, 1],
        [0, 0, 1, 2],
    ]
    assert positions_in_segments(2, 4, boundaries, None, cpu).tolist() == [
        [0, 1, 0, 1],
        [0, 0, 1, 2],
    ]
    assert positions_in_segments(2, 4, None, first, cpu).tolist() == [
        [10, 11, 12, 13],
        [7, 8, 9, 10],
    ]


def bytes_kept(model, tokens):
    """Bytes of the storages that a forward pass keeps for the backward pass."""
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        logits = model(tokens)
    return sum(kept.values()), logits


def test_recomputing_activations_changes_nothing_but_memory(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, n_layers=4, dropout=0.3).train()
    tokens = random_tokens(plain_vocabulary, 2, 64)
    results = []
    for recompute in (False, True):
        model.recompute = recompute
        torch.manual_seed(5)  # of dropout
        size, logits = bytes_kept(model, tokens)
        results.append((size, logits, gradients(model, logits)))
    (kept, plain, wanted), (less, again, got) = results
    assert less < kept / 3
    assert torch.equal(plain[0], again[0])
    for a, b in zip(wanted, got, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("kernel", ["naive", "chunked", "native"])
def test_the_model_is_the_same_with_every_kernel(tiny, plain_vocabulary, kernel):
    model = tiny(plain_vocabulary)
    tokens = random_tokens(plain_vocabulary, 2, 70)
    with torch.no_grad():
        wanted = model(tokens)[0]
        try:
            model.use_kernel(kernel)
        except ValueError as reason:
            pytest.skip(str(reason))
        assert (model(tokens)[0] - wanted).abs().max() < 2e-5


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.slow
def test_a_compiled_stack_is_one_graph_and_computes_the_same(tiny, plain_vocabulary):
    """Our attention does not break the graph, as the library's kernel would."""
    model = tiny(plain_vocabulary, dropout=0.2)
    row, boundaries = one_row(random_tokens(plain_vocabulary, len(LENGTHS), max(LENGTHS)))
    with torch.no_grad():
        wanted = model(row, boundaries=boundaries)[0]
    model.stack.compile(backend="aot_eager", fullgraph=True)
    assert torch.isfinite(
        model.train()(row, boundaries=boundaries)[0]
    ).all()  # dropout does not break it
    model.eval()
    got = model(row, boundaries=boundaries)
    assert (got[0] - wanted).abs().max() < 1e-5
    assert all(torch.isfinite(g).all() for g in gradients(model, got))
