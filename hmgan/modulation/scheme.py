"""What every modulation scheme is: class vectors in, edits out, and perhaps a word in G's loss."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Modulation(nn.Module):
    """g(v; Phi): class vectors [R, E] -> Edits with R rows."""

    def penalties(self) -> Mapping[str, Tensor]:
        """What G minimises besides the adversarial loss, weighted, by name; most schemes add nothing."""
        return {}
