"""The variables that steer the network between ranks: shown where they are set, and checked where they can be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hmgan.doctor.probe import ProbeResult
from hmgan.errors import redacted

STEERING = ("NCCL_", "GLOO_", "TORCH_NCCL_", "TORCH_DISTRIBUTED_")
ALSO = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_CPU", "HMGAN_CACHE")
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
INTERFACES = Path("/sys/class/net")


def environment(variables: Mapping[str, str] = os.environ, interfaces: Path = INTERFACES) -> ProbeResult:
    """The steering variables that are set, and a network interface among them that this machine does not have."""
    rows = [
        (name, redacted(value))
        for name, value in sorted(variables.items())
        if (name.startswith(STEERING) or name in ALSO) and not any(word in name for word in SECRET)
    ]
    result = ProbeResult("variables", rows or [("none set", "of NCCL_*, GLOO_* and their like")])
    # Gloo takes exact names, and a wrong one is a timeout much later. NCCL takes prefixes and exclusions.
    name = variables.get("GLOO_SOCKET_IFNAME")
    known = sorted(path.name for path in interfaces.iterdir()) if interfaces.is_dir() else []
    if name is not None and known and not set(name.split(",")) <= set(known):
        has = f"this machine, which has {', '.join(known)}"
        result.problems.append(f"GLOO_SOCKET_IFNAME={name} is no interface of {has}; name one of them")
    return result
