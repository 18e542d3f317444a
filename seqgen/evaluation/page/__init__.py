"""The page of an evaluation: one HTML file that needs nothing beside it."""

from seqgen.evaluation.page.render import Picture, render

__all__ = ["Picture", "render"]
