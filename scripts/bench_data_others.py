"""litdata and mosaicml-streaming over a folder of JPEG files, for bench_data.py, in an environment of their own.

    python bench_data_others.py litdata FILES SIZE WORK

Packs FILES in the library's own format, then reads an epoch for every line on standard input, and answers with a line
of JSON: images, seconds and CPU seconds. Needs torch, simplejpeg and the library; nothing of hmgan.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

BATCH, SHARD = 64, 500
Item = tuple[str, int]


def items_of(files: Path) -> list[Item]:
    folders = sorted(files.iterdir())
    return [(str(path), label) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())]


def sample(item: Item) -> dict[str, Any]:
    return {"image": Path(item[0]).read_bytes(), "label": item[1]}


def litdata_epochs(files: Path, work: Path) -> tuple[str, Callable[[], Iterator[bytes]]]:
    import litdata

    litdata.optimize(
        fn=sample,
        inputs=items_of(files),
        output_dir=str(work / "litdata"),
        chunk_size=SHARD,
        num_workers=1,
        verbose=False,
    )
    data = litdata.StreamingDataset(str(work / "litdata"), shuffle=True)
    return litdata.__version__, lambda: (item["image"] for item in data)


def mosaic_epochs(files: Path, work: Path) -> tuple[str, Callable[[], Iterator[bytes]]]:
    _stand_in_for_torchvision()
    import streaming

    folder = str(work / "mosaic")
    with streaming.MDSWriter(out=folder, columns={"image": "bytes", "label": "int"}, size_limit=1 << 24) as writer:
        for item in items_of(files):
            writer.write(sample(item))
    data = streaming.StreamingDataset(local=folder, shuffle=True, batch_size=BATCH)
    return streaming.__version__, lambda: (item["image"] for item in data)


def _stand_in_for_torchvision() -> None:
    """mosaicml-streaming imports torchvision for data sets that are not read here; none is built for CPUs."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        module: Any = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.VisionDataset, module.to_tensor = object, None
        sys.modules[name] = module


LIBRARIES = {"litdata": litdata_epochs, "mosaicml-streaming": mosaic_epochs}


def batched(contents: Iterator[bytes], size: int) -> int:
    count = 0
    while part := list(islice(contents, BATCH)):
        pixels_BHWC = np.empty((len(part), size, size, 3), np.uint8)
        for place, content in enumerate(part):
            pixels_BHWC[place] = simplejpeg.decode_jpeg(content, colorspace="RGB")
        count += len(torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2))
    return count


def main() -> None:
    library, files, size, work = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    version, epoch = LIBRARIES[library](files, work)
    print(json.dumps({"version": version}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        images = batched(epoch(), size)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"count": images, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
