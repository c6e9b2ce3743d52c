"""torchrun that ends as its ranks do: `python -m hmgan.launch.torchrun` takes torchrun's arguments.

torchrun itself ends with 1 whatever the ranks end with, so that a scheduler cannot tell a run that has saved and is to
be resumed from one that failed.
"""

from __future__ import annotations

import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from hmgan.train.distributed.signals import REQUEUE

STOPS = (signal.SIGTERM, signal.SIGUSR1)  # a scheduler's; Ctrl-C is the user's own wish


def main(arguments: list[str] | None = None) -> int:
    """Runs the ranks and returns the exit code of the first to fail; after a scheduler's signal, REQUEUE."""
    try:
        run.main(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode != REQUEUE:
            print(f"rank {rank} failed first, with exit code {failure.exitcode}", file=sys.stderr)
        # A signal's number is negative there.
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        # The ranks had the signal too, and have ended by now.
        return REQUEUE if error.sigval in STOPS else 128 + error.sigval
    return 0


if __name__ == "__main__":
    sys.exit(main())
