"""A small file of each foreign format, for what damages them."""

from __future__ import annotations

from reference_stylegan1 import port_checkpoint

from hmgan.backbones import stylegan3_plan
from importers import envelopes, envelopes_tf
from importers.envelopes import release_state, stirred

TINY = {"resolution": 8, "channels": [4, 3], "z_dim": 4, "w_dim": 4, "mapping_layers": 2}


def files():
    """{format: bytes}"""
    generator = stirred("backbone", "stylegan2", **TINY).state_dict()
    judge = release_state(stirred("discriminator", "stylegan2", (1,), resolution=8, channels=[4, 3]))
    three = stirred("backbone", "stylegan3", resolution=16, channel_max=4, z_dim=4, w_dim=4).state_dict()
    said = envelopes.stylegan3_attributes(stylegan3_plan.tables(16, "t", 32768, 4))
    parts = {"G": generator, "D": judge, "G_ema": generator}
    port = envelopes.training_checkpoint(
        envelopes.rosinality_generator(generator), envelopes.rosinality_discriminator(judge)
    )
    tables = envelopes_tf.tf_generator(generator)
    first = stirred("backbone", "stylegan1", resolution=8, channels=[4, 3], z_dim=4, mapping_layers=2).state_dict()
    firsts = envelopes_tf.tf_stylegan1(first), envelopes_tf.tf_stylegan1_discriminator([4, 3])
    return {
        "stylegan2-protocol-3": envelopes.nvidia(parts, {}, 3),
        "stylegan2-protocol-4": envelopes.nvidia(parts, {}, 4),
        "stylegan3": envelopes.nvidia({"G_ema": three}, said, 4),
        "rosinality-zip": envelopes.saved(port),
        "rosinality-old": envelopes.saved(port, zipped=False),
        "tensorflow": envelopes_tf.tensorflow((tables, envelopes_tf.tf_discriminator(judge), tables)),
        "tensorflow-protocol-2": envelopes_tf.tensorflow((tables, envelopes_tf.tf_discriminator(judge), tables), 2),
        "tensorflow-stylegan1": envelopes_tf.tensorflow((firsts[0], firsts[1], firsts[0]), version=3),
        "stylegan1-port": envelopes.saved(port_checkpoint((4, 4))),
    }
