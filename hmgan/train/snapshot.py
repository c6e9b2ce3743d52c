"""Snapshots: the generator under its moving average with a model card, its grid of images, and its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from hmgan.config.loading import portable, to_table
from hmgan.config.settings import Choice
from hmgan.data import named
from hmgan.errors import some_of
from hmgan.evaluation import collapse, references
from hmgan.evaluation.card import write_card
from hmgan.evaluation.counts import warnings
from hmgan.evaluation.judge import Judge
from hmgan.evaluation.score import Score
from hmgan.evaluation.styles import style_rank
from hmgan.files import cache_folder
from hmgan.generators.base import Generator
from hmgan.generators.build import fine_tuned_choice
from hmgan.generators.snapshot import SNAPSHOTS, save_conditional
from hmgan.generators.source import save_source
from hmgan.generators.transfer import TransferGenerator
from hmgan.metrics.measures import AT_SNAPSHOTS, shown
from hmgan.pictures.grids import class_grid, fake_rows
from hmgan.pictures.images import save_png
from hmgan.train.log import RunLog
from hmgan.train.prepare import Prepared
from hmgan.train.trainer import Trainer


class Snapshots:
    """Writes a run's snapshots, with scores where the experiment asks for them."""

    def __init__(self, prepared: Prepared, folder: Path, log: RunLog) -> None:
        self.prepared, self.folder, self.log = prepared, folder, log
        reals, extractor = prepared.reals, prepared.experiment.evaluation.extractor
        features = cache_folder() / "features"
        self.judge = None
        if reals is not None:
            with prepared.runtime.interrupting():
                self.judge = Judge(reals, extractor, features, prepared.runtime, AT_SNAPSHOTS)

    def write(self, trainer: Trainer, kimg: float) -> None:
        """Writes the snapshot of this moment; of the first one, at 0 kimg, only the images and the scores.

        Raises: Interrupted where a signal comes while it is scored; nothing of it is written then.
        """
        generator = trainer.task.averaged().eval()
        settings, judge = self.prepared.experiment.evaluation, self.judge
        if judge is not None and kimg == 0:  # it may take longer than people wait for a first line
            count = len(self.prepared.classes)
            classes = "1 class as it is" if count == 1 else f"{count:,} classes as they are"
            self.log.say(f"scoring  {classes}, {settings.per_class:,} fakes of each")
        # On every rank: each draws its share of the fakes.
        arguments = generator, self.prepared.classes, settings.per_class, settings.seed
        found = None
        if judge is not None:
            with self.prepared.runtime.interrupting():
                found = judge(*arguments)
            if kimg == 0:
                with self.prepared.runtime.interrupting():  # of its own: each ends with what the first rank does alone
                    self._references(judge)
        if not self.prepared.runtime.main:
            return
        tag = f"{kimg:010.3f}"
        name = "fakes_init.png" if kimg == 0 else f"fakes{tag}.png"
        sheet = class_grid(fake_rows(generator, self.prepared.classes))
        save_png(sheet, self.folder / name)
        self.prepared.runtime.show("fakes", sheet, round(1000 * kimg))
        # A mapping that takes the class has styles per class, and no rank of its own.
        unconditional = self.prepared.source is None and not generator.backbone.label_dim
        ranked = {"Rank of w": self._rank(generator, kimg)} if unconditional else {}
        scores = self._record(judge, found, tag, kimg) if judge and found else []
        if kimg > 0:
            folder = self.folder / SNAPSHOTS / tag
            self._save(trainer, generator, folder, kimg)
            use = f"hmgan sample --network {tag} --seeds 0-31 --grid 8x4"
            write_card(folder, self.prepared.experiment.summary, self._facts(kimg) | ranked, scores, use)

    def _references(self, judge: Judge) -> None:
        """Writes what the scores of this run stand beside, once."""
        experiment = self.prepared.experiment
        with self.prepared.runtime.accelerator.main_process_first():
            others = named.beside(experiment.data, labelled=experiment.conditional)
        settings = experiment.evaluation
        rows = references.references(judge, others, experiment.source, settings.per_class, settings.seed)
        if self.prepared.runtime.main:
            references.write(rows, self.folder / references.LINES)

    def _record(self, judge: Judge, scores: list[Score], tag: str, kimg: float) -> list[Score]:
        seed = self.prepared.experiment.evaluation.seed
        for score in scores:
            self.log.score(judge.line(score, kimg, tag, seed))
            self.prepared.runtime.accelerator.log({f"{score.metric}/{score.cls}": score.value}, step=round(1000 * kimg))
        means = "  ".join(f"{s.metric} {shown(s.value)}" for s in scores if s.cls == "mean")
        self.log.say(f"scores   kimg {kimg:.3f}  {means}")
        self._watch(scores, kimg)
        per_class = self.prepared.experiment.evaluation.per_class
        for text in warnings(judge.metrics, judge.reals, per_class, max(judge.networks.dims)) if kimg == 0 else []:
            self.log.say(text)
        return scores

    def _watch(self, scores: Sequence[Score], kimg: float) -> None:
        """Says which classes may have collapsed, and the status line until they have not."""
        least = self.prepared.experiment.evaluation.collapse
        found = collapse.collapsed(scores, least)
        self.log.collapsed = tuple(found)
        for text in collapse.warnings(found, least):
            self.log.say(f"warning: {text}")
        self.prepared.runtime.accelerator.log({"collapsed/classes": float(len(found))}, step=round(1000 * kimg))

    def _rank(self, generator: Generator, kimg: float) -> str:
        """The rank of a pretraining's styles, logged: where it falls, transfers from it will lack diversity."""
        rank, width = style_rank(generator.backbone)
        self.log.say(f"rank     kimg {kimg:.3f}  w {rank:.1f} of {width}")
        self.prepared.runtime.accelerator.log({"rank/w": rank}, step=round(1000 * kimg))
        return f"{rank:.1f} of {width}, effective rank over fixed draws"

    def _facts(self, kimg: float) -> dict[str, str]:
        """The model card's facts."""
        experiment, source = self.prepared.experiment, self.prepared.source
        facts = {"Training": f"{kimg:g} kimg, batch {experiment.train.batch}", "Seed": str(experiment.train.seed)}
        if experiment.data is not None:
            facts["Data"] = " + ".join(portable(experiment.data.sources))
        if digest := self._data_digest():
            facts["Data sha256"] = digest
        facts["Classes"] = some_of(self.prepared.classes)
        if source is not None:
            facts |= {"Source": portable(experiment.source), "Source sha256": source.digest}
        return facts | {"Recipe": "config.json of the run directory", "Licence": "that of the source and the data"}

    def _data_digest(self) -> str | None:
        """The training images' digest; None where there are none, or they have no index."""
        data, settings = self.prepared.data, self.prepared.experiment.data
        if data is None or settings is None or settings.reader != "index":
            return None
        return data.indexed("a digest").digest

    def _save(self, trainer: Trainer, generator: Generator, folder: Path, kimg: float) -> None:
        experiment, source = self.prepared.experiment, self.prepared.source
        notes = {"kimg": kimg, "experiment": experiment.summary, "data": to_table(experiment).get("data")}
        if digest := self._data_digest():
            notes["data_sha256"] = digest
        if source is not None:
            notes |= {"source": experiment.source, "source_sha256": source.digest}
        backbone = experiment.backbone if source is None else Choice(**source.config["backbone"])
        assert backbone is not None
        if experiment.class_net is not None and experiment.modulation is not None:
            parts = {"backbone": backbone, "class_net": experiment.class_net, "modulation": experiment.modulation}
            save_conditional(folder, cast(TransferGenerator, generator), parts, self.prepared.classes, notes)
            return
        discriminator = experiment.discriminator
        if source is not None:
            backbone = fine_tuned_choice(experiment, source)
            if discriminator is None and source.discriminator is not None:
                discriminator = source.discriminator[0]
        assert discriminator is not None
        save_source(folder, (backbone, generator.trained), (discriminator, trainer.task.discriminator), notes)
