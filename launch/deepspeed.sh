#!/usr/bin/env bash
# One machine's ranks, by DeepSpeed's launcher:    GPUS=8 launch/deepspeed.sh train hyper-mod-c --data shards/mine
# For several machines run it on each, with NODES, NODE_RANK (from 0) and MASTER_ADDR (the first machine) set.
# DeepSpeed's launcher ends with 1 whatever the ranks end with: where a scheduler requeues, take torchrun.sh.
set -euo pipefail

NODES=${NODES:-1}
GPUS=${GPUS:-$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)}
if [ "$GPUS" -lt 1 ]; then GPUS=1; fi # without a GPU: one rank, on the CPU
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

place=(--num_gpus "$GPUS" --master_port "${MASTER_PORT:-29500}")
if [ "$NODES" -gt 1 ]; then
    : "${NODE_RANK:?counts the machines from 0}" "${MASTER_ADDR:?names the first machine}"
    place+=(--no_ssh --num_nodes "$NODES" --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR")
fi
# --no_local_rank: hmgan reads LOCAL_RANK, and knows no option of that name.
exec "${PYTHON:-python}" -m deepspeed.launcher.runner --no_local_rank "${place[@]}" --module hmgan "$@"
