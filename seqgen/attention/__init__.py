"""Causal linear attention: a naive reference, a chunked form for any device, and the registered pair."""
