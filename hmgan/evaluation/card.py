"""The model card of a snapshot: what it is, what it was made from, and how it scored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hmgan.errors import LISTED, one_line
from hmgan.evaluation.score import MEAN, Score
from hmgan.files import write_atomically
from hmgan.metrics import measures

MARKS = re.compile(r"[\\`|*\[\]]")
TEMPLATE = Path(__file__).with_name("card.md")
PIPELINE, TAGS = "unconditional-image-generation", ["gan", "image-generation"]


def plain(text: str) -> str:
    """Text that may come from data, which Markdown shows as it is: no table, code, link or HTML of its own."""
    return MARKS.sub(r"\\\g<0>", escape(one_line(text), quote=False))


def write_card(
    folder: Path,
    title: str,
    facts: Mapping[str, str],
    scores: Sequence[Score],
    use: str,
    licence: str = "other",
    base_model: str | None = None,
    datasets: Sequence[str] = (),
) -> None:
    """README.md of a model folder, in the layout that model hubs show.

    Args:
        facts: what a reader must know, in order, such as {"Source": ..., "Data": ..., "Seed": ...}.
        scores: the snapshot's own; none leaves the section out. Of many classes the card has the means.
        use: commands that draw images with it, one a line.
        licence: as hubs abbreviate it; "other" where the facts say what it is.
        base_model, datasets: the source's and the data's names, no paths.
    """
    classes = len({s.cls for s in scores} - {MEAN})
    scores = [s for s in scores if classes <= LISTED or s.cls == MEAN]  # of a thousand it would be 30,000 lines
    networks = list(dict.fromkeys((s.extractor, s.digest, s.resizer) for s in scores))
    data = ModelCardData(
        license=licence,
        license_name=None if licence != "other" else "of-the-source-and-the-data",
        library_name="hmgan",
        pipeline_tag=PIPELINE,
        tags=TAGS,
        base_model=base_model,
        datasets=list(datasets) or None,
        model_name=title if scores else None,
        eval_results=[result_of(score, datasets) for score in scores] or None,
    )
    card = ModelCard.from_template(
        data,
        str(TEMPLATE),
        title=title,
        facts=facts,
        scores=scores,
        left_out=classes if classes > LISTED else 0,
        networks=networks,
        use=use,
        arrow=measures.arrow,
        plain=plain,
    )
    write_atomically(folder / "README.md", card.save)


def result_of(score: Score, datasets: Sequence[str]) -> EvalResult:
    """A score as hubs index it: its class in the metric's name, what it depends on beside it."""
    arguments = {"extractor": score.extractor, "sha256": score.digest, "resizer": score.resizer}
    data = datasets[0] if datasets else "images"
    return EvalResult(
        task_type=PIPELINE,
        dataset_type=data,
        dataset_name=data,
        metric_type=score.metric,
        metric_name=f"{score.metric} of {score.cls}",
        metric_value=score.value,
        metric_args={**arguments, "real": score.n_real, "fake": score.n_fake},
    )
