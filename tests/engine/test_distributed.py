import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from tests.engine import team as cases
from tests.fakes import stand_in
from vtcc import config, paths
from vtcc.data.cache import CacheWriter
from vtcc.engine import checkpoint, distributed, schedule
from vtcc.engine.distributed import Team
from vtcc.engine.scratch import STATE
from vtcc.errors import VtccError


def assert_close(found, expected, what):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=lambda m: f"{what}: {m}")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return tmp_path_factory.mktemp("teams")


@pytest.fixture(scope="module")
def started(room):
    """All that does not build on another, at the same time."""
    return {
        ("given", 2): cases.start(2, cases.given_outputs, room / "given2"),
        ("given", 4): cases.start(4, cases.given_outputs, room / "given4"),
        ("weights", 2): cases.start(2, cases.weight_gradients, room / "weights2"),
        ("weights", 4): cases.start(4, cases.weight_gradients, room / "weights4"),
        "whole": cases.start(2, cases.training, room / "whole", room / "whole-scratch"),
    }


@pytest.mark.parametrize("world", [2, 4])
def test_losses_and_gradients_of_z_and_p_are_those_of_one_process(started, world):
    expected = cases.alone(cases.given_outputs)
    found = cases.outcomes(started["given", world])
    for rank, result in enumerate(found):
        assert isinstance(result, dict), result
        for (name, batch), (loss, cluster, grads) in result.items():
            what = f"{name}, {batch} images, process {rank} of {world}"
            whole_loss, whole_cluster, whole_grads = expected[name, batch]
            assert_close(loss, whole_loss, what)
            assert_close(cluster, whole_cluster, what)
            own = Team(rank, world).share(batch)
            assert_close(grads[:2], [g[own] for g in whole_grads[:2]], what)
            assert_close(grads[2:], [g[:, own] for g in whole_grads[2:]], what)
    for name, batch in expected:  # gradients that are all zero would agree as well
        largest = max(float(g.abs().max()) for g in expected[name, batch][2] if g.numel())
        assert largest > 1e-3, name


@pytest.mark.parametrize("world", [2, 4])
def test_gradients_of_the_weights_are_those_of_one_process(started, world):
    expected = cases.alone(cases.weight_gradients)
    for result in cases.outcomes(started["weights", world]):
        assert isinstance(result, dict), result
        for phase in cases.PHASES:
            loss, grads = result[phase]
            assert_close(loss, expected[phase][0], phase)
            missing = {k for k, v in grads.items() if not v.any()} | (
                expected[phase][1].keys() - grads.keys()
            )
            assert {k for k in missing if expected[phase][1].get(k, loss).any()} - {
                "encoder.head.weight",
                "encoder.head.bias",
            } == set()
            for name, grad in expected[phase][1].items():
                assert_close(grads[name], grad, f"{phase}: {name}")


def test_a_training_of_two_processes_resumes_to_the_same_bits(started, room, capsys):
    """Stopped by a signal to one process: in the contrastive phase, then in self-labelling."""
    scratch = room / "cut-scratch"
    for number, (rank, at, step) in enumerate([(1, 7, 7), (0, 8, 15)]):
        cut = cases.start(
            2, cases.training, room / f"cut{number}", scratch, (rank, at, signal.SIGTERM)
        )
        assert cases.outcomes(cut) == [("stopped", signal.SIGTERM)] * 2
        state = checkpoint.load_state(scratch / STATE)
        assert (state["step"], state["processes"]) == (step, 2)
        if number == 0:
            shutil.copytree(scratch, room / "elsewhere")
    resumed = cases.outcomes(cases.start(2, cases.training, room / "resumed", scratch))
    whole = cases.outcomes(started["whole"])
    for first, second in zip(whole, resumed, strict=True):
        assert isinstance(first, dict), first
        assert first["weights"].keys() == second["weights"].keys()
        for name, value in whole[0]["weights"].items():
            assert torch.equal(first["weights"][name], value), name
            assert torch.equal(second["weights"][name], value), name
        # By text: what self-labelling does not measure is nan, which equals nothing.
        assert str(first["curves"]) == str(second["curves"])
    assert whole[0]["candidates"] == resumed[0]["candidates"]
    assert len(whole[0]["candidates"]) > 0
    assert (whole[0]["told"], whole[1]["told"]) == (6, 0)  # start and five epochs, by rank 0

    other = cases.alone(cases.training, room / "elsewhere")
    assert [row["epoch"] for row in other["curves"]] == [1, 2, 3, 4, 5]
    assert "1 processes go on where there were 2" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["error", "killed"])
def test_the_failure_of_one_ends_all_and_is_told_once(room, what):
    place = room / f"failing-{what}"
    failing = cases.start(2, cases.training, place, room / f"{what}-scratch", (1, 3, what))
    first, second = cases.outcomes(failing, seconds=60)
    if what == "error":
        assert isinstance(second, VtccError)
        assert str(second) == "this process met a full disk"
        assert isinstance(first, SystemExit)
        assert first.code == 1
    else:
        assert second is None
        assert isinstance(first, VtccError), first
        assert "another of the 2 processes is gone" in str(first)


