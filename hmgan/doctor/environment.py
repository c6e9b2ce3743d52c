"""The variables that steer the network between ranks: shown where they are set, and checked where they can be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hmgan.doctor.section import Section

STEERING = ("NCCL_", "GLOO_", "TORCH_NCCL_", "TORCH_DISTRIBUTED_")
ALSO = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_CPU", "HMGAN_CACHE")
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
INTERFACES = Path("/sys/class/net")


def environment(variables: Mapping[str, str] = os.environ, interfaces: Path = INTERFACES) -> Section:
    section = Section.empty("variables")
    for name, value in sorted(variables.items()):
        if any(word in name for word in SECRET) or not (name.startswith(STEERING) or name in ALSO):
            continue
        section.rows.append((name, value))
    if not section.rows:
        section.rows.append(("none set", f"of {', '.join(f'{prefix}*' for prefix in STEERING[:2])} and their like"))
    section.problems.extend(absent_interface(variables, interfaces))
    return section


def absent_interface(variables: Mapping[str, str], interfaces: Path) -> list[str]:
    """Gloo names interfaces exactly; a wrong one is a time-out much later. NCCL takes prefixes and exclusions."""
    name = variables.get("GLOO_SOCKET_IFNAME")
    known = sorted(path.name for path in interfaces.iterdir()) if interfaces.is_dir() else []
    if name is None or not known or all(each in known for each in name.split(",")):
        return []
    return [
        f"GLOO_SOCKET_IFNAME={name} is no interface of this machine, which has {', '.join(known)}; name one of them"
    ]
