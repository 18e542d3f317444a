"""Figures of a server, as Prometheus reads them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
STEP = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.1, 0.2, 0.5, 1.0)  # bounds, in seconds
FIRST_TOKEN = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Figures:
    """What a server counts and measures.

    Attributes:
        tokens: that were drawn or given.
        first_token: seconds from a request to its first token, with the time that it waited.
        step: seconds of one step of an engine, which gives each of its streams a token.
        refused: requests that were answered with 429.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.tokens = Counter(
            "seqgen_tokens", "Tokens that were drawn or given.", registry=self.registry
        )
        self.first_token = Histogram(
            "seqgen_first_token_seconds",
            "Time from a request to its first token.",
            buckets=FIRST_TOKEN,
            registry=self.registry,
        )
        self.step = Histogram(
            "seqgen_step_seconds",
            "Time of one step: the gap between two tokens of each running stream.",
            buckets=STEP,
            registry=self.registry,
        )
        self.refused = Counter(
            "seqgen_refused", "Requests answered with status 429.", registry=self.registry
        )

    def watch(self, name: str, words: str, number: Callable[[], float]) -> None:
        """Add a figure that is read when somebody asks."""
        Gauge(name, words, registry=self.registry).set_function(number)

    def text(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        return generate_latest(self.registry)
