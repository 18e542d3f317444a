"""What the two forms cost, measured: decode, prefill, attention, training, memory, endless."""
