"""Features of images, extracted over all ranks and kept under everything they depend on. B batch, N samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hmgan.errors import UserError
from hmgan.evaluation.sharding import BATCH, Alone, Ranks, sharded
from hmgan.files import write_atomically
from hmgan.metrics.features import Extractor

ALONE = Alone()


class LabelledImages(Protocol):
    """What evaluation needs of a data set; `hmgan.data.shards.ShardSet` has it."""

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Tensor: ...  # [N] int64
    @property
    def digest(self) -> str: ...
    def __getitem__(self, i: int, /) -> tuple[Tensor, int]: ...  # uint8 [3, H, W], label


def extract(batches: Iterable[Tensor], extractor: Extractor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 batches [B, 3, H, W] -> [N, F] float64 on the CPU. The extractor moves to `device`."""
    extractor = extractor.to(device)
    rows = [extractor(images_B3HW.to(device)).cpu() for images_B3HW in batches]
    return torch.cat(rows) if rows else torch.empty(0, extractor.dim, dtype=torch.float64)


def real_features(
    data: LabelledImages,
    extractor: Extractor,
    *,
    cache: Path | None,
    ranks: Ranks = ALONE,
    limit: int = 10_000,
) -> dict[str, Tensor]:
    """Class -> [N, F] float64 of the first `limit` images of each class; on ranks other than the first, nothing.

    Args:
        cache: a folder. Features are kept there under the data's digest, the extractor's, the resizer and the limit,
            so that a change of any of them is a miss. None: nothing is kept.
        ranks: the work is shared among them.

    Raises: UserError when `limit` is below 2 or a cache file cannot be read.
    """
    if limit < 2:
        raise UserError(f"limit counts real images per class and must be at least 2, got {limit}")
    path = None if cache is None else cache / _cache_name(data, extractor, limit)
    found = torch.tensor([int(path is not None and path.exists())], device=ranks.device)
    # The first rank's word: another one may see another disk, or a file that has come since.
    if bool(ranks.gather(found)[0]):
        if path is None or ranks.rank > 0:
            return {}
        # Class names may be anything, so tensors are stored by class index.
        kept = _read(path)
        return {cls: kept[str(label)] for label, cls in enumerate(data.classes)}
    features = {}
    for label, cls in enumerate(data.classes):
        rows_N = torch.nonzero(data.labels == label).flatten()[:limit]

        def compute(first: int, size: int, rows_N: Tensor = rows_N) -> Tensor:
            return extract(_batches(data, rows_N[first : first + size]), extractor, ranks.device)

        features[cls] = sharded(len(rows_N), ranks, compute)
    if ranks.rank > 0:
        return {}
    if path is not None:
        stored = save({str(label): features[cls] for label, cls in enumerate(data.classes)})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: part.write_bytes(stored))
    return features


def _batches(data: LabelledImages, rows_N: Tensor) -> Iterator[Tensor]:
    """[B, 3, H, W] uint8 batches of the images at these places."""
    for chunk in rows_N.split(BATCH):
        if len(chunk):
            yield torch.stack([data[int(i)][0] for i in chunk])


def _cache_name(data: LabelledImages, extractor: Extractor, limit: int) -> str:
    parts = (data.digest, extractor.digest, extractor.resizer, str(limit))
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"features-{extractor.name}-{key[:32]}.safetensors"


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"the feature cache {path} cannot be read ({error}); delete it") from error
