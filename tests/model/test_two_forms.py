"""The parallel and the recurrent form compute the same at every position, however they are run."""

from functools import partial

import pytest
import torch
from making import random_tokens

from seqgen.attention.kinds import KINDS
from seqgen.config import ModelConfig
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import build_parallel, build_recurrent, share_weights, stack_arguments
from seqgen.model.state import State

B, T = 3, 24
TOLERANCE = 2e-5

CHOICES = [
    {"positions": "sinusoidal", "conv_width": 5},
    {"positions": "learned", "conv_width": 5, "max_positions": 128},
    {"positions": "bars", "conv_width": 2},
    {"positions": "none", "conv_width": 2},
    {"positions": "none", "conv_width": 1},
    {"positions": "sinusoidal", "conv_width": 0, "activation": "relu"},
]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]


ATTENTIONS = list(KINDS)
DECAYING = "causal-linear with decay"
linear_only = pytest.mark.parametrize("tiny", ["causal-linear", DECAYING], indirect=True)


@pytest.fixture(params=[*ATTENTIONS, DECAYING])
def tiny(request, tiny):
    """Every property holds for every kind of attention."""
    if request.param == DECAYING:
        return partial(tiny, decay="learned", decay_range=[1.0, 6.0], heads_without_decay=1)
    return partial(tiny, attention=request.param)


@pytest.fixture(params=["plain_vocabulary", "toy_vocabulary"])
def vocabulary(request):
    return request.getfixturevalue(request.param)


def by_steps(recurrent, tokens, state=None):
    """Logits at every position [B, T, N_f] per field, and the last state."""
    state = state or recurrent.initial_state(tokens.shape[0])
    logits = []
    for t in range(tokens.shape[1]):
        scores, state = recurrent.step(tokens[:, t], state)
        logits.append(scores)
    return [torch.stack(field, dim=1) for field in zip(*logits, strict=True)], state


def assert_same(a, b, tolerance=TOLERANCE):
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert (x - y).abs().max() < tolerance


def contents(state: State) -> tuple[torch.Tensor, ...]:
    """What counts of the attentions' tensors: sums, or the slots before each row's position."""
    if state.attention[-1].is_floating_point():  # a cache ends with the slots written
        return state.attention
    n = int(state.position.max())
    valid = torch.arange(n, device=state.position.device) < state.position[:, None]
    return tuple(x[:, :, :, :n] * valid[:, None, :, None] for x in state.attention[:2])


def assert_same_state(a: State, b: State, tolerance=1e-4):
    assert torch.equal(a.position, b.position)
    assert torch.equal(a.origin, b.origin)
    assert torch.equal(a.held, b.held)
    assert_same(contents(a), contents(b), tolerance)
    assert torch.equal(a.recent, b.recent)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("choices", CHOICES)
def test_steps_equal_forward_at_every_position(tiny, vocabulary, choices, device):
    model = tiny(vocabulary, **choices).to(device)
    tokens = random_tokens(vocabulary, B, T).to(device)
    with torch.no_grad():
        whole = model(tokens)
    stepped, _ = by_steps(RecurrentModel(model), tokens)
    assert_same(whole, stepped)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("choices", CHOICES)
def test_prefill_then_steps_equal_steps_alone(tiny, vocabulary, choices, device):
    model = tiny(vocabulary, **choices).to(device)
    recurrent = RecurrentModel(model)
    tokens = random_tokens(vocabulary, B, T).to(device)
    stepped, last = by_steps(recurrent, tokens)
    for cut in (1, 4, T - 7):
        lengths = torch.full((B,), cut, device=device)
        logits, state = recurrent.prefill(tokens[:, :cut], lengths)
        assert_same(logits, [field[:, cut - 1] for field in stepped])
        rest, end = by_steps(recurrent, tokens[:, cut:], state)
        assert_same(rest, [field[:, cut:] for field in stepped])
        assert_same_state(end, last)


