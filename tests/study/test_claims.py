"""One process holds a cell; the claim of one that is gone is taken over, and by one process only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from hmgan.train import claims


def write_claim(folder, number=1, age=0.0, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:06d}.json"
    path.write_text(json.dumps({**claims._owner(), **changes}))
    at = time.time() - age
    os.utime(path, (at, at))
    return path


def test_a_held_cell_is_refused_and_a_released_one_is_not(tmp_path):
    with claims.take(tmp_path) as first:
        assert first.held()
        assert claims.take(tmp_path) is None
        assert claims.holder(tmp_path).endswith(f"pid {os.getpid()}")
    assert claims.holder(tmp_path) is None
    assert claims.take(tmp_path).path.name == "000002.json"


def test_of_many_at_once_one_wins(tmp_path):
    write_claim(tmp_path, released=True)
    gate, won = threading.Barrier(16), []

    def reach():
        gate.wait()
        won.append(claims.take(tmp_path))

    threads = [threading.Thread(target=reach) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 16
    assert sum(claim is not None for claim in won) == 1


def test_a_killed_process_of_this_machine_loses_its_claim_at_once(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from hmgan.train import claims; claims.take(Path(sys.argv[1])); "
    )
    command = [sys.executable, "-c", code + "print(1, flush=True); time.sleep(60)", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.read(1)
    assert claims.take(tmp_path) is None
    process.kill()  # nobody has waited for it yet: it is a zombie, and counts as gone
    deadline = time.monotonic() + 10
    while claims.holder(tmp_path) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert claims.take(tmp_path).path.name == "000002.json"
    process.wait()
    process.stdout.close()


def test_a_later_process_of_the_same_number_is_another(tmp_path):
    write_claim(tmp_path, started="1")
    assert claims.holder(tmp_path) is None


def test_another_machine_is_believed_until_its_heartbeat_is_stale(tmp_path):
    write_claim(tmp_path, age=claims.STALE - 60, machine="another", host="far", pid=7)
    assert claims.holder(tmp_path) == "far, pid 7"
    assert claims.take(tmp_path) is None
    write_claim(tmp_path, age=claims.STALE + 60, machine="another", host="far", pid=7)
    assert claims.take(tmp_path) is not None


def test_a_heartbeat_renews_the_claim_and_notices_a_takeover(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.0)
    claim = claims.take(tmp_path)
    os.utime(claim.path, (1.0, 1.0))
    assert claim.beat()
    assert time.time() - claim.path.stat().st_mtime < 60
    write_claim(tmp_path, number=2, machine="another", host="far", pid=7)
    assert not claim.beat()
    with claim:
        pass
    assert claims.holder(tmp_path) == "far, pid 7"  # leaving did not release the other's


@pytest.mark.parametrize(("age", "held"), [(0.0, True), (1e6, False)])
def test_a_claim_cut_short_is_judged_by_its_age(age, held, tmp_path):
    path = write_claim(tmp_path)
    path.write_text("")
    os.utime(path, (time.time() - age, time.time() - age))
    assert (claims.holder(tmp_path) is not None) == held
