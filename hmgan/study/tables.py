"""The tables of a study's report: mean and deviation over seeds, and the orderings, with the paper's numbers beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from hmgan.metrics import measures
from hmgan.report.document import Column, Table, TableRow
from hmgan.report.scores import number_format
from hmgan.study import scores as collected
from hmgan.study.schema import Claim, Study
from hmgan.study.scores import Result
from hmgan.study.statistics import MOST, Comparison, Outcome, compare, deviation, pooled

Texts = tuple[str, dict[str, str]]  # of a column: its title, and row -> text
ByRow = Mapping[str, Mapping[int, float]]  # row -> seed -> score
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
BESIDE = (
    "The last rows are what scores stand beside, at the same number of images: other real images (the floor), one and "
    "three of them (the most central by their features) repeated, and the source as it is, for every class."
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
    columns = [*_measured(study, own, target, low), *_of_paper(study, target, distances), *_cost(study, own)]
    tables = [_table(f"{target}: distances{over}", study, columns)]
    if high:
        others = [name for name in of_paper if name not in PAPER_DISTANCES]
        title = f"{target}: other scores{over}" + (" (the paper's are times 100)" if others else "")
        columns = [*_measured(study, own, target, high), *_of_paper(study, target, others)]
        tables.append(_table(title, study, columns))
    return tables


def path_lengths(study: Study, found: Sequence[Result], target: str) -> Table:
    """The paper's Table 3: path lengths from class to class, full and end."""
    named = study.model_copy(update={"rows": [row for row in study.rows if row.name in study.figures.between]})
    own = [result for result in found if result.target == target]
    columns = _measured(named, own, target, collected.path_metrics(own))
    return _table(f"{target}: path lengths between the classes", named, columns)


def path_protocols(found: Sequence[Result]) -> list[str]:
    """How path lengths were measured, and why the paper's own are not beside them."""
    said = [f"{its.target}, {line['metric']}: {line['protocol']}." for its in found for line in its.paths]
    return [*dict.fromkeys(said), PAPER_PATHS]


def across(study: Study, found: Sequence[Result], metric: str) -> Table:
    """A row per method, a column per target: the layout of the paper's Table 4."""
    columns: list[Texts] = []
    for target in (target.name for target in study.targets):
        columns += [(f"{target} {title}", texts) for title, texts in _measured(study, found, target, [metric])]
        if any(PAPER_SCORE in row.numbers.get(target, {}) for row in study.rows):
            columns += _of_paper(study, target, [PAPER_SCORE])
    over = " of the classes" if collected.several_classes(found) else ""
    return _table(f"Mean {metric}{over}", study, columns)


def claims(study: Study, found: Sequence[Result], target: str, metric: str) -> Table:
    """Every ordering with the figures behind its verdict."""
    numeric = ("better", "worse", f"difference {PLUS_MINUS} margin", "seeds", "seeds to decide")
    columns = (Column("ordering", False), *(Column(title) for title in numeric), Column("verdict", False))
    values = by_row(study, found, target, metric)
    lines = [TableRow((claim.name, *_figures(values, claim, metric))) for claim in study.claims]
    return Table(f"{target}: orderings by the mean {metric}", columns, lines, wide=True)


def by_row(study: Study, found: Sequence[Result], target: str, metric: str) -> ByRow:
    """A target's scores by one metric."""
    return {row.name: collected.by_seed(found, target, row.name, metric) for row in study.rows}


def compared(values: ByRow, claim: Claim, metric: str) -> Comparison | None:
    """A claim's rows, under the deviation of all of them."""
    spread = pooled([list(own.values()) for own in values.values()])
    return compare(values[claim.better], values[claim.worse], spread, higher=measures.better(metric) == "higher")


def verdict(values: ByRow, claim: Claim, metric: str) -> str:
    """What the seeds say of a claim, with the interval of the difference as a share of the worse row's mean."""
    comparison = compared(values, claim, metric)
    if comparison is None:
        return MISSING
    scale = abs(fmean(values[claim.worse].values()))
    if comparison.outcome is Outcome.OPEN or not scale:
        return comparison.verdict
    ends = (100 * (comparison.difference + side * comparison.margin) / scale for side in (-1, 1))
    low, high = (f"{MINUS if end < 0 else '+'}{abs(end):.0f}" for end in ends)
    return f"{comparison.verdict} ({low} to {high}%)"


