"""What keeps a class various resumes exactly: stratified groups across epochs, the faded-in class, the penalties."""

from __future__ import annotations

import pytest
import tiny
from test_resume import GAN, Interrupted, assert_same_run, interrupt_at, run_of

STRATA = tiny.options(loader__stratified="true", loader__group=2, task__within_class="true")
METHODS = {
    # The class is halfway in where the run is cut.
    "transitional": tiny.options(disc_head="transitional", disc_head__start=0.008, disc_head__span=0.04),
    "adc-mode-seeking": [*STRATA, *tiny.options(disc_head="adc", gen_penalty="mode-seeking")],
    "noisy-twins": [*STRATA, *tiny.options(gen_penalty="noisy-twins")],
}


@pytest.mark.parametrize("name", METHODS)
def test_a_transfer_cut_in_its_second_epoch_and_resumed_equals_the_uninterrupted_one(
    name, shards, source, tmp_path, monkeypatch
):
    def arguments(outdir):
        where = ["--data", shards, "--source", source, "--outdir", outdir, "--kimg", 0.048]
        return ["train", "hyper-mod-b", *where, *GAN, *METHODS[name]]

    assert tiny.command(*arguments(tmp_path / "whole")) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 10)
        with pytest.raises(Interrupted):
            tiny.command(*arguments(tmp_path / "cut"))
    assert tiny.command("train", "--resume", run_of(tmp_path / "cut")) == 0
    assert_same_run(run_of(tmp_path / "cut"), run_of(tmp_path / "whole"))