def test_prompts_of_different_lengths_prefill_as_each_alone(tiny, vocabulary):
    recurrent = RecurrentModel(tiny(vocabulary))
    tokens = random_tokens(vocabulary, B, T)
    lengths = torch.tensor([T, 1, 6])
    logits, state = recurrent.prefill(tokens, lengths)
    tokens[1, 1:] = tokens[2, 6:] = 3  # what stands past the end must not matter
    for row, length in enumerate(lengths.tolist()):
        alone, own = recurrent.prefill(tokens[row : row + 1, :length], torch.tensor([length]))
        assert_same([field[row : row + 1] for field in logits], alone)
        assert_same_state(state.rows([row]), own)


def test_a_row_in_a_batch_equals_the_row_alone(tiny, vocabulary):
    recurrent = RecurrentModel(tiny(vocabulary))
    tokens = random_tokens(vocabulary, B, T)
    together, _ = by_steps(recurrent, tokens)
    for row in range(B):
        alone, _ = by_steps(recurrent, tokens[row : row + 1])
        assert_same([field[row : row + 1] for field in together], alone)


def test_greedy_ids_by_steps_equal_greedy_ids_by_full_passes(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    recurrent = RecurrentModel(model)
    prompt = random_tokens(plain_vocabulary, B, 5)
    logits, state = recurrent.prefill(prompt, torch.full((B,), 5))
    ids, stepped = prompt, []
    for _ in range(30):
        token = logits[0].argmax(-1, keepdim=True)
        stepped.append(token)
        with torch.no_grad():
            again = model(ids)[0][:, -1].argmax(-1, keepdim=True)
        assert torch.equal(token, again)
        ids = torch.cat([ids, again.unsqueeze(1)], dim=1)
        logits, state = recurrent.step(token, state)
    assert len(torch.cat(stepped).unique()) > 1


def test_a_cloned_state_replays(tiny, vocabulary):
    recurrent = RecurrentModel(tiny(vocabulary))
    tokens = random_tokens(vocabulary, B, T)
    _, state = by_steps(recurrent, tokens[:, :15])
    saved = state.clone()
    first, _ = by_steps(recurrent, tokens[:, 15:], state)
    second, _ = by_steps(recurrent, tokens[:, 15:], saved)
    assert_same(first, second, 1e-9)


def test_a_step_leaves_the_state_it_was_given_alone(tiny, vocabulary):
    recurrent = RecurrentModel(tiny(vocabulary))
    tokens = random_tokens(vocabulary, B, 3)
    _, state = recurrent.step(tokens[:, 0], recurrent.initial_state(B))
    before = state.clone()
    recurrent.step(tokens[:, 1], state)
    assert_same_state(before, state, tolerance=1e-30)


def test_rows_and_join_rearrange_streams(tiny, vocabulary):
    recurrent = RecurrentModel(tiny(vocabulary))
    tokens = random_tokens(vocabulary, B, T)
    _, state = by_steps(recurrent, tokens[:, :20])
    _, other = by_steps(recurrent, tokens[:1, :7])
    mixed = State.join([state.rows([2, 0]), other])
    assert mixed.position.tolist() == [20, 20, 7]
    fed = torch.stack([tokens[2, 20], tokens[0, 20], tokens[0, 7]])
    logits, _ = recurrent.step(fed, mixed)
    expected, _ = recurrent.step(tokens[:, 20], state)
    assert_same([field[:2] for field in logits], [field[[2, 0]] for field in expected])
    expected, _ = recurrent.step(tokens[:1, 7], other)
    assert_same([field[2:] for field in logits], expected)


@linear_only
def test_the_state_never_grows(tiny, vocabulary):
    recurrent = RecurrentModel(tiny(vocabulary))
    _, short = by_steps(recurrent, random_tokens(vocabulary, B, 1))
    _, long = by_steps(recurrent, random_tokens(vocabulary, B, 50))
    assert short.nbytes == long.nbytes == recurrent.initial_state(B).nbytes > 0


def test_the_two_forms_share_storage(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    recurrent = RecurrentModel(model)
    tokens = random_tokens(plain_vocabulary, 1, 10)
    before, _ = by_steps(recurrent, tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
        whole = model(tokens)
    after, _ = by_steps(recurrent, tokens)
    assert_same(whole, after)
    assert (before[0] - after[0]).abs().max() > 0.01


def test_the_recurrent_form_has_no_dropout_while_the_parallel_one_trains(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, dropout=0.5)
    tokens = random_tokens(plain_vocabulary, 1, 10)
    with torch.no_grad():
        whole = model(tokens)
    model.train()
    recurrent = RecurrentModel(model)
    assert_same(whole, by_steps(recurrent, tokens)[0])
    assert_same([whole[0][:, -1]], recurrent.prefill(tokens, torch.tensor([10]))[0])


@pytest.mark.parametrize(
    "other",
    [
        {"n_layers": 3},
        {"n_heads": 2},
        {"activation": "relu"},
        {"d_ff": 64},
        {"d_model": 64},
        {"decay": "fixed"},
    ],
)
def test_stacks_of_different_architecture_are_not_joined(other):
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 4}
    parallel = build_parallel(stack_arguments(ModelConfig(**sizes)))
    recurrent = build_recurrent(stack_arguments(ModelConfig(**{**sizes, **other})))
    with pytest.raises(ValueError, match="differ in"):
        share_weights(parallel, recurrent)


def test_a_softmax_stack_is_not_joined_with_a_linear_one():
    arguments = stack_arguments(ModelConfig(d_model=32))
    parallel = build_parallel(arguments | {"attention_type": "full"})
    with pytest.raises(ValueError, match="attention_type 'full'"):
        share_weights(parallel, build_recurrent(arguments))
    ours = build_parallel(stack_arguments(ModelConfig(d_model=32, attention="softmax")))
    with pytest.raises(ValueError, match="attention_type 'seqgen-softmax'"):
        share_weights(ours, build_recurrent(arguments))


@pytest.mark.parametrize("lengths", [[0, 5, 5], [6, 5, 5], [5, 5]])
def test_prefill_refuses_lengths_outside_the_prompt(tiny, plain_vocabulary, lengths):
    recurrent = RecurrentModel(tiny(plain_vocabulary))
    with pytest.raises(ValueError, match="prompt lengths"):
        recurrent.prefill(random_tokens(plain_vocabulary, 3, 5), torch.tensor(lengths))


def test_learned_positions_end(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, positions="learned", max_positions=8)
    with pytest.raises(ValueError, match="beyond the 8"):
        model(random_tokens(plain_vocabulary, 1, 9))


def test_padding_changes_no_valid_output(plain_vocabulary, tiny):
    model = tiny(plain_vocabulary)
    tokens = random_tokens(plain_vocabulary, 2, 20)
    with torch.no_grad():
        alone = model(tokens[:1, :12])[0]
        padded = model(tokens, torch.tensor([12, 20]))[0]
    assert (alone - padded[:1, :12]).abs().max() < TOLERANCE


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_gradients_reach_every_parameter(toy_vocabulary, attention):
    config = ModelConfig(d_model=32, n_layers=2, positions="learned", attention=attention)
    model = SequenceModel(config, toy_vocabulary)
    tokens = random_tokens(toy_vocabulary, 2, 31)
    logits = model(tokens[:, :-1], targets=tokens[:, 1:])
    sum(field.square().mean() for field in logits).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("key_projection.bias"), name


@linear_only
@pytest.mark.parametrize("T", [1, 5, 64, 65])
def test_the_chunked_path_runs_the_whole_model(tiny, plain_vocabulary, T):
    """Float64 takes on a CPU the path that a GPU takes in float32."""
    model = tiny(plain_vocabulary)
    tokens = random_tokens(plain_vocabulary, 2, T)
    with torch.no_grad():
        by_library = model(tokens)
        by_chunks = model.double()(tokens)
    assert_same([field.double() for field in by_library], by_chunks)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_in_another_precision_decodes_in_float32(tiny, plain_vocabulary, dtype):
    model = tiny(plain_vocabulary).to(dtype)
    tokens = random_tokens(plain_vocabulary, 2, 6)
    stepped, state = by_steps(RecurrentModel(model), tokens)
    assert state.attention[0].dtype == stepped[0].dtype == torch.float32
    with torch.no_grad():
        assert_same(model.float()(tokens), stepped)