def test_shares_cover_a_batch_in_order_and_differ_by_one():
    for world, batch in [(1, 7), (2, 7), (4, 7), (4, 128), (3, 9)]:
        rows = [list(range(batch))[Team(rank, world).share(batch)] for rank in range(world)]
        assert [row for share in rows for row in share] == list(range(batch))
        sizes = [len(share) for share in rows]
        assert sizes == Team(0, world).shares(batch)
        assert max(sizes) - min(sizes) <= 1


def test_each_process_draws_views_of_its_own_and_rank_0_those_of_one_process():
    seeds = [
        schedule.view_seeds(0, step, rank)(side)
        for step in range(9)
        for rank in range(9)
        for side in range(2)
    ]
    orders = [schedule.stream(0, schedule.ORDER, epoch) for epoch in range(9)]
    assert len({*seeds, *orders}) == len(seeds) + len(orders)
    assert schedule.view_seeds(3, 5, 0)(1) == schedule.view_seeds(3, 5)(1)


def test_threads_are_divided_and_never_none(monkeypatch):
    stand_in(monkeypatch, distributed, "_cores", lambda: 16)
    assert Team().threads(0) == 0  # torch's default
    assert Team().threads(3) == 3
    for wanted, expected in [(0, 4), (8, 2), (1, 1)]:
        assert Team(1, 4, 1, 4).threads(wanted) == expected
    assert Team(1, 8, 1, 4).threads(0) == 4  # two machines with four each


def test_threads_are_no_more_than_there_are(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Team().threads(8) == 3
    assert [Team(0, 2, 0, 2).threads(wanted) for wanted in (0, 2, 8)] == [1, 1, 1]
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(distributed.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert Team().threads(8) == 4
    assert Team().threads(2) == 2


def test_a_batch_too_small_for_the_processes_is_refused():
    Team(0, 4, 0, 4).check_fits(8)
    Team().check_fits(1)
    with pytest.raises(VtccError, match=r"7 images for 4 processes; .* at most 3 processes"):
        Team(0, 4, 0, 4).check_fits(7)


def test_without_a_launchers_variables_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", distributed.RENDEZVOUS):
        monkeypatch.delenv(name, raising=False)
    with distributed.join("cpu") as team:
        assert team == Team()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with distributed.join("cpu") as team:
        assert team == Team()
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_processes_sort_the_digits_as_well_as_one(tmp_path):
    """The default recipe; five seeds of one process gave ACC .9608 with a deviation of .0064."""
    from vtcc.analysis.metrics import clustering_scores
    from vtcc.data.cache import open_cache
    from vtcc.data.manifest import read_labels
    from vtcc.engine import predict

    project = config.PRESETS.parents[1]
    shutil.copytree(project / "data/catalog", tmp_path / "data/catalog")
    (tmp_path / paths.PARAMS).write_text((config.PRESETS / "digits.yaml").read_text())
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {
        "PYTHONPATH": str(project),
        "VTCC_HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "VTCC_PROCESSES": "2",
    }
    for stage in ("download", "validate", "train"):
        command = [sys.executable, "-m", "vtcc", stage]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "2 processes with each 1 thread:" in done.stdout
    cache = open_cache(tmp_path / paths.CACHE)
    found = predict.load(tmp_path / paths.MODEL).predict(cache.images).cluster
    labels = read_labels(tmp_path / paths.LABELS).set_index("path")["label"]
    scores = clustering_scores(labels.loc[cache.paths].to_numpy(), found)
    assert scores["acc"] > 0.9608 - 3 * 0.0064


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_launched_stage_stops_and_resumes_to_the_same_bits(tmp_path, signum):
    project = config.PRESETS.parents[1]
    text = config.edit(
        (config.PRESETS / "tiny.yaml").read_text(),
        {
            "train.batch_size": 15,
            "train.epochs": 200,
            "train.checkpoint_minutes": 0.01,
            "train.selection.points": 1,
        },
    )
    (tmp_path / paths.PARAMS).write_text(text)
    with CacheWriter(tmp_path / paths.CACHE, name="noise", image_size=16, channels=1) as writer:
        for i, image in enumerate(cases.IMAGES):
            writer.add(f"{i}.png", "train", image)
        writer.finish()
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {
        "PYTHONPATH": str(project),
        "VTCC_HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    command = [sys.executable, "-m", "vtcc", "train", "--processes", "2"]

    def train(stop=False):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
        )
        said = []
        for line in process.stdout:
            said.append(line)
            # The second line of progress comes after a second, and after a checkpoint.
            if stop and line.startswith('{"progress"') and '"done": 1,' not in line:
                process.send_signal(signum)
                stop = False
        return process.wait(), "".join(said)

    assert train()[0] == 0
    whole = (tmp_path / paths.MODEL / "model.safetensors").read_bytes()
    status, said = train(stop=True)
    expected = -signum if signum == signal.SIGKILL else 128 + signum
    assert status == expected
    # A killed launcher's processes end by themselves; the lock of the training waits for them.
    status, said = train()
    assert status == 0
    assert "resuming at step" in said
    assert said.count("train: done in") == 1
    assert (tmp_path / paths.MODEL / "model.safetensors").read_bytes() == whole
