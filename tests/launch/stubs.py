"""Stand-ins for what is not on a test machine: SLURM's commands, and ranks that do nothing but wait."""

from __future__ import annotations

import sys
from pathlib import Path

SCONTROL = """#!/usr/bin/env bash
if [ "$1 $2" = "show hostnames" ]; then printf '%s-1\\n%s-2\\n' "$3" "$3"; else echo "$@" >>{folder}/asked; fi
"""
# Two tasks; signals go on to them, and it ends as the task with the highest code, as srun does.
SRUN = """#!{python}
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
tasks = []
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])  # before any task
for i in "01":
    env = {{**os.environ, "SLURM_PROCID": i, "SLURM_LOCALID": i, "SLURM_NTASKS": "2"}}
    tasks.append(subprocess.Popen(words, env=env))
sys.exit(max(code if code >= 0 else 128 - code for code in [task.wait() for task in tasks]))
"""
# In place of `python`: says what it was told, then ends with CODE, at once or ON a signal.
RANK = """#!/usr/bin/env bash
trap 'echo "rank $RANK had USR1"; exit "$CODE"' USR1
echo "rank $RANK of $WORLD_SIZE, here $LOCAL_RANK, first machine $MASTER_ADDR:$MASTER_PORT: $*" >>{folder}/rank"$RANK"
if [ -z "${{ON:-}}" ]; then exit "$CODE"; fi
for _ in $(seq 300); do sleep 0.1; done
"""


def write(folder: Path) -> None:
    """The commands, to be first on the PATH."""
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN), ("rank", RANK)):
        path = folder / name
        path.write_text(text.format(folder=folder, python=sys.executable))
        path.chmod(0o755)
