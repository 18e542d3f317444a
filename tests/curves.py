"""Reading the curves of training runs in tests."""

from seqgen.checkpoint import read_metrics

TIMINGS = ("training_tokens_per_second", "waiting_for_data")


def curve(folder):
    return [
        {key: value for key, value in line.items() if key not in TIMINGS}
        for line in read_metrics(folder.metrics)
    ]
