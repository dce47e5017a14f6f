"""The pyramid as a network layer: equal to region pooling on whole maps, also after compilation and export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.export import Dim

from detector.features.pooling import PAPER_LEVELS, spatial_pyramid_pool
from detector.features.pyramid_layer import Mode, SpatialPyramidPooling, bin_edges, pool_by_cells
from tests.reference import bins

MODES: tuple[Mode, ...] = ("max", "average")
SIZES = ((13, 17), (40, 9), (6, 6), (3, 4), (1, 5), (1, 1))
DYNAMIC = ({0: Dim("n"), 2: Dim("h", min=1), 3: Dim("w", min=1)},)


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def pooled_as_regions(maps: Tensor, levels: Sequence[int]) -> Tensor:
    """Region pooling of one window a map, which is the whole map."""
    window = np.array([[0, 0, maps.shape[3], maps.shape[2]]])
    rows = [spatial_pyramid_pool(image.permute(1, 2, 0).numpy(), window, levels).reshape(-1) for image in maps]
    return torch.from_numpy(np.stack(rows))


def averages(maps: Tensor, levels: Sequence[int]) -> Tensor:
    """Slow twin of the average: a bin at a time."""
    height, width = maps.shape[2:]
    means = [
        maps[:, :, rows.start : rows.stop, columns.start : columns.stop].double().mean((2, 3))
        for level in levels
        for rows in bins(height, level)
        for columns in bins(width, level)
    ]
    return torch.cat(means, dim=1)


@pytest.mark.parametrize(
    ("size", "level", "starts", "ends"),
    [
        (10, 6, [0, 1, 3, 5, 6, 8], [2, 4, 5, 7, 9, 10]),
        (13, 6, [0, 2, 4, 6, 8, 10], [3, 5, 7, 9, 11, 13]),
        (4, 6, [0, 0, 1, 2, 2, 3], [1, 2, 2, 3, 4, 4]),
        (1, 3, [0, 0, 0], [1, 1, 1]),
    ],
)
def test_bins_computed_by_hand(size: int, level: int, starts: list[int], ends: list[int]) -> None:
    assert [edge.tolist() for edge in bin_edges(size, level)] == [starts, ends]
    # on a ramp a bin's maximum is its last cell, its average the middle of its first and last
    ramp = torch.arange(float(size))
    last = torch.tensor(ends, dtype=torch.float32) - 1
    middle = (torch.tensor(starts) + last) / 2
    for mode, expected in zip(MODES, (last, middle), strict=True):
        layer = SpatialPyramidPooling((level,), mode)
        columns = layer(ramp.view(1, 1, 1, size)).view(level, level)
        rows = layer(ramp.view(1, 1, size, 1)).view(level, level)
        torch.testing.assert_close(columns, expected.expand(level, level))
        torch.testing.assert_close(rows, expected[:, None].expand(level, level))


def test_bins_are_those_of_exact_arithmetic() -> None:
    for size in range(1, 71):
        for level in range(1, 13):
            starts, ends = bin_edges(size, level)
            assert list(map(range, starts.tolist(), ends.tolist())) == bins(size, level)


def test_layout() -> None:
    # two channels of 2 x 2 cells; the level of one bin comes first, as asked, channels lie together
    maps = torch.tensor([[[[1.0, 2], [3, 4]], [[-1, -2], [-3, -4]]]])
    layer = SpatialPyramidPooling((1, 2))
    assert layer.n_bins == 5
    assert layer(maps).tolist() == [[4, -1, 1, -1, 2, -2, 3, -3, 4, -4]]


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([PAPER_LEVELS, (1, 2, 3, 6), (4, 3, 2, 1), (5, 7), (2, 4, 4)]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_whole_maps_equal_region_pooling(
    height: int, width: int, channels: int, n_maps: int, levels: tuple[int, ...], layout: torch.memory_format
) -> None:
    maps = (random_maps(n_maps, channels, height, width, seed=height) - 1).contiguous(memory_format=layout)
    expected = pooled_as_regions(maps, levels)
    assert torch.equal(SpatialPyramidPooling(levels)(maps), expected)
    traced = [pool_by_cells(maps, level, "max").flatten(2).mT for level in levels]
    assert torch.equal(torch.cat(traced, dim=1).flatten(1), expected)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([PAPER_LEVELS, (5, 2, 4)]))
def test_averages_equal_the_twin(height: int, width: int, levels: tuple[int, ...]) -> None:
    maps = random_maps(2, 3, height, width, seed=width)
    expected = averages(maps, levels).float()
    torch.testing.assert_close(SpatialPyramidPooling(levels, "average")(maps), expected)
    traced = [pool_by_cells(maps, level, "average").flatten(2).mT for level in levels]
    torch.testing.assert_close(torch.cat(traced, dim=1).flatten(1), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_types(dtype: torch.dtype) -> None:
    maps = random_maps(2, 3, 11, 14).to(dtype)
    pooled = SpatialPyramidPooling()(maps)
    assert pooled.dtype == dtype
    assert torch.equal(pooled.float(), pooled_as_regions(maps.float(), PAPER_LEVELS))
    assert torch.equal(pool_by_cells(maps, 1, "max").flatten(1), pooled[:, -3:])
    # the sum of a bin would overflow float16
    large = torch.full((1, 1, 9, 9), 6e4, dtype=dtype)
    for average in (SpatialPyramidPooling((2,), "average")(large), pool_by_cells(large, 2, "average")):
        assert average.dtype == dtype
        assert average.unique().tolist() == [large[0, 0, 0, 0].item()]


def test_infinite_values_stay_in_their_bins() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 1] = -torch.inf
    for average in (SpatialPyramidPooling((2,), "average")(maps), pool_by_cells(maps, 2, "average")):
        assert average.flatten().tolist() == [-torch.inf, 0, 0, 0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(7, 8), (2, 3)])
def test_gradients(mode: Mode, size: tuple[int, int]) -> None:
    n_values = 2 * 2 * size[0] * size[1]
    order = torch.randperm(n_values, generator=torch.Generator().manual_seed(0))
    maps = (order.double() - n_values / 2).view(2, 2, *size).requires_grad_()
    assert torch.autograd.gradcheck(SpatialPyramidPooling((4, 2, 1), mode), maps)
    assert torch.autograd.gradcheck(lambda maps: pool_by_cells(maps, 4, mode), maps)


def test_an_empty_batch() -> None:
    assert SpatialPyramidPooling()(torch.zeros(0, 4, 5, 5)).shape == (0, 200)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.all
def test_compiled_networks_agree_also_in_gradients(mode: Mode) -> None:
    layer = SpatialPyramidPooling((4, 2), mode)
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for height, width in SIZES[:4]:
        # few different values, so that most bins have several largest cells
        maps = torch.randint(-3, 3, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).float()
        results = []
        for network in (layer, compiled):
            leaf = maps.clone().requires_grad_()
            pooled = network(leaf)
            (pooled * torch.arange(pooled.shape[1])).sum().backward()
            results.append((pooled.detach(), leaf.grad))
        torch.testing.assert_close(results[1], results[0], rtol=0 if mode == "max" else 1e-5, atol=1e-5)


@pytest.mark.parametrize(("dynamic", "n_graphs"), [(True, 1), (None, 2)])
@pytest.mark.all
def test_one_compiled_graph_serves_every_size(dynamic: bool | None, n_graphs: int) -> None:
    graphs: list[Any] = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(SpatialPyramidPooling(), backend=count, fullgraph=True, dynamic=dynamic)
    for height, width in SIZES[:4]:
        maps = random_maps(2, 3, height, width)
        assert torch.equal(compiled(maps), pooled_as_regions(maps, PAPER_LEVELS))
    assert len(graphs) == n_graphs


@pytest.mark.all
def test_export_with_any_size() -> None:
    exported = torch.export.export(SpatialPyramidPooling(), (random_maps(2, 3, 13, 17),), dynamic_shapes=DYNAMIC)
    network = exported.module()
    for height, width in SIZES:
        maps = random_maps(height, 3, height, width)
        assert torch.equal(network(maps), pooled_as_regions(maps, PAPER_LEVELS))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("levels", "mode"), [((6, 3, 4), "max"), ((2,), "average")])
@pytest.mark.all
def test_onnx_with_any_size(levels: tuple[int, ...], mode: Mode) -> None:
    layer = SpatialPyramidPooling(levels, mode).eval()
    program = torch.onnx.export(layer, (random_maps(2, 3, 13, 17),), dynamo=True, dynamic_shapes=DYNAMIC)
    assert program is not None
    model = program.model_proto
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for height, width in SIZES:
        maps = random_maps(height, 3, height, width)
        (pooled,) = session.run(None, {session.get_inputs()[0].name: maps.numpy()})
        if mode == "max":
            assert torch.equal(torch.from_numpy(pooled), pooled_as_regions(maps, levels))
        else:
            torch.testing.assert_close(torch.from_numpy(pooled), averages(maps, levels).float())


@pytest.mark.parametrize("levels", [(), (3, 0), (-1,)])
def test_levels_must_be_positive(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="levels must be one or more positive numbers, but are"):
        SpatialPyramidPooling(levels)


def test_the_mode_must_be_known() -> None:
    with pytest.raises(ValueError, match='mode must be "max" or "average", but is \'mean\''):
        SpatialPyramidPooling(mode="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("maps", "came"),
    [
        (torch.zeros(3, 5, 5), r"torch.float32 \(3, 5, 5\)"),
        (torch.zeros(1, 3, 0, 5), r"torch.float32 \(1, 3, 0, 5\)"),
        (torch.zeros(1, 3, 5, 0), r"torch.float32 \(1, 3, 5, 0\)"),
        (torch.zeros(1, 0, 5, 5), r"torch.float32 \(1, 0, 5, 5\)"),
        (torch.zeros(1, 3, 5, 5, dtype=torch.int64), r"torch.int64 \(1, 3, 5, 5\)"),
    ],
)
def test_maps_must_be_batches_with_cells(maps: Tensor, came: str) -> None:
    with pytest.raises(ValueError, match=rf"maps must be floating point \(N, C, h, w\) .*, but got {came}"):
        SpatialPyramidPooling()(maps)
