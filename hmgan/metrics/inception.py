"""Inception as a TorchScript file, and the names FID and KID for its scores. B batch, F features, H/W pixels."""

from __future__ import annotations

from torch import Tensor

from hmgan.errors import UserError
from hmgan.metrics.features import Extractor

# The translation of TensorFlow's 2015-12-05 network that StyleGAN2-ADA and its followers score with.
OFFICIAL = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
BORROWED = {"FD": "FID", "KD": "KID", "KD-subsets": "KID-subsets", "KD-subsets-std": "KID-subsets-std"}


class TorchScriptExtractor(Extractor):
    """A trunk that resizes and normalises by itself. Only the official file's scores take the names FID and KID.

    Its interface: [B, 3, H, W] in 0..255, return_features=True (class scores otherwise) -> [B, F].
    """

    @property
    def resizer(self) -> str:
        return "none-before-the-network"

    def metric(self, measure: str) -> str:
        official = self.digest == OFFICIAL and measure in BORROWED
        return BORROWED[measure] if official else super().metric(measure)

    def features(self, images_B3HW: Tensor) -> Tensor:
        features_BF = self.trunk(images_B3HW.float(), return_features=True)
        if features_BF.shape != (len(images_B3HW), self.dim):
            raise UserError(f"the extractor gave features {list(features_BF.shape)}, its entry says dim = {self.dim}")
        return features_BF
