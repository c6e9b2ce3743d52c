"""launch/kubernetes.yaml with a job's own values. Filled as data, never as text: no value can break out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from hmgan.files import launch_file

LONGEST = 50  # of the 63 characters that the pods' own, longer, names may have


def filled(name: str, nodes: int, gpus: int, image: str, command: Sequence[str], arguments: Sequence[str]) -> str:
    """The Service and the Job, as YAML."""
    service, job = yaml.safe_load_all(launch_file("kubernetes.yaml").read_text(encoding="utf-8"))
    name = re.sub(r"[^a-z0-9]+", "-", name.lower())[:LONGEST].strip("-")
    for document in (service, job):
        document["metadata"]["name"] = name
    service["spec"]["selector"] = {"batch.kubernetes.io/job-name": name}
    job["spec"]["completions"] = job["spec"]["parallelism"] = nodes
    pod = job["spec"]["template"]["spec"]
    pod["subdomain"] = name
    (container,) = pod["containers"]
    container["image"] = image
    container["command"], container["args"] = list(command), list(arguments)
    container["resources"]["limits"]["nvidia.com/gpu"] = gpus
    (first,) = (variable for variable in container["env"] if variable["name"] == "MASTER_ADDR")
    first["value"] = f"{name}-0.{name}"
    text = yaml.safe_dump_all([service, job], sort_keys=False, width=120)
    assert list(yaml.safe_load_all(text)) == [service, job], "what was written reads back as something else"
    return text
