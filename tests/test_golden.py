"""A change of arithmetic cannot pass unseen: twenty steps of every backbone under every task, against files.

    python -m pytest tests/test_golden.py --rewrite    # writes the files anew; the commit says why the numbers moved

The tolerance is for other processors and versions of the libraries, whose sums have another order. With PyTorch's
plain kernels instead of AVX-512, and with MKL's compatible ones, values differ by 1e-12 of themselves or, where they
are tiny differences of large terms, by 1e-16: a hundredth or less of what passes.
"""

from __future__ import annotations

import golden_runs
import pytest
import tiny
from golden_runs import FOLDER, REFUSED, RUNS, STEPS, Run

from hmgan.errors import UserError

REWRITE = "python -m pytest tests/test_golden.py --rewrite"
RELATIVE, ABSOLUTE = 1e-9, 1e-14


@pytest.fixture
def rewrite(request) -> bool:
    return request.config.getoption("--rewrite")


@pytest.mark.parametrize("run", RUNS, ids="-".join)
def test_twenty_steps_have_the_losses_on_file(run, rewrite, shards, tmp_path):
    assert run.backbone in tiny.BACKBONES, f"give backbone {run.backbone} a size in BACKBONES of tests/tiny.py"
    assert rewrite or run.file.exists(), f"{run.file.name} is not in tests/golden; make it with {REWRITE}"
    lines = golden_runs.losses(run, shards, tmp_path)
    assert len(lines) == STEPS + 1
    if rewrite:
        golden_runs.write(run.file, lines)
    for step, (got, wanted) in enumerate(zip(lines, golden_runs.read(run.file), strict=True)):
        assert got == pytest.approx(wanted, rel=RELATIVE, abs=ABSOLUTE), (
            f"the arithmetic changed at step {step}; if it was meant to, run {REWRITE} and say so in the commit"
        )


@pytest.mark.parametrize("run", sorted(REFUSED), ids="-".join)
def test_what_has_no_file_is_refused(run, shards, tmp_path):
    with golden_runs.float64(), pytest.raises(UserError):
        tiny.make_trainer(golden_runs.experiment_of(Run(*run), shards, tmp_path), tmp_path)


def test_no_file_is_left_over():
    assert {file.name for file in FOLDER.iterdir()} <= {run.file.name for run in RUNS}
