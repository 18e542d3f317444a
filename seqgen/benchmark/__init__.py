"""What the two forms cost, measured: steps, prompts, attention, training, memory, jobs, bits."""
