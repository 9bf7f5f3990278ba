"""The tracking database is made once however many begin with it, and goes with its workspace."""

import multiprocessing
import shutil

import numpy as np
import pytest

from algo_research.models.tracking import Lineage, Tracker

pytestmark = [pytest.mark.slow, pytest.mark.process]


def lineage(seed: int) -> Lineage:
    return Lineage("test/coins/1h", "0" * 64, "raw", "none", "none", {}, seed)


def log_one(folder, seed: int) -> None:
    Tracker(f"sqlite:///{folder / 'mlflow.db'}").log(lineage(seed), {"sharpe": 1.0}, files={"model.txt": b"a model"})


def test_four_processes_use_it_first(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=log_one, args=(tmp_path / "new", seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    tracker = Tracker(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}")
    experiments = [e.name for e in tracker.client.search_experiments() if e.name == "research"]
    assert experiments == ["research"]
    assert len(tracker.client.search_runs([tracker._experiment_id()])) == 4


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_files_go_with_the_workspace(tmp_path, how):
    before, now = tmp_path / "before", tmp_path / "elsewhere" / "now"
    log_one(before, 1)
    now.parent.mkdir()
    how(before, now)
    there = set(before.rglob("*")) if before.exists() else set()
    log_one(now, 2)
    assert (set(before.rglob("*")) if before.exists() else set()) == there
    tracker = Tracker(f"sqlite:///{now / 'mlflow.db'}")
    runs = tracker.client.search_runs([tracker._experiment_id()])
    assert sorted(run.data.params["seed"] for run in runs) == ["1", "2"]
    for run in runs:
        kept = tracker.client.download_artifacts(run.info.run_id, "model.txt", str(tmp_path))
        assert str(now) in run.info.artifact_uri and np.fromfile(kept, "S7")[0] == b"a model"
