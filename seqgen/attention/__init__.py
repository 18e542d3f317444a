"""Causal linear attention, softmax attention as its baseline, and their registered pairs."""
