"""seqgen: train a causal-linear Transformer, generate with the same weights as an RNN."""
