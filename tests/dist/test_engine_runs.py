"""`hmgan train` on two ranks, from the first picture to the last score, under one engine and then another."""

from __future__ import annotations

import json

import launched
import pytest
import ranks
import tiny

from hmgan.train import checkpoint

SETTINGS = tiny.options(train__tick=0.016, train__snap=0.016, train__trackers="[]", compute__threads=1)


def trained(folder, arguments):
    return launched.end(["train", "hyper-mod-b", *arguments], folder)


@ranks.NEEDS_DEEPSPEED
@pytest.mark.slow
def test_a_run_under_fsdp2_is_shown_scored_kept_and_gone_on_with_under_zero(shards, source, tmp_path):
    where = ["--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 8, "--metrics", 4]
    engine = tiny.options(compute__engine__name="fsdp2", compute__engine__unit=50, train__accumulate=1)
    codes, said = trained(tmp_path / "first", [*where, "--kimg", 0.032, *SETTINGS, *engine])
    assert codes == [0, 0], said
    (run,) = (tmp_path / "runs").iterdir()
    assert "-gpus2-" in run.name
    codes, said = trained(
        tmp_path / "second", ["--resume", run, "--kimg", 0.048, *tiny.options(compute__engine="zero2")]
    )
    assert codes == [0, 0], said
    assert json.loads((run / "config.json").read_text())["compute"]["engine"]["name"] == "zero2"
    names = {path.name for path in run.iterdir()}
    assert {"fakes_init.png", "fakes000000.016.png", "fakes000000.048.png"} <= names
    scores = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in scores if line["class"] == "mean" and line["metric"].startswith("FD")] == [
        pytest.approx(kimg) for kimg in (0.0, 0.016, 0.032, 0.048)
    ]
    assert [path.name for path in checkpoint.stored(run / "checkpoints")] == ["000000006", "000000004"]
    drawn = tmp_path / "drawn"
    assert tiny.command("sample", "--network", run, "--seeds", "0-3", "--outdir", drawn) == 0
    assert list(drawn.rglob("*.png"))


@ranks.NEEDS_DEEPSPEED
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["zero1", "zero2", "fsdp2"])
def test_a_signal_to_one_rank_stops_every_engines_ranks_after_the_same_step(engine, shards, source, tmp_path):
    where = ["--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 8]
    settings = tiny.options(train__tick=0.008, train__trackers="[]", compute__engine=engine)
    words = ["train", "hyper-mod-b", *where, "--kimg", 40, *settings]
    launched.stop(words, tmp_path / "said", lambda: list((tmp_path / "runs").glob("*/stats.jsonl")))
    (run,) = (tmp_path / "runs").iterdir()
    saved = checkpoint.newest(run / "checkpoints")
    assert f"checkpoint {saved.name} is saved" in (run / "log.txt").read_text()


def test_a_stylegan2_source_whose_noise_strengths_stand_still_is_divided_by_fsdp2(shards, tmp_path):
    source = tiny.write_source(tmp_path / "source", "stylegan2")
    where = ["--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 8, "--kimg", 0.016]
    engine = tiny.options(compute__engine__name="fsdp2", compute__engine__unit=50, train__unedited="false")
    codes, said = trained(tmp_path / "said", [*where, *SETTINGS, *engine])
    assert codes == [0, 0], said
