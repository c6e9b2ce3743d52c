"""What a launcher left in the environment, and trackers that are not there, are refused before anything starts."""

from __future__ import annotations

import pytest
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers

from hmgan.errors import UserError
from hmgan.train.distributed import runtime
from hmgan.train.distributed.rendezvous import check_launched

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"RANK": None, "MASTER_ADDR": None}, "WORLD_SIZE=2 of a launcher is set without RANK, MASTER_ADDR; unset it"),
        ({"WORLD_SIZE": None}, "RANK=1 of a launcher is set without WORLD_SIZE; unset it"),
        ({"RANK": "2"}, "RANK=2 must be below WORLD_SIZE=2; unset it"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 of a launcher must be 1 or more; unset it"),
        ({"RANK": None, "LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0 of a launcher must be 1 or more; unset it"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE of a launcher must be a number, got 'two'; unset it"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT of a launcher must be a number, got 'http'; unset it"),
    ],
)
def test_variables_that_are_left_over_are_named(changes, text):
    variables = {name: value for name, value in (WHOLE | changes).items() if value is not None}
    with pytest.raises(UserError, match=text):
        check_launched(variables)


@pytest.mark.parametrize("variables", [WHOLE, {}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_a_whole_set_or_none_is_taken(variables):
    check_launched(variables)


@pytest.mark.parametrize("name", ["ACCELERATE_USE_CPU", "ACCELERATE_DYNAMO_BACKEND"])
def test_a_variable_that_accelerate_cannot_read_is_named(name, monkeypatch):
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv(name, "perhaps")
    with pytest.raises(UserError, match=f"accelerate cannot start .*; see to the variables {name}, or unset them"):
        runtime.Runtime()


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    there = [each for each in get_available_trackers() if each.value != "wandb"]
    monkeypatch.setattr(runtime, "get_available_trackers", lambda: there)
    with pytest.raises(UserError, match="names 'wandb', which is not installed"):
        runtime.Runtime(trackers=["wandb"])


def test_a_tracker_is_opened_as_project_hmgan_with_the_configuration(tmp_path, monkeypatch):
    opened = runtime.Runtime()
    seen = {}

    class Tracker:
        name = "other"

        def store_init_configuration(self, values):
            seen.update(values)

    monkeypatch.setattr(opened.accelerator, "init_trackers", lambda project: seen.update(project=project))
    monkeypatch.setattr(opened.accelerator, "trackers", [Tracker()])
    opened.track(tmp_path, {"train": {"batch": 4}})
    assert seen == {"project": "hmgan", "train": {"batch": 4}}
