#!/usr/bin/env bash
# One machine's ranks, one per GPU:    GPUS=8 launch/torchrun.sh train hyper-mod-c --data shards/mine
# For several machines run it on each, with NODES, NODE_RANK (from 0) and MASTER_ADDR (the first machine) set.
# It ends with the ranks' own exit code: 85 says that they were told to stop and have saved.
set -euo pipefail

NODES=${NODES:-1}
GPUS=${GPUS:-$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)}
if [ "$GPUS" -lt 1 ]; then GPUS=1; fi # without a GPU: one rank, on the CPU

# A scheduler's signal goes on to the ranks, which then have GRACE seconds to save.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${GRACE:-300}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

if [ "$NODES" -eq 1 ]; then
    place=(--standalone)
else
    : "${NODE_RANK:?counts the machines from 0}" "${MASTER_ADDR:?names the first machine}"
    place=(--node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}")
fi
exec "${PYTHON:-python}" -m hmgan.launch.torchrun --nnodes "$NODES" --nproc_per_node "$GPUS" "${place[@]}" -m hmgan "$@"
