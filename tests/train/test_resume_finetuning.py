"""Fine-tuning resumes exactly: across MineGAN's stages, BSA's rates, and with what EWC works out anew."""

from __future__ import annotations

from functools import cache

import pytest
import tiny
from test_resume import COMMON, GAN, Interrupted, assert_same_run, interrupt_at, run_of

METHODS = {
    "transfergan": GAN,
    # Steps 0 to 4 are of the first stage: cut in the middle of it, at its last step, and in the second.
    "minegan": GAN + tiny.options(players__kimg=0.02),
    "ewc": GAN + tiny.options(gen_penalty__samples=8, gen_penalty__weight=10.0),
    "cdc": GAN,
    # The rates drop at step 2 and every two steps from there; the runs otherwise mirror, which has no z.
    "bsa": COMMON + tiny.options(loader__mirror="false", task__drop_kimg=0.008),
}
EXTRA = {"bsa": ["latents"]}


def arguments(name, shards, source, outdir):
    where = ["--data", shards, "--source", source, "--outdir", outdir, "--kimg", 0.032]
    return ["train", name, *where, *METHODS[name]]


@pytest.fixture(scope="module")
def whole(shards, source, tmp_path_factory):
    """The uninterrupted run of a method, each trained once."""

    @cache
    def train(name):
        outdir = tmp_path_factory.mktemp(name)
        assert tiny.command(*arguments(name, shards, source, outdir)) == 0
        return run_of(outdir)

    return train


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("transfergan", 5),
        ("minegan", 3),
        ("minegan", 4),
        ("minegan", 7),
        ("ewc", 5),
        ("cdc", 5),
        ("bsa", 3),
        ("bsa", 5),
    ],
)
def test_a_fine_tuning_interrupted_and_resumed_equals_the_uninterrupted_one(
    name, step, whole, shards, source, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        with pytest.raises(Interrupted):
            tiny.command(*arguments(name, shards, source, tmp_path / "cut"))
    assert tiny.command("train", name, "--resume", run_of(tmp_path / "cut")) == 0
    assert_same_run(whole(name), run_of(tmp_path / "cut"), *EXTRA.get(name, ()))
