"""Networks that place points: ours on maps one can read, the published ones against the published code's numbers."""

from __future__ import annotations

import zlib

import pytest
import torch
from torch import Tensor

from ProMISeCore import apm, reference
from ProMISeCore.apm import ApmCross, ApmLite, ApmResnet, sine_position

WIDTH = 768
#: Points of the published networks in eval mode with `filled` weights, `noise` as features (2, 768, 4, 4), N = 5.
CROSS = [
    [[0.171097, 0.297092], [0.187303, 0.388313], [0.183707, 0.340247], [0.255692, 0.322017], [0.184742, 0.366533]],
    [[0.163635, 0.341381], [0.177955, 0.436088], [0.143176, 0.355976], [0.190059, 0.371598], [0.166083, 0.315362]],
]  # fmt: skip
RESNET = [
    [[0.875282, 0.376839], [0.149455, 0.883437], [0.990463, 0.999723], [0.020284, 0.103414], [0.008890, 0.508579]],
    [[0.927775, 0.498968], [0.407077, 0.885599], [0.967842, 0.999134], [0.012514, 0.086495], [0.012667, 0.369308]],
]  # fmt: skip


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def filled(key: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of a checkpoint, made from its published name."""
    values = noise(key, shape)
    if key.endswith("running_var"):
        return 1 + 0.1 * values.abs()
    if len(shape) < 2:
        return (1.0 if key.endswith("weight") else 0.0) + 0.1 * values
    if "embedding" in key or "feat." in key:
        return values
    return values * (1.4 / torch.Size(shape[1:]).numel() ** 0.5)


def with_published_weights(network: torch.nn.Module, names: dict[str, str]) -> torch.nn.Module:
    """The network filled under published names; `names`: published → ours."""
    own = network.state_dict()
    for published, ours in names.items():
        own[ours] = filled(published, tuple(own[ours].shape))
    network.load_state_dict(own)
    return network.eval()


def published_names(network: torch.nn.Module, candidates: list[str]) -> dict[str, str]:
    """Those candidates that the importer maps onto the network; all of the network's numbers must be met."""
    names = {key: name.removeprefix("apm.") for key in candidates if (name := reference._name(key))}
    wanted = {key for key, value in network.state_dict().items() if value.is_floating_point()}
    assert sorted(names.values()) == sorted(wanted)
    return names


def features() -> list[Tensor]:
    return [noise(f"block{block}", (2, WIDTH, 4, 4)) for block in (12, 9, 6)]


def published_keys(ours: str) -> str:
    """Our name of a tensor of the cross network or the fusion as the published code calls it."""
    table = {"fusion.0": "fusion_conv1", "fusion.2": "fusion_conv2", "fusion.4": "fusion_conv3"}
    table |= {"enlarge9.0": "deconv1.deconv", "enlarge9.1": "deconv1.conv", "enlarge9.2": "deconv1.batchnorm"}
    table |= {"enlarge6.0.0": "deconv2.deconv", "enlarge6.0.1": "deconv2.conv", "enlarge6.0.2": "deconv2.batchnorm"}
    table |= {"enlarge6.1.0": "deconv3.deconv", "enlarge6.1.1": "deconv3.conv", "enlarge6.1.2": "deconv3.batchnorm"}
    table |= {"attention": "cross_attention", "mlp.0": "ffn.lin1", "mlp.2": "ffn.lin2"}
    for mine, theirs in table.items():
        ours = ours.replace(f"{mine}.", f"{theirs}.")
    return ours


def test_cross_gives_the_published_codes_points() -> None:
    network = ApmCross(WIDTH, 5)
    candidates = [
        key.replace("read.", "apm_cross_prompt.") if key.startswith("read.") else f"apm_cross.{published_keys(key)}"
        for key, value in network.state_dict().items()
        if value.is_floating_point()
    ]
    with_published_weights(network, published_names(network, candidates))
    with torch.no_grad():
        points = network(torch.empty(2, 256, 4, 4), features())
    torch.testing.assert_close(points, torch.tensor(CROSS), atol=1e-5, rtol=0)


def test_resnet_gives_the_published_codes_points() -> None:
    network = ApmResnet(WIDTH, 5)
    candidates = [
        f"apm_{'feature_map' if key.startswith('fusion') else 'resnet'}.{published_keys(key).removeprefix('resnet.')}"
        for key, value in network.state_dict().items()
        if value.is_floating_point()
    ]
    with_published_weights(network, published_names(network, candidates))
    with torch.no_grad():
        points = network(torch.empty(2, 256, 4, 4), features())
    torch.testing.assert_close(points, torch.tensor(RESNET), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "network"), [("resnet", ApmResnet), ("cross", ApmCross)])
