"""seqgen: train a causal-linear Transformer in parallel, generate with the same weights as an RNN."""
