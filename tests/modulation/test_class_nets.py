from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hmgan import components
from hmgan.errors import UserError
from hmgan.modulation.class_nets import ClassMLP, Embedding, OneHot

LABELS = torch.tensor([2, 0, 2])


@pytest.mark.parametrize("name", ["one-hot", "embedding", "mlp"])
def test_every_class_net_gives_a_row_of_its_width_per_label(name):
    net = components.build("class-net", name, 3)
    v_RE = net(LABELS)
    assert v_RE.shape == (3, net.dim)
    assert v_RE.dtype == torch.float32
    assert torch.equal(v_RE[0], v_RE[2])
    assert not torch.equal(v_RE[0], v_RE[1])


def test_one_hot_is_the_label_so_a_head_is_a_table():
    assert OneHot(3)(LABELS).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert not list(OneHot(3).parameters())


def test_an_embedding_is_a_unit_normal_row_times_the_gain_of_its_width():
    torch.manual_seed(0)
    net = Embedding(200, dim=50)
    torch.testing.assert_close(net(LABELS), net.weight[LABELS] * math.sqrt(2 / 50))
    assert net.weight.std().item() == pytest.approx(1, abs=0.05)


def test_the_mlp_is_equalised_layers_each_activated_the_last_one_too():
    torch.manual_seed(0)
    net = ClassMLP(3, dim=6, layers=2)
    v = net.embedding.weight[LABELS] * math.sqrt(2 / 6)
    for layer in (net.layers[0], net.layers[2]):
        layer.bias.data.normal_()
        v = v @ (layer.weight * math.sqrt(2 / 6)).T + layer.bias
        v = torch.where(v > 0, v, 0.2 * v)
    torch.testing.assert_close(net(LABELS), v)


def test_a_unit_class_vector_keeps_its_direction_and_has_unit_mean_square():
    torch.manual_seed(0)
    net = ClassMLP(3, dim=6, layers=2)
    v = net(LABELS)
    net.unit = True
    root = torch.tensor([[math.sqrt(sum(x * x for x in row) / 6)] for row in v.tolist()])
    torch.testing.assert_close(net(LABELS), v / root, rtol=1e-5, atol=1e-6)
    assert components.build("class-net", "mlp", 3, unit=True).unit
    assert not components.build("class-net", "mlp", 3).unit


def test_without_layers_the_mlp_is_its_embedding():
    torch.manual_seed(0)
    net = ClassMLP(3, dim=6, layers=0)
    assert torch.equal(net(LABELS), net.embedding(LABELS))


@pytest.mark.parametrize("net", [Embedding, ClassMLP])
def test_shared_rows_start_alike_and_part_in_training(net):
    torch.manual_seed(0)
    shared = net(3, dim=6, shared=True)
    v_RE = shared(torch.arange(3))
    torch.testing.assert_close(v_RE, v_RE[:1].expand_as(v_RE))
    rows = dict(shared.named_parameters())["weight" if net is Embedding else "embedding.weight"]
    v_RE[0].sum().backward()
    assert rows.grad[0].any()
    assert not rows.grad[1:].any()


@pytest.mark.parametrize("net", [Embedding, ClassMLP])
def test_a_loss_reaches_the_rows_of_the_labels_seen_and_every_layer(net):
    torch.manual_seed(0)
    network = net(4, dim=6)
    F.mse_loss(network(LABELS), torch.zeros(3, 6)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.any(), name
    rows = network.weight if net is Embedding else network.embedding.weight
    assert [bool(row.any()) for row in rows.grad] == [True, False, True, False]


def test_a_width_below_one_is_refused_by_name():
    with pytest.raises(UserError, match=r"^class_net\.dim should be greater than or equal to 1, got 0$"):
        components.check("class-net", "embedding", {"dim": 0}, "class_net")
