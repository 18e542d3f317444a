"""A whole decode step in NumPy: all there is to a causal-linear Transformer as an RNN.

    python examples/numpy_decoder.py RUN

It reads a run's weights, draws the most likely tokens, and compares them with seqgen's own decoder.
Shapes: D model width, H heads, K key width, V value width, W width of the short convolution.
"""

import sys

import numpy as np
from scipy.special import erf

import seqgen

model = seqgen.load(sys.argv[1], device="cpu")
config, vocabulary = model.model.config, model.tokenizer.vocabulary
if (config.feature_map, config.positions, len(vocabulary.sizes)) != ("elu+1", "none", 1):
    raise SystemExit("this example knows elu+1, no positions and tokens of one field")
weights = {name: value.numpy() for name, value in model.model.state_dict().items()}
H, D = config.n_heads, config.d_model


def linear(x, name):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def norm(x, name):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def activate(x):
    if config.activation == "relu":
        return np.maximum(x, 0)
    return x * (1 + erf(x / np.sqrt(2))) / 2


def features(x):  # elu(x) + 1
    return np.exp(np.minimum(x, 0)) + np.maximum(x, 0)


def attend(x, layer, S, Z):
    """Add the token to the sums S [H, K, V] and Z [H, K], and read them by its query."""
    name = f"stack.layers.{layer}.attention"
    query, key, value = (
        linear(x, f"{name}.{part}_projection").reshape(H, D // H)
        for part in ("query", "key", "value")
    )
    query, key = features(query), features(key)
    S += key[:, :, None] * value[:, None, :]
    Z += key
    out = np.einsum("hk,hkv->hv", query, S) / (np.einsum("hk,hk->h", query, Z)[:, None] + 1e-6)
    return linear(out.reshape(D), f"{name}.out_projection")


def step(token, state):
    """Take a token id, change the state, and return the logits of the next one."""
    x = weights["embedding.tables.0.weight"][token]
    if config.conv_width:
        recent = state["recent"] = np.vstack([state["recent"][1:], x])  # [W, D]
        kernel = weights["short_convolution.convolution.weight"]  # [D, D, W]
        x = (
            x
            + np.einsum("oiw,wi->o", kernel, recent)
            + weights["short_convolution.convolution.bias"]
        )
    for layer in range(config.n_layers):
        name = f"stack.layers.{layer}"
        x = norm(x + attend(x, layer, state["S"][layer], state["Z"][layer]), f"{name}.norm1")
        y = linear(activate(linear(x, f"{name}.linear1")), f"{name}.linear2")
        x = norm(x + y, f"{name}.norm2")
    return linear(norm(x, "stack.norm"), "lm_head.linears.0")


state = {
    "S": np.zeros((config.n_layers, H, D // H, D // H), np.float32),
    "Z": np.zeros((config.n_layers, H, D // H), np.float32),
    "recent": np.zeros((config.conv_width, D), np.float32),
}
token, drawn = vocabulary.bos_id, []
for _ in range(40):
    token = int(step(token, state).argmax())
    if token == vocabulary.eos_id:
        break
    drawn.append(token)
own = model.generate(max_tokens=len(drawn), temperature=0, grammar=False)[0].tokens[:, 0]
print("NumPy: ", *drawn)
print("seqgen:", *own)
raise SystemExit(0 if drawn == own.tolist() else "the two differ")