def _figures(values: ByRow, claim: Claim, metric: str) -> tuple[str, ...]:
    """Both means, the difference with its margin, the seeds of either row, those that would decide, the verdict."""
    comparison = compared(values, claim, metric)
    if comparison is None:
        return (NONE, NONE, NONE, "0", NONE, MISSING)
    a, b = (fmean(values[row].values()) for row in (claim.better, claim.worse))
    show = number_format([a, b])
    sign = MINUS if comparison.difference < 0 else ""
    margin = "" if comparison.outcome is Outcome.OPEN else f" {PLUS_MINUS} {show(comparison.margin)}"
    gap = f"{sign}{show(abs(comparison.difference))}{margin}"
    seeds = " / ".join(dict.fromkeys(map(str, comparison.seeds)))
    undecided = comparison.outcome is Outcome.NO_DIFFERENCE
    more = seed_text(comparison.to_decide) if undecided else NONE
    return (show(a), show(b), gap, seeds, more, comparison.verdict)


def seed_text(count: int | None) -> str:
    """A number of seeds, where there is one that any study could have."""
    return f"more than {MOST:,}" if count is None else f"{count:,}"


def _table(title: str, study: Study, columns: Sequence[Texts]) -> Table:
    """A row per method, and those that they stand beside."""
    known = dict.fromkeys(name for _, texts in columns for name in texts)
    names = [row.name for row in study.rows]
    names += [name for name in known if name not in names]
    lines = [TableRow((name, *(texts.get(name, NONE) for _, texts in columns))) for name in names]
    return Table(title, (Column("row", False), *(Column(title) for title, _ in columns)), lines, wide=True)


def _measured(study: Study, found: Sequence[Result], target: str, metrics: Sequence[str]) -> list[Texts]:
    """Mean and deviation over the seeds; all of one metric have the same number of decimals."""
    columns = []
    for metric in metrics:
        values = {row.name: list(collected.by_seed(found, target, row.name, metric).values()) for row in study.rows}
        show = number_format([fmean(v) for v in values.values() if v])
        texts = {row.name: _spread(values[row.name], show) if row.experiment else NONE for row in study.rows}
        texts |= {name: show(own[metric]) for name, own in collected.beside(found, target).items() if metric in own}
        columns.append((f"{metric} {measures.arrow(metric)}", texts))
    return columns


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    if not values:
        return MISSING
    spread = deviation(values)
    return show(fmean(values)) if spread is None else f"{show(fmean(values))} {PLUS_MINUS} {show(spread)}"


def _of_paper(study: Study, target: str, names: Sequence[str]) -> list[Texts]:
    """The paper's own numbers."""
    given = {row.name: row.numbers.get(target, {}) for row in study.rows}
    shown = {name: {row: f"{own[name]:.2f}" if name in own else NONE for row, own in given.items()} for name in names}
    return [(f"paper {name}", texts) for name, texts in shown.items()]


def _cost(study: Study, own: Sequence[Result]) -> list[Texts]:
    """What each row trains, how long, and by how many seeds."""
    titles = ("trained", "kimg", "minutes", "seeds")
    costs = {row.name: [NONE] * len(titles) for row in study.rows}
    for row in (row for row in study.rows if row.experiment):
        its, seeds = [result for result in own if result.row == row.name], len(study.seeds_of(row))
        finished = str(seeds) if len(its) == seeds else f"{len(its)} of {seeds}"
        costs[row.name] = [MISSING, MISSING, MISSING, finished]
        if its:
            facts, minutes = its[0].facts, fmean([result.minutes for result in its])
            kimg = f"{facts['kimg']:g}" + (f" (+{facts['align_kimg']:g})" if facts["align_kimg"] else "")
            costs[row.name] = [f"{facts['trained']['G']:,}", kimg, f"{minutes:.1f}", finished]
    return [(title, {row: cost[i] for row, cost in costs.items()}) for i, title in enumerate(titles)]
