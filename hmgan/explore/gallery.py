"""The models of a page: what the page must know of them, and their pictures by address."""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from hmgan.errors import UserError
from hmgan.explore.address import MOST_CLASSES, MOST_SEED, MOST_TRUNCATION, Asked
from hmgan.explore.turns import Turns
from hmgan.models.looks import LEVELS, NOISES, Look, spread
from hmgan.models.model import Model

KEPT = 512  # drawn pictures in memory


class Gallery:
    """Pictures of models; the same address gives the same bytes, from any server."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._turns, self._kept = Turns(), OrderedDict[Asked, bytes]()
        self._names = {digest_of(model): name for name, model in models.items()}
        self.models = {digest: models[name] for digest, name in self._names.items()}

    def described(self) -> dict[str, Any]:
        """What the page is made of."""
        bounds = {"seed": MOST_SEED, "truncation": MOST_TRUNCATION, "blend": MOST_CLASSES}
        models = [
            {
                "digest": digest,
                "name": self._names[digest],
                "classes": list(model.classes),
                "resolution": model.resolution,
                "conditional": model.transfer is not None,
                "centres": set(model.centres) == set(model.classes),
                "levels": list(LEVELS[: min(len(LEVELS), model.blocks)]),
            }
            for digest, model in self.models.items()
        ]
        return {"models": models, "noises": NOISES, "bounds": bounds}

    def png(self, asked: Asked, left: Callable[[], bool] = lambda: False) -> bytes:
        """A picture as PNG.

        Raises: UserError for a model or class that is not here, LeftError where the reader has gone.
        """
        model = self.models.get(asked.model)
        if model is None:
            raise UserError(f"no model {asked.model!r} here; /model names those that are")
        for label, _ in asked.look.classes:
            model.label(label)
        kept = self._kept.get(asked)
        if kept is None:
            with self._turns.turn(left):
                # Another reader may have asked for the same meanwhile.
                kept = self._kept[asked] = self._kept.get(asked) or _png(model, asked.look)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return kept


def _png(model: Model, look: Look) -> bytes:
    seeds = look.seeds if len(look.seeds) == 1 else spread(look.seeds, model.blocks)
    (image,) = model.drawn([replace(look, seeds=seeds)])
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def digest_of(model: Model) -> str:
    """Of all that a model draws with: its configuration and its numbers. In addresses, so that none is ever stale."""
    digest = hashlib.blake2b(json.dumps([model.config, model.classes], sort_keys=True).encode(), digest_size=8)
    for name, tensor in (*model.generator.state_dict().items(), *sorted(model.centres.items())):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
