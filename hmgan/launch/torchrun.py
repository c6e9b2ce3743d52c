"""torchrun that ends as its ranks do: `python -m hmgan.launch.torchrun` takes torchrun's arguments.

torchrun itself ends with 1 whatever the ranks end with, so that a scheduler cannot tell a run that has saved and is to
be resumed from one that failed; and where it may start ranks anew, it also does after a mistake in the options.
"""

from __future__ import annotations

import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.agent.server import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError
from torch.distributed.launcher import api

from hmgan.train.distributed.signals import REQUEUE

MISTAKE = 2  # exit code: starting again mends nothing
STOPS = (signal.SIGTERM, signal.SIGUSR1)  # a scheduler's; Ctrl-C is the user's own wish


class Agent(LocalElasticAgent):
    """torchrun's own agent, but that a mistake of the user ends it at once, however many restarts are left."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if MISTAKE in (failure.exitcode for failure in result.failures.values()):
            raise ChildFailedError(worker_group.spec.get_entrypoint_name(), result.failures)
        return result


def main(arguments: list[str] | None = None) -> int:
    """Runs the ranks and returns the exit code of the first to fail; after a scheduler's signal, REQUEUE."""
    api.LocalElasticAgent = Agent  # type: ignore[misc]  # torchrun takes no agent as an argument
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
    except RendezvousClosedError:
        print("error: the training that this machine was to join is over; look at what its ranks say", file=sys.stderr)
        return 1
    except RendezvousError as error:
        problem = str(error).splitlines()[0]
        print(f"error: the machines no longer meet ({problem}); start again, first at MASTER_ADDR", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
