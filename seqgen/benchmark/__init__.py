"""What the two forms cost, measured: decode, prefill, attention, training and memory."""
