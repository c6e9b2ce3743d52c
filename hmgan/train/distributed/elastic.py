"""Under a torchrun that starts ranks anew as machines leave and join, not every world divides the batch.

The ranks beyond the largest world that does stand aside: a run that has lost a machine goes on with what fits, and one
more machine may make all of them fit again. Ending instead would leave a run of four machines, whose batch three do not
divide, to the first that is lost.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.distributed import Store

from hmgan.train.distributed.rendezvous import GRACE, PATIENCE, RankInfo, rank_info

POLL = 0.5  # seconds
OVER, HEARD = "over", "heard"  # the run has come to its end; ranks that stood aside and know


def largest(world: int, fits: Callable[[int], bool]) -> int:
    """The largest world, up to this one, that fits; this one where none does, whose own check says why."""
    return next((smaller for smaller in range(world, 0, -1) if fits(smaller)), world)


@contextmanager
def fitted(fits: Callable[[int], bool]) -> Iterator[None]:
    """Around a run of ranks that a launcher starts anew: WORLD_SIZE becomes the largest that fits.

    Raises: SystemExit in a rank beyond it: with 0 once the run is over, with 1 where rank 0 has left before.
    """
    own = rank_info()
    if own is None or os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") == "0":
        yield
        return
    world = largest(own.world, fits)
    if own.rank >= world:
        _stand_aside(own, world)
    store = own.store(PATIENCE) if own.rank == 0 and world < own.world else None
    os.environ["WORLD_SIZE"] = str(world)
    yield
    if store is not None:
        _dismiss(store, own.world - world)


def _stand_aside(own: RankInfo, world: int) -> None:
    """Until the run is over; a machine that joins or leaves ends the wait too, by torchrun's signal."""
    if own.rank == world:
        beyond = f"{own.world - world} of {own.world} ranks stand aside until machines join or leave"
        print(f"the batch divides over {world} ranks: {beyond}", file=sys.stderr, flush=True)
    try:
        store = own.store(PATIENCE)
        while not store.check([OVER]):
            time.sleep(POLL)
        store.add(HEARD, 1)
    except (RuntimeError, OSError):  # rank 0 has gone, and the store with it
        raise SystemExit(1) from None
    raise SystemExit(0)


def _dismiss(store: Store, aside: int) -> None:
    """Tells those that stand aside; returns once they know, or had the time to."""
    store.set(OVER, "")
    deadline = time.monotonic() + GRACE
    while store.add(HEARD, 0) < aside and time.monotonic() < deadline:
        time.sleep(POLL / 10)
