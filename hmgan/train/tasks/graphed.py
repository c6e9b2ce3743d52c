"""The trunk of D, and the synthesis of G, in CUDA graphs. B batch, F embedding width."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from hmgan.discriminators.base import Discriminator
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits
from hmgan.train.graphs import Run, captured
from hmgan.train.precision import Mixed
from hmgan.types import DiscOut, GenOut, Latents

GRAPHS = 4  # of G, for as many different counts of a batch's classes


class Trunk(nn.Module):
    """D as far as its embeddings."""

    def __init__(self, discriminator: Discriminator, batches: int) -> None:
        super().__init__()
        self.discriminator, self.batches = discriminator, batches

    def forward(self, images: Tensor, labels_B: Tensor) -> Tensor:
        return self.discriminator.embeddings(images, labels_B, self.batches)


class GraphedDisc:
    """D with its trunk in a graph, for one pass at a time; its head follows as ever.

    Args:
        discriminator: with those parameters that are to have gradients asking for them.
        images: [B, 3, H, W], as those that it will see; whether they require gradients says whether theirs will.
        batches: in a pass.
        mixed: around the pass.
    """

    def __init__(self, discriminator: Discriminator, images: Tensor, batches: int, mixed: Mixed) -> None:
        trunk = Trunk(discriminator, batches)
        trained = trained_of(trunk)

        def run(images: Tensor, labels_B: Tensor, *parameters: Tensor) -> Tensor:
            return functional_call(trunk, dict(zip(trained, parameters, strict=True)), (images, labels_B))

        self._discriminator, self._batches, self._parameters = discriminator, batches, tuple(trained.values())
        labels_B = torch.zeros(len(images), dtype=torch.long, device=images.device)
        self._embeddings = captured(run, (images, labels_B, *self._parameters), mixed)

    def __call__(self, images: Tensor, labels_B: Tensor, batches: int = 1, /) -> DiscOut:
        assert batches == self._batches
        return self._discriminator.judged(self._embeddings(images, labels_B, *self._parameters), labels_B)


class Synthesis(nn.Module):
    """A source from its styles on, images alone."""

    def __init__(self, source: Backbone) -> None:
        super().__init__()
        self.source = source

    def forward(self, styles: Sequence[Tensor], noise: Sequence[Tensor], edits: Edits) -> Tensor:
        return self.source.synthesise(styles, noise, edits).image


class GraphedGenerator:
    """G with its synthesis in graphs, one for each of the first few counts of a batch's classes that it meets.

    Batches with other counts, and edits that hold more than tables of weights, go through G as ever. Images alone are
    returned, and no blocks' outputs.
    """

    def __init__(self, generator: TransferGenerator, mixed: Mixed) -> None:
        self._generator, self._mixed = generator, mixed
        self._graphs: dict[tuple[int, ...], Run] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._synthesis = Synthesis(generator.source)
        self._trained = trained_of(self._synthesis)
        # What lies where it is for as long as G does.
        frozen = (parameter for parameter in generator.parameters() if not parameter.requires_grad)
        self._stays = {x.data_ptr() for x in (*frozen, *generator.buffers(), *self._trained.values())}

    def __call__(self, latents: Latents, labels_B: Tensor) -> GenOut:
        return self._generator(latents, labels_B, source=self._source)

    def _source(self, latents: Latents, edits: Edits, truncation: float) -> GenOut:
        source, tables = self._generator.source, tables_of(edits)
        # A graph of a pass without gradients would have no backward.
        fits = edits.counts in self._graphs or (len(self._graphs) < GRAPHS and torch.is_grad_enabled())
        if tables is None or not fits:
            return source(latents, edits, truncation)
        styles = source.styles(latents, truncation)
        inputs = (*styles, *latents.noise, *tables, *self._trained.values())
        if edits.counts not in self._graphs:
            self._graphs[edits.counts] = self._captured(edits, len(styles), len(latents.noise), inputs)
        return GenOut(self._graphs[edits.counts](*inputs), (), tuple(styles))

    def _captured(self, edits: Edits, styles: int, noise: int, inputs: tuple[Tensor, ...]) -> Run:
        def run(*tensors: Tensor) -> Tensor:
            given = iter(tensors)
            each = [next(given) for _ in range(styles)], [next(given) for _ in range(noise)]
            edited = with_tables(template, given)
            return functional_call(self._synthesis, dict(zip(self._trained, given, strict=True)), (*each, edited))

        samples = tuple(x if x.data_ptr() in self._stays else like(x) for x in inputs)
        template = with_tables(edits, iter(samples[styles + noise :]))
        return captured(run, samples, self._mixed, self._pool)


def trained_of(network: nn.Module) -> dict[str, Tensor]:
    """Its parameters that ask for gradients, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def like(x: Tensor) -> Tensor:
    """A copy with a memory of its own."""
    return x.detach().clone().requires_grad_(x.requires_grad)


def tables_of(edits: Edits) -> list[Tensor] | None:
    """The tensors of edits of weights, in order; None where there is more to the edits."""
    weights = list(edits.weights.values())
    if edits.styles or edits.label_RL is not None or not all(map(dataclasses.is_dataclass, weights)):
        return None
    values = tree_leaves([list(vars(edit).values()) for edit in weights])
    if not all(isinstance(value, Tensor | int | float | None) for value in values):
        return None
    return [value for value in values if isinstance(value, Tensor)]


def with_tables(edits: Edits, tables: Iterator[Tensor]) -> Edits:
    """The edits with other tensors in the same places."""
    weights = {}
    for name, edit in edits.weights.items():
        theirs = {field: next(tables) for field, value in vars(edit).items() if isinstance(value, Tensor)}
        weights[name] = dataclasses.replace(edit, **theirs)  # type: ignore[type-var]
    return dataclasses.replace(edits, weights=weights)
