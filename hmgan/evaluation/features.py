"""Features of images, extracted over all ranks and kept under everything they depend on. B batch, N samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hmgan.data.images import Images
from hmgan.errors import UserError
from hmgan.evaluation.sharding import BATCH, Ranks, sharded
from hmgan.files import write_atomically
from hmgan.metrics.features import Extractor, SideBySide


def extract(batches: Iterable[Tensor], extractor: Extractor | SideBySide, device: torch.device | str = "cpu") -> Tensor:
    """uint8 batches [B, 3, H, W] -> [N, F] float64 on the CPU. The extractor moves to `device`."""
    extractor = extractor.to(device)
    rows = [extractor(images_B3HW.to(device)).cpu() for images_B3HW in batches]
    return torch.cat(rows) if rows else torch.empty(0, extractor.dim, dtype=torch.float64)


def real_features(
    data: Images, extractor: Extractor, *, cache: Path | None, ranks: Ranks, limit: int = 10_000
) -> dict[str, Tensor]:
    """Class -> [N, F] float64 of the first `limit` images of each class; on ranks other than the first, nothing.

    Args:
        cache: a folder, which keeps features by the digests of data and extractor, the resizer and the limit, so that
            a change of any is a miss; None: nothing is kept.
        ranks: share the work.

    Raises: UserError when `limit` is below 2 or a cache file cannot be read.
    """
    if limit < 2:
        raise UserError(f"limit counts real images per class and must be at least 2, got {limit}")
    on = (data.digest, extractor.digest, extractor.resizer, str(limit))
    key = hashlib.sha256("\n".join(on).encode()).hexdigest()
    path = None if cache is None else cache / f"features-{extractor.name}-{key[:32]}.safetensors"
    found = torch.tensor([int(path is not None and path.exists())], device=ranks.device)
    # The first rank decides: another may see another disk, or a file that has come since.
    if bool(ranks.gather(found)[0]):
        if path is None or ranks.rank > 0:
            return {}
        try:
            kept = load_file(path)
        except SafetensorError as error:
            raise UserError(f"the feature cache {path} cannot be read ({error}); delete it") from error
        # Class names may be anything, so tensors are stored by class index.
        return {cls: kept[str(label)] for label, cls in enumerate(data.classes)}
    features = {}
    for label, cls in enumerate(data.classes):
        rows_N = torch.nonzero(data.labels == label).flatten()[:limit]

        def compute(first: int, size: int, rows_N: Tensor = rows_N) -> Tensor:
            chunks = filter(len, rows_N[first : first + size].split(BATCH))
            batches = (torch.stack([data[int(i)][0] for i in chunk]) for chunk in chunks)
            return extract(batches, extractor, ranks.device)

        features[cls] = sharded(len(rows_N), ranks, compute)
    if ranks.rank > 0:
        return {}
    if path is not None:
        stored = save({str(label): features[cls] for label, cls in enumerate(data.classes)})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: part.write_bytes(stored))
    return features
