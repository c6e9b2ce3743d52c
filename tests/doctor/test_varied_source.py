"""What a source can vary is told, and where it cannot."""

import tiny
import torch

from hmgan.doctor.source import told
from hmgan.evaluation.styles import Varied, style_rank, varied
from hmgan.generators.source import load_source


def test_the_embedded_sources_figures_are_those_of_its_network_and_a_flat_one_has_none(source) -> None:
    backbone = load_source(str(source)).backbone
    rank, width = style_rank(backbone)
    samples = backbone.style_samples()
    variances = torch.linalg.eigvalsh(samples.double().T.cov())
    torch.testing.assert_close(torch.tensor(rank), (variances.sum() ** 2 / variances.square().sum()).float())
    assert width == 8
    found = varied(backbone)
    assert found.images > found.truncated > 0
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if "noise" in name:
                weight.zero_()
    assert varied(backbone).noise == 0


def test_few_directions_still_noise_and_idle_truncation_are_problems_with_a_remedy() -> None:
    section = told("flat", Varied(rank=3.2, width=64, images=80, noise=0.1, truncated=79))
    rank, noise, truncation = section.problems
    assert "w varies in 3.2 directions, fewer than 15" in rank
    assert "optimizer.mapping_mult" in rank
    assert "noise moves images by 0.10 grey levels" in noise
    assert "--trunc" in truncation
    assert not told("good", Varied(rank=24, width=64, images=80, noise=3, truncated=50)).problems
    assert not told("narrow", Varied(rank=5, width=16, images=80, noise=3, truncated=50)).problems


def test_the_command_tells_a_source_by_its_folder_and_exits_by_what_it_found(source, capsys) -> None:
    code = tiny.command("doctor", source)
    out = capsys.readouterr().out
    assert "rank of w" in out
    assert code == int("needs you" in out)
