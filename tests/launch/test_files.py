"""The files of launch/ are what the tools that read them take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from hmgan.files import launch_file
from hmgan.launch import kubernetes
from hmgan.train.distributed.signals import REQUEUE

FOLDER = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])


def test_the_package_installs_these_very_files():
    assert {path.name for path in launch_file("").iterdir() if path.is_file()} == {
        path.name for path in FOLDER.iterdir() if path.is_file()
    }
    for path in FOLDER.iterdir():
        if path.is_file():
            assert launch_file(path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash_that_shellcheck_has_nothing_to_say_about(script):
    assert len(SCRIPTS) == 4
    assert script.stat().st_mode & 0o111
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    for check in (["bash", "-n"], [Path(sys.executable).with_name("shellcheck")]):
        done = subprocess.run([*check, script], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_sbatch_asks_for_what_a_restart_needs():
    lines = launch_file("slurm.sbatch").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH ").strip() for line in lines if line.startswith("#SBATCH ")}
    assert {"--requeue", "--open-mode=append", "--signal=B:USR1@300"} <= asked
    # SLURM reads them up to the first command only.
    assert next(line for line in lines if line and not line.startswith("#")).startswith("set ")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("accelerate-*.yaml")), ids=lambda path: path.name)
def test_an_accelerate_configuration_has_only_keys_that_accelerate_knows(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))  # an unknown key raises
    assert config.use_cpu is False  # true starts one rank, silently
    assert config.mixed_precision == "no"
    several = path.name != "accelerate-one-gpu.yaml"
    assert (str(config.distributed_type.value) == "MULTI_GPU") == several == (config.num_processes > 1)


@pytest.mark.parametrize("stage", [1, 2])
def test_deepspeed_does_not_cut_gradients(stage):
    config = json.loads(launch_file(f"deepspeed-zero{stage}.json").read_text())
    assert config["gradient_clipping"] == 0.0  # DeepSpeed's own default is 1.0
    assert config["zero_optimization"]["stage"] == stage


def kubernetes_documents():
    words = ["hyper-mod-c", "--set", "a.b=yes", "--data", "- no: 'yes'\n"]
    filled = kubernetes.filled("hmgan-Hyper_Mod.C", 3, 4, "registry/hmgan:1", ["hmgan", "launch"], words)
    return {
        "as it stands": list(yaml.safe_load_all(launch_file("kubernetes.yaml").read_text())),
        "filled": list(yaml.safe_load_all(filled)),
    }


@pytest.mark.parametrize("which", ["as it stands", "filled"])
def test_the_kubernetes_objects_fit_the_published_schema(which):
    documents = kubernetes_documents()[which]
    assert [document["kind"] for document in documents] == ["Service", "Job"]
    for document in documents:
        kubernetes_validate.validate(document, "1.32", strict=True)


@pytest.mark.parametrize("which", ["as it stands", "filled"])
def test_the_parts_of_the_kubernetes_objects_agree_with_each_other(which):
    service, job = kubernetes_documents()[which]
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert service["metadata"]["name"] == pod["subdomain"] == name
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert spec["completions"] == spec["parallelism"]
    assert {variable["name"]: variable.get("value") for variable in container["env"]} == {
        "NODE_RANK": None,
        "MASTER_ADDR": f"{name}-0.{name}",
    }
    mounts = [mount["name"] for mount in container["volumeMounts"]]
    assert mounts == [volume["name"] for volume in pod["volumes"]]
    rules = {rule["action"]: rule.get("onExitCodes") for rule in reversed(spec["podFailurePolicy"]["rules"])}
    assert rules["Ignore"]["values"] == [REQUEUE]
    assert rules["FailJob"]["values"] == [2]
    for rule in rules.values():
        assert rule["containerName"] == container["name"]


def test_what_is_filled_in_reads_back_as_it_was_given():
    _, job = kubernetes_documents()["filled"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert job["metadata"]["name"] == "hmgan-hyper-mod-c"
    assert (job["spec"]["completions"], container["resources"]["limits"]) == (3, {"nvidia.com/gpu": 4})
    assert container["image"] == "registry/hmgan:1"
    assert container["command"] == ["hmgan", "launch"]
    assert container["args"] == ["hyper-mod-c", "--set", "a.b=yes", "--data", "- no: 'yes'\n"]
