"""Plain data parallelism: every rank holds everything, and gradients are averaged once per phase, in one flat tensor.

A wrapper per network would reduce in every backward, and R1's double backward is what wrappers get wrong.
"""

from __future__ import annotations

from hmgan.components import register
from hmgan.train.engines.base import Engine


@register("engine", "replicated")
class Replicated(Engine):
    """Every rank holds everything."""

    takes_factors = True
