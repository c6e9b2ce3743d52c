"""The tables of a study's report: mean and deviation over seeds, and the orderings, with the paper's numbers beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from hmgan.metrics import measures
from hmgan.report.document import Column, Table
from hmgan.report.document import Row as Line
from hmgan.report.scores import number_format
from hmgan.study import scores as collected
from hmgan.study.schema import Claim, Row, Study
from hmgan.study.scores import Result
from hmgan.study.statistics import Verdict, compare, deviation

MISSING, NONE = "missing", "\N{EN DASH}"
PLUS_MINUS, MINUS = "\N{PLUS-MINUS SIGN}", "\N{MINUS SIGN}"
PAPER_SCORE = "mFID"  # the one of the paper's Table 4
PAPER_DISTANCES = (PAPER_SCORE, "mKID x100")
SPREAD = (
    f"Mean {PLUS_MINUS} sample standard deviation over the seeds; one seed has none. {measures.arrow('FD')} lower is "
    f"better, {measures.arrow('recall')} higher is better. Columns that begin with paper are the paper's own numbers."
)
COST = (
    "Trained is the number of parameters of the generator that train. Minutes are the mean time of one training, "
    "self-alignment and scores at snapshots included, by its own log: machines and their load differ."
)
PAPER_PATHS = (
    "The paper's Table 3 (times 10^6, full and end: A 61.94 and 61.78, B 61.23 and 59.85) is not beside these lengths: "
    "in its released code the two images of a pair differ in z and noise too, which a step of 1e-4 turns into 6 x 10^7."
)


def scores(study: Study, found: Sequence[Result], target: str) -> list[Table]:
    """The paper's Tables 2 and 5, a row per method: distances with their cost, and other metrics if there are any."""
    own = [result for result in found if result.target == target]
    metrics = collected.metrics(own)
    low = [metric for metric in metrics if measures.better(metric) == "lower"]
    high = [metric for metric in metrics if metric not in low]
    of_paper = list(dict.fromkeys(name for row in study.rows for name in row.numbers.get(target, {})))
    over = ", means over the classes" if collected.several_classes(own) else ""
    distances = [name for name in of_paper if name in PAPER_DISTANCES]
    tables = [_scores(f"{target}: distances{over}", study, own, target, low, distances, cost=True)]
    if high:
        others = [name for name in of_paper if name not in PAPER_DISTANCES]
        title = f"{target}: other scores{over}" + (" (the paper's are times 100)" if others else "")
        tables.append(_scores(title, study, own, target, high, others))
    return tables


def path_lengths(study: Study, found: Sequence[Result], target: str) -> Table:
    """The paper's Table 3: path lengths from class to class, full and end."""
    named = study.model_copy(update={"rows": [row for row in study.rows if row.name in study.figures.between]})
    own = [result for result in found if result.target == target]
    return _scores(f"{target}: path lengths between the classes", named, own, target, collected.path_metrics(own))


def path_protocols(found: Sequence[Result]) -> list[str]:
    """How path lengths were measured, and why the paper's own are not beside them."""
    lines = [(result.target, line) for result in found for line in result.paths]
    said = [f"{target}, {line['metric']}: {line['protocol']}." for target, line in lines]
    return [*dict.fromkeys(said), PAPER_PATHS]


def _scores(
    title: str,
    study: Study,
    own: Sequence[Result],
    target: str,
    metrics: Sequence[str],
    of_paper: Sequence[str] = (),
    *,
    cost: bool = False,
) -> Table:
    columns = [Column("row", False), *(Column(_arrowed(metric)) for metric in metrics)]
    columns += [Column(f"paper {name}") for name in of_paper]
    columns += [Column(name) for name in ("trained", "kimg", "minutes", "seeds") if cost]
    shown = {metric: _means(study, own, target, metric) for metric in metrics}
    lines = []
    for row in study.rows:
        its = [result for result in own if result.row == row.name]
        cells = [row.name, *(shown[metric][row.name] for metric in metrics), *_of_paper(row, target, of_paper)]
        lines.append(Line((*cells, *(_cost(row, its, len(study.seeds)) if cost else ()))))
    return Table(title, tuple(columns), tuple(lines), wide=True)


