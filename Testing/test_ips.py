"""Shifts of the mask tokens, and whether there is anything to segment."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ProMISeCore.ips import Ips, IpsStatic
from ProMISeCore.presence import Presence


def test_pae_is_two_layers_on_the_mean_of_the_embedding() -> None:
    torch.manual_seed(0)
    ips = Ips(hidden=3, tokens=2, width=4)
    embedding = torch.randn(5, 4, 6, 6)
    mean = embedding.sum((2, 3)) / 36
    hidden = mean @ ips.lin1.weight.T + ips.lin1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))  # exact GELU
    flat = hidden @ ips.lin2.weight.T + ips.lin2.bias
    shift = ips(embedding)
    assert shift.shape == (5, 2, 4)
    torch.testing.assert_close(shift[:, 0], flat[:, :4])
    torch.testing.assert_close(shift[:, 1], flat[:, 4:])


def test_pae_has_the_published_size_and_names() -> None:
    ips = Ips()
    shapes = {key: tuple(value.shape) for key, value in ips.state_dict().items()}
    assert shapes == {
        "lin1.weight": (1024, 256), "lin1.bias": (1024,), "lin2.weight": (1024, 1024), "lin2.bias": (1024,),
    }  # fmt: skip
    assert round(sum(parameter.numel() for parameter in ips.parameters()) / 1e6, 2) == 1.31


def test_pae_follows_the_image_and_the_static_shift_does_not() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(2, 256, 4, 4)
    adaptive, static = Ips(16)(embedding), IpsStatic()
    assert not torch.allclose(adaptive[0], adaptive[1])
    assert torch.count_nonzero(static(embedding)) == 0, "a new static shift leaves SAM as it is"
    torch.nn.init.normal_(static.shift)
    shift = static(embedding)
    assert shift.shape == (2, 4, 256)
    assert torch.equal(shift[0], static.shift) and torch.equal(shift[1], static.shift)


def test_presence_sees_a_single_bright_cell() -> None:
    presence = Presence(width=8, embedding_width=2)
    with torch.no_grad():
        presence.project.weight.zero_()
        presence.project.bias.zero_()
        presence.project.weight[0, 1] = 1.0  # hidden channel 0 looks at input channel 1
        presence.read.weight.zero_()
        presence.read.bias.fill_(-1.0)
        presence.read.weight[0, 8] = 2.0  # the maximum of hidden channel 0
        embedding = torch.zeros(2, 2, 4, 4)
        embedding[1, 1, 2, 3] = 5.0
        logits = presence(embedding)
    torch.testing.assert_close(logits, torch.tensor([-1.0, 2 * F.gelu(torch.tensor(5.0)).item() - 1]))


def test_presence_uses_the_mean_too() -> None:
    torch.manual_seed(0)
    presence = Presence(width=8)
    presence(torch.randn(2, 256, 4, 4)).sum().backward()
    assert presence.read.weight.grad[0, :8].abs().sum() > 0 and presence.read.weight.grad[0, 8:].abs().sum() > 0