def test_published_networks_have_the_published_size(kind: str, network: type) -> None:
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in network().parameters())
    unread = {"resnet": 512 * 1024 + 1024, "cross": 3 * 2 * 768}[kind]  # fc2; the second norms
    assert round((count + unread) / 1e6, 1) == {"resnet": 28.7, "cross": 44.3}[kind]


def test_published_networks_read_three_blocks() -> None:
    with torch.device("meta"):
        assert ApmResnet().blocks == ApmCross().blocks == (12, 9, 6)
    assert apm.feature_blocks(24) == (24, 18, 12) and apm.feature_blocks(32) == (32, 24, 16)


def test_cross_enlarges_levels_to_126_and_250_cells() -> None:
    with torch.device("meta"):
        network = ApmCross(64, 2)
        level = torch.empty(1, 64, 64, 64)
        assert network.enlarge9(level).shape == (1, 64, 126, 126)
        assert network.enlarge6(level).shape == (1, 64, 250, 250)


def test_sine_position_divides_by_the_channels_number() -> None:
    # Two columns at π and 2π, one row at 2π; channels: row's sin(·/1), cos(·/2), column's sin(·/1), cos(·/2).
    expected = torch.tensor([[0.0, -1.0, 0.0, 0.0], [0.0, -1.0, 0.0, -1.0]])
    torch.testing.assert_close(sine_position(4, 1, 2), expected, atol=1e-5, rtol=0)


def test_last_block_of_the_resnet_projects_though_shapes_agree() -> None:
    with torch.device("meta"):
        layers = ApmResnet().resnet
    projecting = [[len(block.shortcut) > 0 for block in getattr(layers, f"layer{n}")] for n in (1, 2, 3, 4)]
    assert projecting == [[False] * 3, [True] + [False] * 3, [True] + [False] * 5, [True, False, True]]


def test_lite_is_small() -> None:
    assert sum(parameter.numel() for parameter in ApmLite(16).parameters()) < 150_000


def test_lite_without_preference_points_at_the_middle() -> None:
    network = ApmLite(3, 16)
    torch.nn.init.zeros_(network.read.weight)
    points = network(torch.randn(2, 256, 8, 8))
    torch.testing.assert_close(points, torch.full((2, 3, 2), 0.5), atol=1e-6, rtol=0)


def test_lite_points_at_the_centre_of_the_cell_that_its_heatmap_prefers() -> None:
    network = ApmLite(1, 16)
    maps = torch.full((1, 1, 4, 8), -100.0)
    maps[0, 0, 1, 6] = 100.0  # row 1 of 4, column 6 of 8
    network.heatmaps = lambda embedding: maps
    torch.testing.assert_close(network(torch.empty(1, 256, 4, 8)), torch.tensor([[[6.5 / 8, 1.5 / 4]]]))


def test_lite_heatmaps_know_where_they_are() -> None:
    torch.manual_seed(0)
    maps = ApmLite(2, 16).heatmaps(torch.zeros(1, 256, 6, 6))
    assert maps.shape == (1, 2, 6, 6)
    assert not torch.allclose(maps, maps.flip(3)) and not torch.allclose(maps, maps.flip(2))


def test_points_of_lite_are_trainable() -> None:
    network = ApmLite(2, 16)
    network(torch.randn(1, 256, 4, 4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.read.weight.grad.abs().sum() > 0
