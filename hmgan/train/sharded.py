"""Every rank saves its share of a checkpoint, in a thread of its own, while training goes on."""

from __future__ import annotations

import shutil
from collections import ChainMap
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_saver import async_save

from hmgan.train.checkpoint import Entries, Saver, flat, prune, refused, seal
from hmgan.train.shares import Writer


class ShardedSaver(Saver):
    """The same on all ranks, which make the same calls.

    Memory: until the files are written, a copy on each rank's CPU of its share, and of what is whole on every rank.

    Args:
        main: whether this is the first rank.
        timeout: seconds that a rank may take to write.
    """

    together = True

    def __init__(self, folder: Path, keep: int, main: bool, timeout: float) -> None:
        super().__init__(folder, keep)
        self._main = main
        # Of its own: the training's collectives go on meanwhile, in other threads.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))

    def _begin(self, folder: Path, entries: Entries, state: Mapping[str, Any]) -> Future[None]:
        own = [flat(name, entry.shares()) for name, entry in entries.items()]
        groups = dict(ChainMap(*(each.groups for each in own)))
        writer = Writer(folder, lambda partial, shares: seal(partial, {**state, "groups": groups, "shares": shares}))
        planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        tensors = dict(ChainMap(*(each.tensors for each in own)))
        # It returns when all is copied.
        writing = async_save(tensors, storage_writer=writer, planner=planner, process_group=self._group)
        return self._pool.submit(self._end, folder, writer, writing)

    def _end(self, folder: Path, writer: Writer, writing: Any) -> None:
        try:
            writing.result()
        except CheckpointException as error:
            shutil.rmtree(writer.partial, ignore_errors=True)
            raise refused(folder, next(iter(error.failures.values()))[0]) from error
        if self._main:
            prune(self._folder, self._keep)
