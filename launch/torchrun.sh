#!/usr/bin/env bash
# One machine's ranks, one per GPU:    GPUS=8 launch/torchrun.sh train hyper-mod-c --data shards/mine
# For several machines run it on each, with NODES, NODE_RANK (from 0) and MASTER_ADDR (the first machine) set.
# NODES=MIN:MAX, without NODE_RANK: machines may leave and join; the ranks start anew, at most RESTARTS times after a
# failure, and the training, which needs --resume auto, goes on from its newest checkpoint.
# It ends with the ranks' own exit code: 85 says that they were told to stop and have saved.
set -euo pipefail

NODES=${NODES:-1}
GPUS=${GPUS:-$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)}
if [ "$GPUS" -lt 1 ]; then GPUS=1; fi # without a GPU: one rank, on the CPU

# A scheduler's signal goes on to the ranks, which then have GRACE seconds to save.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${GRACE:-300}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

if [[ $NODES == *:* ]]; then
    : "${MASTER_ADDR:?names the first machine}"
    if [[ " $* " != *" --resume"[\ =]* ]]; then
        echo "error: NODES=$NODES starts ranks anew, which would begin a new run each time; add --resume auto" >&2
        exit 2
    fi
    # Ranks that start anew meet in a store of their own: torchrun's would still hold what the former ones said.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    place=(--rdzv_backend c10d --rdzv_endpoint "$MASTER_ADDR:${MASTER_PORT:-29500}" --rdzv_id hmgan)
    place+=(--max_restarts "${RESTARTS:-8}")
elif [ "$NODES" -eq 1 ]; then
    place=(--standalone)
else
    : "${NODE_RANK:?counts the machines from 0}" "${MASTER_ADDR:?names the first machine}"
    place=(--node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}")
fi
exec "${PYTHON:-python}" -m hmgan.launch.torchrun --nnodes "$NODES" --nproc_per_node "$GPUS" "${place[@]}" -m hmgan "$@"
