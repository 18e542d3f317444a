"""A causal-linear Transformer as an RNN, in NumPy alone: it reads a model folder and generates.

    python examples/numpy_decoder.py runs/mine/model --tokens 100 --temperature 0.9

Nothing of seqgen or torch is used; the tests hold it equal to seqgen's decoders at every position.
It prints ids; tokenizer/ in the folder says what they mean. It gives no marks (data.controls).
Shapes: D model width, H heads, K key width, V value width, W width of the short convolution.
"""

import argparse
import json
from math import erf
from pathlib import Path

import numpy as np


def read_safetensors(path):
    """Yield names and arrays: a header in JSON behind its length, then the numbers."""
    content = Path(path).read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    for name, of in json.loads(content[8:begin]).items():
        if name == "__metadata__":
            continue
        first, last = of["data_offsets"]
        data = content[begin + first : begin + last]
        if of["dtype"] == "BF16":  # the upper half of a float32
            numbers = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            numbers = np.frombuffer(data, np.float32)
        yield name, numbers.reshape(of["shape"])


class Decoder:
    """Takes one token after the other; its state never grows."""

    def __init__(self, folder):
        self.record = json.loads((Path(folder) / "config.json").read_text())
        self.weights = dict(read_safetensors(Path(folder) / "model.safetensors"))
        self.config = config = self.record["model"]
        simple = {"attention": "causal-linear", "feature_map": "elu+1", "positions": "none"}
        if (
            any(config[key] != value for key, value in simple.items())
            or len(self.record["vocabulary"]["fields"]) > 1
        ):
            raise SystemExit(f"this example is for {simple} and tokens of one field")
        L, H, D, W = (config[k] for k in ("n_layers", "n_heads", "d_model", "conv_width"))
        self.S = np.zeros((L, H, D // H, D // H), np.float32)  # sums of keys times values
        self.Z = np.zeros((L, H, D // H), np.float32)  # sums of keys
        self.recent = np.zeros((W, D), np.float32)  # the last embeddings

    def step(self, token):
        """Take a token id and return the logits of the next one."""
        x = self.weights["embedding.tables.0.weight"][token]
        if len(self.recent):
            self.recent = np.vstack([self.recent[1:], x])
            kernel = self.weights["short_convolution.convolution.weight"]  # [D, D, W]
            x = x + np.einsum("oiw,wi->o", kernel, self.recent)
            x = x + self.weights["short_convolution.convolution.bias"]
        for i in range(self.config["n_layers"]):
            name = f"stack.layers.{i}"
            x = self.norm(x + self.attend(x, i), f"{name}.norm1")
            y = self.activate(self.linear(x, f"{name}.linear1"))
            x = self.norm(x + self.linear(y, f"{name}.linear2"), f"{name}.norm2")
        return self.linear(self.norm(x, "stack.norm"), "lm_head.linears.0")

    def attend(self, x, i):
        """Add the token to the sums of layer i, and read them by its query."""
        name = f"stack.layers.{i}.attention"
        query, key, value = (
            self.linear(x, f"{name}.{part}_projection").reshape(self.config["n_heads"], -1)
            for part in ("query", "key", "value")
        )
        query, key = (np.exp(np.minimum(a, 0)) + np.maximum(a, 0) for a in (query, key))  # elu + 1
        decay = self.decay(f"{name}.inner_attention.decay.logit")  # [H]
        self.S[i] = decay[:, None, None] * self.S[i] + key[:, :, None] * value[:, None, :]
        self.Z[i] = decay[:, None] * self.Z[i] + key
        weight = np.einsum("hk,hk->h", query, self.Z[i])[:, None] + 1e-6
        out = np.einsum("hk,hkv->hv", query, self.S[i]) / weight
        return self.linear(out.reshape(-1), f"{name}.out_projection")

    def decay(self, name):
        """By how much each head's sums are multiplied before each addition."""
        decay = np.ones(self.config["n_heads"], np.float32)
        if name in self.weights:
            logit = self.weights[name]
            decay[: len(logit)] = 1 / (1 + np.exp(-logit))
        return decay

    def linear(self, x, name):
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def activate(self, x):
        if self.config["activation"] == "relu":
            return np.maximum(x, 0)
        return (x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2).astype(np.float32)  # gelu


def main():
    parser = argparse.ArgumentParser(description="Generate token ids with a model folder.")
    parser.add_argument("folder", help="a model folder: config.json and model.safetensors")
    parser.add_argument("--tokens", type=int, default=100, help="how many at most")
    parser.add_argument("--temperature", type=float, default=1.0, help="0: the most likely ones")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    decoder, random = Decoder(given.folder), np.random.default_rng(given.seed)
    special = decoder.record["vocabulary"]
    token, drawn = special["bos_id"], []
    while len(drawn) < given.tokens:
        logits = decoder.step(token)
        logits[[special["bos_id"], special["pad_id"]]] = -np.inf
        if given.temperature == 0:
            token = int(logits.argmax())
        else:
            p = np.exp((logits - logits.max()).astype(np.float64) / given.temperature)
            token = int(random.choice(len(p), p=p / p.sum()))
        if token == special["eos_id"]:
            break
        drawn.append(token)
    print(*drawn)


if __name__ == "__main__":
    main()
