"""Several packed sets as one, in given shares, with balanced classes on request. N images, S shards."""

from __future__ import annotations

import copy
import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from math import gcd, lcm

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hmgan.data.index import Index
from hmgan.data.indexed import Indexed
from hmgan.data.interleaved import Interleaved, spread
from hmgan.data.order import WINDOW, Order, Ordered
from hmgan.data.shards import ShardSet
from hmgan.data.stratified import stratified
from hmgan.errors import UserError, some_of
from hmgan.types import UNLABELLED

LONGEST_ROUND = 10_000  # positions, after which the shares are exact


class Mixture(Indexed, Dataset[tuple[Tensor, int]]):
    """The images of all sets, numbered one set after the other. A class is the same class in every set by its name.

    Without weights the sets are one set, and an epoch shows each image once. With weights each set has epochs of its
    own and its share of the positions, so a small set with a large weight is repeated more often. With `balance` the
    classes of a set (of all sets, without weights) have equal shares in the same way. Balancing keeps 8 bytes per image
    in memory, and a window per class, which is as many times smaller as there are classes. So do stratified batches.

    Args:
        sets: their images must be of one size.
        classes: all names, in label order; left out: those of the first set.
        weights: of each set, relative to each other; none: the sets are one.
        balance: show the classes equally often.
        group: images of one class that follow each other in a batch that has each class's share; 0: the batches are not
            stratified.

    Raises: UserError for sets of several sizes, a class that is not in `classes`, or weights that are no ratio of
        small whole numbers.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        *,
        classes: Sequence[str] | None = None,
        weights: Sequence[float] = (),
        balance: bool = False,
        group: int = 0,
    ) -> None:
        self._sets, self._balance, self._group = list(sets), balance, group
        first = self._sets[0]
        for each in self._sets:
            if each.resolution != first.resolution:
                raise UserError(
                    f"images that are mixed must be of one size, got {first.resolution} px in {first.index.folder} and "
                    f"{each.resolution} px in {each.index.folder}; pack one again with --resolution"
                )
            each.sharing = len(self._sets)
        self.resolution = first.resolution
        self.classes = tuple(classes) if classes is not None else first.classes
        self._shares = shares(weights)
        self._label_of = [self._names_of(each) for each in self._sets]
        self._true_label_of = self._label_of
        self._images = list(accumulate(map(len, self._sets), initial=0))  # set m's are from [m] to [m + 1]
        self._shards = list(accumulate((len(each.index.shards) for each in self._sets), initial=0))
        counts = np.zeros(len(self.classes), np.int64)
        for each, table in zip(self._sets, self._label_of, strict=True):
            counts[table] += each.counts
        self.counts = tuple(counts.tolist())

    @property
    def labels(self) -> Tensor:
        return torch.from_numpy(self._labels(self._label_of))

    @property
    def digest(self) -> str:
        """Leaves out the order in which the images are shown."""
        tables = [table.tolist() for table in self._label_of]
        parts = [str(tables), *self.classes, *(each.digest for each in self._sets)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def indexes(self) -> tuple[Index, ...]:
        return tuple(each.index for each in self._sets)

    def unlabelled(self) -> Mixture:
        """What is balanced stays balanced."""
        view = copy.copy(self)
        view._sets = [copy.copy(each) for each in self._sets]  # with open files of their own
        view.classes, view.counts = (UNLABELLED,), (len(self),)
        view._label_of = [np.zeros_like(table) for table in self._label_of]
        return view

    def order(self, *, seed: int, batch: int = 1, window: int = WINDOW) -> Ordered:
        if self._group:
            orders = self._of_classes(0, len(self._sets), "", seed, window)
            return stratified(orders, batch=batch, group=self._group, equal=self._balance, seed=seed, name="classes/")
        if not self._shares:
            return self._order(0, len(self._sets), "", seed, window)
        total = sum(self._shares)
        orders = [
            self._order(m, m + 1, f"set/{m}/", seed, max(1, window * share // total))
            for m, share in enumerate(self._shares)
        ]
        return Interleaved(orders, self._shares, draw=spread(self._shares, seed=seed, name="sets/"))

    def __len__(self) -> int:
        return self._images[-1]

    def read_into(self, images: Sequence[int], out_BHW3: NDArray[np.uint8]) -> list[int]:
        labels = []
        for place, (m, item) in enumerate(map(self._at, images)):
            labels += self._label_of[m][self._sets[m].read_into([item], out_BHW3[place : place + 1])].tolist()
        return labels

    def shard_of(self, i: int) -> int:
        m, item = self._at(i)
        return self._shards[m] + self._sets[m].shard_of(item)

    def place(self, i: int) -> tuple[str, str]:
        m, item = self._at(i)
        shard, key = self._sets[m].place(item)
        return f"{self._sets[m].index.folder}/{shard}", key

    def prefetch(self, windows: Sequence[Sequence[int]]) -> None:
        """As the sets share one cache, what it must hold of the others counts for each."""
        parts = [[self._of_set(m, window) for window in windows] for m in range(len(self._sets))]
        sizes = [each.cached_bytes(part[0]) for each, part in zip(self._sets, parts, strict=True)]
        for each, part, size in zip(self._sets, parts, sizes, strict=True):
            each.prefetch(part, beside=sum(sizes) - size)

    def fetch(self, items: Iterable[int]) -> None:
        for m, item in map(self._at, sorted(items)):
            self._sets[m].fetch([item])

    def close(self) -> None:
        for each in self._sets:
            each.close()

    def _at(self, i: int) -> tuple[int, int]:
        """The set of an image, and its number there."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        m = bisect_right(self._images, i) - 1
        return m, i - self._images[m]

    def _of_set(self, m: int, shards: Sequence[int]) -> list[int]:
        first, end = self._shards[m], self._shards[m + 1]
        return [shard - first for shard in shards if first <= shard < end]

    def _names_of(self, one: ShardSet) -> NDArray[np.int64]:
        """[classes of the set] their labels here."""
        if unknown := [name for name in one.classes if name not in self.classes]:
            raise UserError(
                f"the classes of data that is mixed must agree, got {unknown[0]!r} in {one.index.folder} beside "
                f"{some_of(self.classes)}; name all that are wanted in data.classes"
            )
        return np.array([self.classes.index(name) for name in one.classes], np.int64)

    def _labels(self, tables: Sequence[NDArray[np.int64]], first: int = 0, end: int | None = None) -> NDArray[np.int64]:
        """Of the sets from `first` up to `end`."""
        return np.concatenate([tables[m][self._sets[m].labels.numpy()] for m in range(len(self._sets))[first:end]])

    def _order(self, first: int, end: int, name: str, seed: int, window: int) -> Ordered:
        """Of the sets from `first` up to `end` as one."""
        if self._balance:
            orders = self._of_classes(first, end, name, seed, window)
            equal = [1] * len(orders)
            return Interleaved(orders, equal, draw=spread(equal, seed=seed, name=f"{name}classes/"))
        images = range(self._images[first], self._images[end])
        part = None if len(images) == len(self) else images
        return Order(self._sizes(first, end), seed=seed, window=window, images=part, name=name)

    def _of_classes(self, first: int, end: int, name: str, seed: int, window: int) -> list[Ordered]:
        """An order of each class that the sets from `first` up to `end` have."""
        labels_N = self._labels(self._true_label_of, first, end)
        found = np.unique(labels_N).tolist()
        bounds = np.concatenate([[0], np.cumsum(self._sizes(first, end))])
        orders: list[Ordered] = []
        for label in found:
            rows = np.flatnonzero(labels_N == label)
            sizes_S = np.diff(np.searchsorted(rows, bounds))
            own, small = f"{name}class/{label}/", max(1, window // len(found))
            orders.append(Order(sizes_S, seed=seed, window=small, images=self._images[first] + rows, name=own))
        return orders

    def _sizes(self, first: int, end: int) -> NDArray[np.int64]:
        """[S] images in each shard, none in those of other sets."""
        sizes_S = np.zeros(self._shards[-1], np.int64)
        for m in range(first, end):
            sizes_S[self._shards[m] : self._shards[m + 1]] = self._sets[m].shard_sizes
        return sizes_S


def shares(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the ratio of the weights, which are taken as they are written: 0.7 is 7/10.

    Raises: UserError if they are not more than 0, or their sum is too large.
    """
    if any(not weight > 0 for weight in weights):
        raise UserError(f"weights must be more than 0, got {', '.join(map(str, weights))}; leave a source out instead")
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    whole = [number // gcd(*whole) for number in whole]
    if sum(whole) > LONGEST_ROUND:
        ratio = ":".join(map(str, whole))
        raise UserError(
            f"weights must be a ratio of whole numbers up to {LONGEST_ROUND} in all, got {ratio}; round them"
        )
    return whole
