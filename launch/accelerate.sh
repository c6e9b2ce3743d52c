#!/usr/bin/env bash
# One machine's ranks, by accelerate launch:    GPUS=8 launch/accelerate.sh train hyper-mod-c --data shards/mine
# For several machines run it on each, with NODES, NODE_RANK (from 0) and MASTER_ADDR (the first machine) set.
# accelerate ends with 1 whatever the ranks end with: where a scheduler requeues, take torchrun.sh.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
FOUND=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
NODES=${NODES:-1}
GPUS=${GPUS:-$FOUND}
if [ "$GPUS" -lt 1 ]; then GPUS=1; fi
if [ "$FOUND" -lt 1 ]; then export ACCELERATE_USE_CPU=true; fi # the option --cpu would start one rank, silently
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

if [ "$NODES" -gt 1 ]; then
    : "${NODE_RANK:?counts the machines from 0}" "${MASTER_ADDR:?names the first machine}"
    size=(--config_file "$here/accelerate-machines.yaml" --num_machines "$NODES" --num_processes $((NODES * GPUS))
        --machine_rank "$NODE_RANK" --main_process_ip "$MASTER_ADDR" --main_process_port "${MASTER_PORT:-29500}")
elif [ "$GPUS" -gt 1 ]; then
    size=(--config_file "$here/accelerate-one-machine.yaml" --num_processes "$GPUS")
else
    size=(--config_file "$here/accelerate-one-gpu.yaml")
fi
exec "${PYTHON:-python}" -m accelerate.commands.launch "${size[@]}" --num_cpu_threads_per_process "$OMP_NUM_THREADS" \
    -m hmgan "$@"
