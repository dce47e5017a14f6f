"""A Ray cluster of two nodes: the results are those of one process, whoever dies on the way."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from detector.build import build_cache
from detector.cli.console import run
from detector.config.detector import Config
from detector.datasets.dataset import Dataset
from detector.ensemble import Ensemble
from detector.features.cache import CacheWorkers, FeatureCache, fill_cache
from detector.parallel.map_images import Failure, Threads, map_images
from detector.parallel.ray_actors import RayActors
from detector.training.train import train
from tests.cli.fake_detecting import FakeDetectorFactory
from tests.cli.many_images import contents, write_images
from tests.parallel.same_bytes import check_same_evaluation
from tests.parallel.workers import Doing, NeverReady, Raising

pytestmark = pytest.mark.all

ROOT = Path(__file__).parents[2]


class Nodes:
    """The cluster: a head, and nodes that come and go."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster

    def add(self) -> Any:
        node = self.cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
        self.cluster.wait_for_nodes()
        return node

    def remove(self, node: Any) -> None:
        # without notice
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head and a second node; connected to."""
    with pytest.MonkeyPatch.context() as patch:
        # no token is written to the home of whoever runs the tests, and the same mode holds for all that is started
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'spp-detector[ray]'")
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes = Nodes(cluster)
            nodes.add()
            ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
            yield nodes
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.mark.usefixtures("nodes")
def test_failures_and_deaths_cost_their_items_alone(tmp_path: Path) -> None:
    items = ["a", "bad 1", "die once 1", "die always", *(f"item {number}" for number in range(200)), "die twice"]
    results = list(map_images(Doing(tmp_path), items, RayActors(2)))
    assert [item for item, _ in results] == items
    failures = {"bad 1": Failure("bad 1 is bad")}
    for item, result in results:
        if item == "die always":
            assert isinstance(result, Failure) and result.message.startswith("die always: 3 workers died of it")
        else:
            assert result == failures.get(item, item.upper())
    # once or twice among others of a batch, where nobody knows of whom the actor died; then three times alone
    assert 3 <= len([*tmp_path.glob("die always.*")]) <= 5


@pytest.mark.usefixtures("nodes")
def test_nothing_is_lost_where_results_fill_all_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.parallel.ray_actors._WINDOW", 1)
    results = list(map_images(Doing(tmp_path), ["a", "b", "c", "d"], RayActors(1)))
    assert [result for _, result in results] == ["A", "B", "C", "D"]


@pytest.mark.usefixtures("nodes")
def test_what_goes_wrong_before_and_in_the_work_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(map_images(Raising(), ["a"], RayActors(1)))
    with pytest.raises(RuntimeError, match="KeyError"):
        list(map_images(Doing(tmp_path), ["a", "bug"], RayActors(1)))
    with pytest.raises(OSError, match="no space left"):
        list(map_images(Doing(tmp_path), ["a", "full"], RayActors(1)))
    with pytest.raises(ChildProcessError, match="3 workers ended before they were ready"):
        list(map_images(NeverReady(), ["a"], RayActors(1)))


def test_a_node_that_is_removed_loses_nothing(nodes: Nodes, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 60)
    names = [str(images / f"{number}.png") for number in range(60)] * 10
    factory = FakeDetectorFactory(partial(Ensemble, ()), Ensemble.thresholds)

    def detect_all(engine: Any, after: int | None = None, node: Any = None) -> list[Any]:
        found = []
        for number, (name, result) in enumerate(map_images(factory, names, engine)):
            if number == after:
                nodes.remove(node)
            found.append((name, result.message if isinstance(result, Failure) else result.detections.to_records()))
        return found

    expected = detect_all(Threads(1))
    third = nodes.add()
    # with five processors taken, some of them must be on the third node
    assert detect_all(RayActors(5), 20, third) == expected


@pytest.mark.usefixtures("nodes")
def test_detection_in_parts_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detector.cli import detect

    monkeypatch.setattr(detect, "DetectorFactory", FakeDetectorFactory)
    images = write_images(tmp_path / "images", 30)
    for folder, more in (("one", ()), ("many", ("--engine", "ray", "--workers", "2"))):
        arguments = ["spp detect", images, "--parts", tmp_path / folder, "--part-size", "7", *more]
        monkeypatch.setattr(sys, "argv", [*map(str, arguments)])
        with pytest.raises(SystemExit, match=r"^2$"):  # every fifth is no image
            run(detect.main)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


@pytest.mark.usefixtures("nodes")
def test_a_cache_in_a_common_folder_has_the_same_bytes(config: Config, train_set: Dataset, tmp_path: Path) -> None:
    for name in ("one", "many"):
        workers = CacheWorkers(RayActors(2), partial(build_cache, config, tmp_path / name))
        fill_cache(build_cache(config, tmp_path / name), train_set, workers=workers if name == "many" else None)
    one = contents(tmp_path / "one")
    assert len(one) > 2 * len(train_set)
    assert one == contents(tmp_path / "many")


@dataclass(frozen=True)
class OnNode:
    """Builds the cache of a recipe in a folder of the node that it is built on."""

    config: Config
    folder: Path

    def __call__(self) -> FeatureCache:
        import ray

        return build_cache(self.config, self.folder / ray.get_runtime_context().get_node_id())


@pytest.mark.usefixtures("nodes")
def test_without_a_common_folder_each_image_stays_on_one_node(
    config: Config, train_set: Dataset, test_set: Dataset, tmp_path: Path
) -> None:
    caches = [build_cache(config, tmp_path / name) for name in ("one", "driver")]
    spread = CacheWorkers(RayActors(2, owners=True), OnNode(config, tmp_path / "nodes"))
    models = [
        train(config, train_set, train_set.class_names, cache, workers=workers)
        for cache, workers in zip(caches, (None, spread), strict=True)
    ]
    for number, model in enumerate(models):
        model.save(tmp_path / f"{number}.safetensors")
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()
    of_nodes = [{path.name for path in node.glob("maps-*/*")} for node in (tmp_path / "nodes").iterdir()]
    assert len(of_nodes) == 2 and all(of_nodes)
    images = {f"{each.image_id}.safetensors" for each in train_set}
    assert images <= set.union(*of_nodes)
    assert not images & of_nodes[0] & of_nodes[1]
    check_same_evaluation(RayActors(2), tmp_path / "0.safetensors", test_set)
