"""A rank's flight record: its last collectives, as torch keeps them, written where ranks end each other."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist
from torch._C import _distributed_c10d as c10d

from hmgan.files import write_atomically

FOLDER = "flight"  # in the run directory
KEPT = "2000"  # collectives
SIZE = "TORCH_FR_BUFFER_SIZE"


def keep() -> None:
    """Has torch keep one, in process groups that are made later; what the environment says goes before."""
    os.environ.setdefault(SIZE, KEPT)


def write(folder: Path, rank: int) -> None:
    """Writes flight/rankN.json into a run directory, where this torch keeps a record that can be read."""
    nccl = dist.is_initialized() and "nccl" in dist.get_backend_config()
    read = getattr(c10d, "_dump_nccl_trace_json" if nccl else "_dump_fr_trace_json", None)
    with suppress(Exception):  # nothing here may keep a rank from ending
        if read is not None:
            (folder / FOLDER).mkdir(exist_ok=True)
            write_atomically(folder / FOLDER / f"rank{rank}.json", lambda part: part.write_bytes(read()))
