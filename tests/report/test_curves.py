"""Curves show the numbers they are given, and leave matplotlib's global state alone."""

from __future__ import annotations

import math
from itertools import pairwise

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hmgan.report.curves import DARK, DENSITY, WIDTH, loss_curves, save_figure, score_curves, spread

STATS = [
    {"kimg": 1.0, "seconds": 9.0, "loss/G": 1.0, "loss/D": 2.0, "score/real": 0.5, "score/fake": -0.5},
    {"kimg": 2.0, "seconds": 18.0, "loss/G": 1.5, "loss/D": 1.0, "score/real": 0.7, "score/fake": -0.4, "loss/r1": 0.3},
    {"kimg": 3.0, "seconds": 27.0, "loss/G": math.nan, "loss/D": 0.5, "score/real": 0.8, "score/fake": -0.6},
    {"kimg": 4.0, "seconds": 36.0, "loss/G": 1.7, "loss/D": 0.4, "score/real": 0.9, "score/fake": -0.7, "loss/r1": 0.2},
]


def metrics(values: dict[str, list[float]], metric: str = "FD-squeezenet") -> list[dict]:
    return [
        {"kimg": 2.0 * i, "metric": metric, "class": cls, "value": value}
        for cls, series in values.items()
        for i, value in enumerate(series)
    ]


def drawn(figure: Figure) -> dict[str, list[list[tuple[float, float]]]]:
    """Panel title -> the points of each line."""
    return {
        axes.get_title(loc="left"): [[(float(x), float(y)) for x, y in line.get_xydata()] for line in axes.lines]
        for axes in figure.axes
    }


def test_a_key_on_some_lines_is_drawn_through_those_and_nan_is_left_out():
    panels = drawn(loss_curves(STATS))
    assert list(panels) == ["Losses", "Mean score that D gives", "R1 penalty"]
    assert panels["R1 penalty"] == [[(2.0, 0.3), (4.0, 0.2)]]
    assert panels["Losses"][0] == [(1.0, 1.0), (2.0, 1.5), (4.0, 1.7)]


def test_only_panels_with_data_are_drawn():
    panels = drawn(loss_curves([{"kimg": 1.0, "loss/align": 3.0}, {"kimg": 2.0, "loss/align": 2.0}]))
    assert panels == {"Self-alignment loss": [[(1.0, 3.0), (2.0, 2.0)]]}


def test_scores_have_a_panel_per_metric_and_the_mean_bold_and_last():
    both = metrics({"mean": [60, 30], "bag": [70, 20]}) + metrics(
        {"mean": [0.6, 0.3], "bag": [0.7, 0.2]}, "KD-squeezenet"
    )
    figure = score_curves(both)
    fd, kd = figure.axes
    assert fd.get_title(loc="left").startswith("FD-squeezenet")
    assert kd.get_title(loc="left").startswith("KD-squeezenet")
    assert [text.get_text() for text in fd.texts] == ["bag", "mean"]
    assert fd.lines[1].get_linewidth() > fd.lines[0].get_linewidth()
    assert [tuple(point) for point in fd.lines[1].get_xydata()] == [(0, 60), (2, 30)]


@pytest.mark.parametrize(
    ("series", "scale"),
    [([50, 40], "linear"), ([50, 5.1], "linear"), ([50, 4.9], "log"), ([50, -0.1], "linear"), ([50, 0], "linear")],
)
def test_scores_are_on_a_log_axis_where_they_span_more_than_a_decade(series, scale):
    (axes,) = score_curves(metrics({"bag": series})).axes
    assert axes.get_yscale() == scale


def test_every_class_is_labelled_and_no_two_labels_touch():
    values = {str(digit): [100.0, 10 + 0.01 * digit] for digit in range(10)}
    (axes,) = score_curves(metrics(values)).axes
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert len(heights) == 10
    assert min(b - a for a, b in pairwise(heights)) > 0.04
    styles = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(styles) == 10, "colour and dashes together must tell the classes apart"


def test_spread_keeps_order_distance_and_bounds():
    moved = spread([0.5, 0.02, 0.51, 0.52, 0.0], 0.1)
    assert sorted(range(5), key=moved.__getitem__) == [4, 1, 0, 2, 3]
    ordered = sorted(moved)
    assert all(b - a > 0.1 - 1e-6 for a, b in pairwise(ordered))
    assert ordered[0] >= 0
    assert ordered[-1] <= 1
    assert spread([0.2, 0.8], 0.1) == [0.2, 0.8]


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="must hold a loss or a score, got 1 lines without one"):
        loss_curves([{"kimg": 1.0}])
    with pytest.raises(ValueError, match="at least one line"):
        score_curves([])


@pytest.mark.parametrize("name", ["a$b$c", "_hidden", "\u732b", "x" * 60, "<script>"])
def test_any_class_name_can_be_drawn(tmp_path, name):
    save_figure(score_curves(metrics({name: [3.0], "mean": [3.0]})), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").is_file()


def test_figures_are_sharp_repeatable_whole_and_leave_no_global_state(tmp_path):
    before = dict(mpl.rcParams)
    for name in ("a.png", "b.png"):
        save_figure(loss_curves(STATS, ink=DARK), tmp_path / "new" / name)
    assert dict(mpl.rcParams) == before
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.width == WIDTH * DENSITY
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]
