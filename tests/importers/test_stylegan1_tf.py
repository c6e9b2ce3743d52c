"""The first StyleGAN's discriminator of TensorFlow, against its paper's formulas over the file's own variables."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hmgan import components
from importers import envelopes_tf
from importers.envelopes import stirred
from importers.test_formats import imported

WIDTHS = [7, 6, 5]  # of 4, 8 and 16 px
GROUP = 4  # all images: groups are strided there, and consecutive here


def logits(found, images_BCHW, fused):
    """[B, L]: equalised He weights, leaky ReLUs of slope 0.2, all maps padded with zeros."""

    def weight(name, gain=2**0.5):
        value = torch.from_numpy(found[f"{name}/weight"]).double()
        return value * gain / value[..., 0].numel() ** 0.5

    def act(x, name):
        bias = torch.from_numpy(found[f"{name}/bias"]).double()
        return F.leaky_relu(x + bias.reshape(1, -1, *[1] * (x.ndim - 2)), 0.2)

    def convolved(x, kernel_HWIO, **how):
        return F.conv2d(x, kernel_HWIO.permute(3, 2, 0, 1), padding=1, **how)

    def blurred(x):
        taps = torch.tensor([1.0, 2.0, 1.0]).double() / 4
        kernel = torch.outer(taps, taps)[None, None].expand(x.shape[1], 1, 3, 3)
        return F.conv2d(x, kernel, padding=1, groups=x.shape[1])

    h = act(F.conv2d(images_BCHW, weight("FromRGB_lod0").permute(3, 2, 0, 1)), "FromRGB_lod0")
    for side in (16, 8):
        first, second = f"{side}x{side}/Conv0", f"{side}x{side}/Conv1_down"
        h = blurred(act(convolved(h, weight(first)), first))
        if fused:
            padded = F.pad(weight(second), (0, 0, 0, 0, 1, 1, 1, 1))
            sums = padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1]
            h = act(convolved(h, sums / 4, stride=2), second)
        else:
            h = act(F.avg_pool2d(convolved(h, weight(second)), 2), second)
    deviation = (h.var(0, correction=0) + 1e-8).sqrt().mean()
    h = torch.cat([h, deviation.expand(len(h), 1, 4, 4)], 1)
    h = act(convolved(h, weight("4x4/Conv")), "4x4/Conv").flatten(1)
    h = act(h @ weight("4x4/Dense0"), "4x4/Dense0")
    return h @ weight("4x4/Dense1", 1.0) + torch.from_numpy(found["4x4/Dense1/bias"])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_first_stylegans_discriminator_judges_as_it_did_and_with_classes_as_their_mean(tmp_path, fused, classes):
    network = stirred("backbone", "stylegan1", resolution=16, channels=[6, 5, 4], z_dim=8, mapping_layers=2)
    tables, judge = (
        envelopes_tf.tf_stylegan1(network.state_dict()),
        envelopes_tf.tf_stylegan1_discriminator(WIDTHS, classes),
    )
    data = envelopes_tf.tensorflow((tables, judge, tables), version=3)
    report, source = imported(tmp_path, data, stddev_group=GROUP)
    choice, state = source.discriminator
    ours = components.build("discriminator", choice.name, 1, **choice.options).double()
    ours.load_source(state)
    images_BCHW = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = ours(images_BCHW, torch.zeros(4, dtype=torch.long)).logit
    torch.testing.assert_close(found, logits(judge[""], images_BCHW, fused).mean(1), rtol=1e-6, atol=1e-6)
    left = {out.theirs: out.reason for out in report.left_out}
    assert (
        left["D/FromRGB_lod1/weight"] == left["D/FromRGB_lod1/bias"] == "of a lower resolution while the network grew"
    )