def across(study: Study, found: Sequence[Result], metric: str) -> Table:
    """A row per method, a column per target: the layout of the paper's Table 4."""
    columns, parts = [Column("row", False)], []
    for target in study.targets:
        columns.append(Column(f"{target.name} {_arrowed(metric)}"))
        parts.append(_means(study, found, target.name, metric))
        if any(PAPER_SCORE in row.numbers.get(target.name, {}) for row in study.rows):
            columns.append(Column(f"paper {PAPER_SCORE}"))
            parts.append({row.name: _of_paper(row, target.name, [PAPER_SCORE])[0] for row in study.rows})
    lines = tuple(Line((row.name, *(part[row.name] for part in parts))) for row in study.rows)
    over = " of the classes" if collected.several_classes(found) else ""
    return Table(f"Mean {metric}{over}", tuple(columns), lines, wide=True)


def claims(study: Study, found: Sequence[Result], target: str, metric: str) -> Table:
    """Every ordering with the figures behind its verdict."""
    columns = (
        Column("ordering", False),
        Column("better"),
        Column("worse"),
        Column(f"difference {PLUS_MINUS} margin"),
        Column("seeds"),
        Column("verdict", False),
    )
    lines = tuple(Line((claim.name, *_figures(found, claim, target, metric))) for claim in study.claims)
    return Table(f"{target}: orderings by the mean {metric}", columns, lines, wide=True)


def verdict(found: Sequence[Result], claim: Claim, target: str, metric: str) -> str:
    """One word for an ordering on a target."""
    return _figures(found, claim, target, metric)[-1]


def _figures(found: Sequence[Result], claim: Claim, target: str, metric: str) -> tuple[str, ...]:
    """Means over the shared seeds, the difference with its margin, the number of seeds, and the verdict."""
    better, worse = (collected.by_seed(found, target, row, metric) for row in (claim.better, claim.worse))
    outcome = compare(better, worse, higher=measures.better(metric) == "higher")
    if outcome is None:
        return (NONE, NONE, NONE, "0", MISSING)
    a, b = (fmean([side[seed] for seed in outcome.seeds]) for side in (better, worse))
    show = number_format([a, b])
    sign = MINUS if outcome.difference < 0 else ""
    margin = "" if outcome.verdict is Verdict.OPEN else f" {PLUS_MINUS} {show(outcome.margin)}"
    gap = f"{sign}{show(abs(outcome.difference))}{margin}"
    return (show(a), show(b), gap, str(len(outcome.seeds)), outcome.verdict.value)


def _means(study: Study, found: Sequence[Result], target: str, metric: str) -> dict[str, str]:
    """row -> mean and deviation, all with the same number of decimals."""
    values = {row.name: list(collected.by_seed(found, target, row.name, metric).values()) for row in study.rows}
    show = number_format([fmean(v) for v in values.values() if v])
    return {row.name: _spread(values[row.name], show) if row.experiment else NONE for row in study.rows}


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    if not values:
        return MISSING
    spread = deviation(values)
    return show(fmean(values)) if spread is None else f"{show(fmean(values))} {PLUS_MINUS} {show(spread)}"


def _of_paper(row: Row, target: str, names: Sequence[str]) -> list[str]:
    numbers = row.numbers.get(target, {})
    return [f"{numbers[name]:.2f}" if name in numbers else NONE for name in names]


def _cost(row: Row, its: Sequence[Result], seeds: int) -> tuple[str, ...]:
    """Trained parameters, kimg, minutes, seeds."""
    if not row.experiment:
        return (NONE, NONE, NONE, NONE)
    if not its:
        return (MISSING, MISSING, MISSING, f"0 of {seeds}")
    first = its[0].facts
    kimg = f"{first['kimg']:g}" + (f" (+{first['align_kimg']:g})" if first["align_kimg"] else "")
    minutes = f"{fmean([result.minutes for result in its]):.1f}"
    return (f"{first['trained']['G']:,}", kimg, minutes, str(seeds) if len(its) == seeds else f"{len(its)} of {seeds}")


def _arrowed(metric: str) -> str:
    return f"{metric} {measures.arrow(metric)}"
