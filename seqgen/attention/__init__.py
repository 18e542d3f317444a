"""Causal linear attention: a naive reference, a chunked form, and the registered pair."""
