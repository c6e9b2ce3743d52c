"""Training from shards without an index, through webdataset's own reader."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

import numpy as np
import torch
import webdataset as wds
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hmgan.data.decode import BACKGROUND, SizeError, checked_background, decode_into, open_image, transparency
from hmgan.data.images import Images, Reading
from hmgan.data.loader import as_read, read_each
from hmgan.data.store.folders import shard_cache
from hmgan.data.tarstream import Sample, samples, shards_in
from hmgan.errors import UserError, some_of
from hmgan.files import check_limits
from hmgan.types import UNLABELLED, Batch
from hmgan.urls import is_url

INDEX_IT = "run `hmgan index` on the shards and leave data.reader out"
LOOKED_AT = 1000  # samples, for the first of each class


class Streamed:
    """Images of WebDataset shards as they come.

    Its limits, compared with sets that have an index:
    - No exact resume: a resumed run draws its images anew, and says so.
    - The order depends on the numbers of ranks and workers. Every pass reads each shard once, by one worker of one
      rank; a worker with small shards begins its next pass earlier, so within an epoch some images may come twice and
      others not at all.
    - There must be at least ranks x workers shards.
    - Images are shuffled only among the last `buffer` of a worker.
    - No weights, balancing, `per_class`, scores, or learned z; no damage is tolerated; a cut shard is found at its end.
    - Each worker reads from the store itself. What it has read to its end is in the cache for later passes and runs;
      nothing is read ahead.

    Args:
        sources: folders or URLs of shards.
        classes: names of the labels 0, 1, ...; a .cls may hold the number or the name. Empty: without labels.
        buffer: images.
        background: the colour that transparent pixels are composed on, as CSS names it.
        report: takes a line for each kind of image that has any, as one is met: by the first worker of rank 0.

    Raises: UserError for a folder without shards or samples, or a first image that cannot be read.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        classes: Sequence[str],
        buffer: int,
        background: str = BACKGROUND,
        report: Callable[[str], None] = print,
    ) -> None:
        self._tells, self.cache = True, shard_cache()
        self.shards = [shard for place in sources for shard in shards_in(place)]
        self.classes, self._buffer = tuple(classes) or (UNLABELLED,), buffer
        self._label_of = {str(i): i for i in range(len(classes))} | {name: i for i, name in enumerate(classes)}
        self.background, self._report, self._told = checked_background(background), report, {""}
        if (first := next(samples(self.shards, False, self.cache), None)) is None:
            raise UserError(f"the shards in {' + '.join(sources)} hold no samples; make them again")
        with _opened(first) as image:
            self.resolution = _side(first, image)
            self._tell(transparency(image), first)

    def unlabelled(self) -> Streamed:
        view = copy.copy(self)
        view.classes, view._label_of = (UNLABELLED,), {}
        return view

    def indexed(self, what: str) -> Images:
        raise UserError(f'{what} needs an index, and data.reader = "webdataset" has none; {INDEX_IT}')

    def places(self, step: int, batch: int, seed: int) -> Sequence[tuple[str, str]]:
        """Nothing: which images a step shows is not known afterwards."""
        return ()

    def examples(self, columns: int, classes: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Class -> its first images, as far as they are near the beginning."""
        columns = columns if len(self.classes) > 1 else columns * columns
        found: dict[str, list[Tensor]] = {name: [] for name in classes or self.classes}
        for sample in islice(samples(self.shards, bool(self._label_of), self.cache), LOOKED_AT):
            pixels_HW3 = np.empty((self.resolution, self.resolution, 3), np.uint8)
            of_class = found.get(self.classes[self.read_into(sample, pixels_HW3)], [])
            if len(of_class) < columns:
                of_class.append(torch.from_numpy(pixels_HW3).permute(2, 0, 1))
            if all(len(images) == columns for images in found.values()):
                break
        blank = torch.zeros(columns, 3, self.resolution, self.resolution, dtype=torch.uint8)
        return {name: torch.stack(images) if images else blank for name, images in found.items()}

    def check_readers(self, world: int, workers: int) -> None:
        if len(self.shards) < (streams := world * max(1, workers)):
            raise UserError(
                f'data.reader = "webdataset" needs a shard for each of {world} ranks x {max(1, workers)} workers, '
                f"got {len(self.shards)} for {streams}; lower loader.workers, or {INDEX_IT}"
            )

    def batches(self, reading: Reading) -> Iterator[Batch]:
        self.check_readers(reading.world, reading.workers)
        if reading.start_step:
            reading.report(
                'data.reader = "webdataset" cannot resume where it was: the images from here on are drawn anew, '
                "and are not those that an uninterrupted run would show"
            )
        stream = _Stream(self, reading)
        if not reading.workers:
            return stream.batches()
        # Spawned, where a store is read: a forked worker has neither the client's threads nor its connections.
        context = "spawn" if any(map(is_url, self.shards)) else "fork"
        loader: DataLoader[Batch | UserError] = DataLoader(
            stream,
            batch_size=None,
            num_workers=reading.workers,
            collate_fn=as_read,
            multiprocessing_context=context,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
        return map(_checked, loader)

    def read_into(self, sample: Sample, out_HW3: NDArray[np.uint8]) -> int:
        """Decodes an image into `out_HW3`, and returns its label."""
        try:
            kind = decode_into(sample.image, out_HW3, self.background)
        except SizeError as error:
            want = f"{self.resolution} x {self.resolution}"
            raise UserError(f"{sample.name} must be {want} px like the first, got {error}; make it again") from None
        except Exception as error:
            check_limits(error)
            raise UserError(f"{sample.name} cannot be decoded: {error}; make that shard again") from error
        self._tell(kind, sample)
        if not self._label_of:
            return 0
        if sample.label not in self._label_of:
            raise UserError(
                f"{sample.name} has the label {sample.label!r}; data.classes must name every class, got "
                f"{some_of(self.classes)}"
            )
        return self._label_of[sample.label]

    def _tell(self, kind: str, sample: Sample) -> None:
        """Tells of the first image of a kind that has transparency."""
        if kind in self._told:
            return
        self._told.add(kind)
        if self._tells:
            at = f"such as those of {sample.name}, {kind}"
            self._report(f"transparent pixels are put on {self.background} (data.background), {at}")

    def quiet(self) -> None:
        """Leaves it to others to tell."""
        self._tells = False


def _checked(found: Batch | UserError) -> Batch:
    """What a worker read. It hands over an error, since one that it raises would come with the worker's traceback."""
    if isinstance(found, UserError):
        raise found
    return found


class _Stream(IterableDataset[Batch | UserError]):
    """The batches of one rank; inside a worker, of that worker."""

    def __init__(self, data: Streamed, reading: Reading) -> None:
        self.data, self.batch, self.rank, self.world = data, reading.batch_per_rank, reading.rank, reading.world
        self.seed = f"{reading.seed}/{reading.start_step}"

    def __iter__(self) -> Iterator[Batch | UserError]:
        try:
            yield from self.batches()
        except UserError as error:
            yield error

    def batches(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        if self.rank or worker:
            self.data.quiet()
        shards = self._shards(self.rank * workers + worker, self.world * workers)
        found = samples(shards, bool(self.data._label_of), self.data.cache)
        own = random.Random(f"samples/{self.seed}/{self.rank}/{worker}").getrandbits(32)
        shuffled = wds.detshuffle(self.data._buffer, seed=own).run(found)
        while True:
            yield read_each(self.data.resolution, list(islice(shuffled, self.batch)), self.data.read_into)

    def _shards(self, part: int, parts: int) -> Iterator[str]:
        """This worker's share of the shards, each pass in an order of its own that all workers of all ranks know."""
        for number in count():
            shards = list(self.data.shards)
            random.Random(f"shards/{self.seed}/{number}").shuffle(shards)
            yield from shards[part::parts]


def _opened(sample: Sample) -> Image.Image:
    """The image, its header read."""
    try:
        return open_image(sample.image)
    except Exception as error:
        raise UserError(f"{sample.name} cannot be decoded: {error}; make that shard again") from error


def _side(sample: Sample, image: Image.Image) -> int:
    """Pixels of a square image."""
    width, height = image.size
    if width != height:
        raise UserError(f"{sample.name} must be a square, got {width} x {height}; hmgan pack makes squares")
    return width
