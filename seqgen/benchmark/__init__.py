"""Measures the cost of the two forms: steps, prompts, attention, training, memory, jobs, bits."""
