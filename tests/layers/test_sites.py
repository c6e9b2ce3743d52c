from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from modulation.naive import DIM, class_weight, convolved

from hmgan.layers.edits import SOURCE, AdaIN, Edits
from hmgan.layers.equalized import instance_norm
from hmgan.layers.sites import SiteAdaIN, SiteConv2d
from hmgan.modulation.adafm import SiteHeads

UPS = [0.0, 1.0, 0.25]


def site(up: float = 0.0, inputs: int = 3, outputs: int = 4) -> tuple[SiteConv2d, SiteHeads]:
    torch.manual_seed(0)
    conv = SiteConv2d("s", inputs, outputs, up).double()
    conv.bias.data.normal_()
    heads = SiteHeads(conv.requires_grad_(False).site(), DIM, "align", 1e-5).double()
    for parameter in heads.parameters():
        parameter.data += torch.randn_like(parameter)
    return conv, heads


def images(count: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("up", UPS)
def test_without_an_edit_a_site_is_the_plain_layer(up):
    conv, _ = site(up)
    x = images(3)
    plain = torch.stack([convolved(one, conv.weight * conv.gain, conv.bias, up) for one in x])
    torch.testing.assert_close(conv(x, SOURCE), plain)
    other = Edits({"elsewhere": None}, rows=1, counts=(3,))
    assert torch.equal(conv(x, other), conv(x, SOURCE))


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("counts", [(4,), (1, 1, 1), (2, 2), (1, 3, 2), (0, 2, 1), (3, 0, 0)])
def test_every_row_of_a_batch_takes_its_own_kernels(up, counts):
    conv, heads = site(up)
    v_RE = torch.randn(len(counts), DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = images(sum(counts))
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    expected = torch.stack(
        [convolved(one, *class_weight(conv, heads, v_RE[row]), up) for one, row in zip(x, rows, strict=True)]
    )
    out = conv(x, Edits({"s": heads(v_RE)}, rows=len(counts), counts=counts))
    torch.testing.assert_close(out, expected)


def test_the_fused_kernel_is_built_after_modulation():
    """The released code averages the normalised kernel first and adds beta to all 16 taps: a different function."""
    conv, heads = site(up=0.25)
    v_RE = torch.randn(1, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = images(1)
    right = convolved(x[0], *class_weight(conv, heads, v_RE[0]), 0.25)
    edit = heads(v_RE)
    pad = F.pad(edit.normal_OIkk, (1, 1, 1, 1))
    early = (pad[..., 1:, 1:] + pad[..., :-1, 1:] + pad[..., 1:, :-1] + pad[..., :-1, :-1]) / 4
    flat = edit.scale_ROI[0][..., None, None] * early + edit.shift_ROI[0][..., None, None]
    wrong = F.conv_transpose2d(x, flat.flip(2, 3).transpose(0, 1), conv.bias + edit.bias_RO[0], stride=2, padding=1)[0]
    out = conv(x, Edits({"s": edit}, rows=1, counts=(1,)))[0]
    torch.testing.assert_close(out, right)
    assert (wrong - right).norm() / right.norm() > 0.05


@pytest.mark.parametrize("up", UPS)
def test_first_and_second_derivatives_through_a_rows_kernels_are_right(up):
    conv, heads = site(up, inputs=2, outputs=2)

    def run(x, v_RE, *parameters):
        names = [name for name, _ in heads.named_parameters()]
        edit = torch.func.functional_call(heads, dict(zip(names, parameters, strict=True)), (v_RE,))
        return conv(x, Edits({"s": edit}, rows=2, counts=(1, 2)))

    x = images(3, 2)[..., :3, :3].clone().requires_grad_()
    v_RE = torch.randn(2, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    inputs = (x, v_RE, *(p.detach().requires_grad_() for p in heads.parameters()))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_a_site_shows_the_weight_that_acts():
    conv, _ = site(up=1.0)
    shown = conv.site()
    torch.testing.assert_close(shown.weight, conv.weight * (2 / (3 * 9)) ** 0.5)
    assert shown.weight.shape == (4, 3, 3, 3)
    assert shown.gain == pytest.approx((2 / 27) ** 0.5)


def norm_by_hand(x: torch.Tensor, scale_C: torch.Tensor, shift_C: torch.Tensor) -> torch.Tensor:
    mean = x.mean((1, 2), keepdim=True)
    var = ((x - mean) ** 2).mean((1, 2), keepdim=True)
    return scale_C[:, None, None] * (x - mean) / (var + 1e-5).sqrt() + shift_C[:, None, None]


def test_adain_styles_every_sample_by_its_own_w_and_then_its_row():
    torch.manual_seed(0)
    norm = SiteAdaIN("n", 3, 6).double()
    x, w_BW = images(3), torch.randn(3, 6, dtype=torch.float64)
    scale_BC, shift_BC = norm.style(w_BW).chunk(2, 1)
    plain = torch.stack([norm_by_hand(*parts) for parts in zip(x, scale_BC, shift_BC, strict=True)])
    torch.testing.assert_close(norm(x, w_BW, SOURCE), plain)
    g_RC, t_RC = torch.randn(2, 2, 3, dtype=torch.float64)
    rows = [0, 1, 1]
    expected = torch.stack(
        [(1 + g_RC[r])[:, None, None] * h + t_RC[r][:, None, None] for h, r in zip(plain, rows, strict=True)]
    )
    edits = Edits(styles={"n": AdaIN(g_RC, t_RC)}, rows=2, counts=(1, 2))
    torch.testing.assert_close(norm(x, w_BW, edits), expected)


def test_a_fresh_adain_normalises_and_nothing_else():
    torch.manual_seed(0)
    norm = SiteAdaIN("n", 3, 6).double()
    x = images(2)
    ones, zeros = torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    torch.testing.assert_close(norm(x, torch.zeros(2, 6, dtype=torch.float64), SOURCE), instance_norm(x, ones, zeros))
