import functools
import json
import re
import shutil
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

from tests.fakes import stand_in
from tests.tracking import toy
from vtcc import paths, provenance
from vtcc.errors import VtccError
from vtcc.tracking import champion, fetch, promotion, registry, runs, store


def trained(cache, model_dir):
    tracker = runs.TrainingRun(params=toy.params(), cache=cache)
    tracker.on_start({"parameters": 1, "resumed_run_id": None})
    tracker.on_end("FINISHED", [], model_dir)
    return tracker.run_id


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("digits", "vtcc-digits"),
        ("UC-Merced_2.1", "vtcc-UC-Merced_2.1"),
        ("my photos", "vtcc-my-photos-HASH"),
        ("a/b:c@d'e", "vtcc-a-b-c-d-e-HASH"),
        ("Vögel", "vtcc-Vogel-HASH"),
        ("鳥", "vtcc-HASH"),
        ("../..", "vtcc-HASH"),
    ],
)
def test_model_name_is_safe_in_uris(dataset, name):
    made = registry.model_name(dataset)
    assert re.fullmatch(name.replace("HASH", "[0-9a-f]{6}"), made)
    if "HASH" in name:  # something was lost: names that differ there stay apart
        assert made != registry.model_name(dataset + dataset[-1])


def test_registration_from_first_to_champion_and_back_by_hand(client, cache, here):
    """One story, since every step stands on the one before."""
    name = "vtcc-story"
    poor = toy.model(here / "m" / "poor", 1, able=False)
    good = toy.model(here / "m" / "good", 0)

    first = registry.register("story", trained(cache, poor), poor, {"acc": 0.25}, {"x": "y"})
    assert (first.name, first.version, first.champion) == (name, "1", True)
    why = "there was no champion; this model has collapsed: it uses 1.0 of 4 clusters"
    assert first.reason == f"promoted: {why}"
    tags = client.get_model_version(name, "1").tags
    assert (tags["acc"], tags["x"], tags["run_id"]) == ("0.25", "y", first.run_id)
    description = client.get_model_version(name, "1").description
    assert "acc 0.250" in description
    assert "## Intended use" in description and "| acc | 0.25 |" in description

    run = trained(cache, good)
    second = registry.register("story", run, good, {"acc": 0.9, "nmi": float("nan")})
    assert (second.version, second.champion) == ("2", True)
    assert second.reason == "promoted: the champion has collapsed: it uses 1.0 of 4 clusters"
    assert client.get_registered_model(name).aliases == {"champion": 2, "challenger": 2}
    tags = client.get_model_version(name, "2").tags
    assert tags["promotion"] == second.reason
    assert float(tags["challenger_effective_clusters"]) >= 2
    assert "nmi" not in tags

    assert registry.register("story", run, good) == second  # the same run, the same version
    evaluated = {"mlflow.source.name": "vtcc evaluate"}
    child = client.create_run("0", tags={"mlflow.parentRunId": run, **evaluated}).info.run_id
    assert registry.register("story", child, good).version == "2"
    study = client.create_run("0").info.run_id  # above the training, and no model of its own
    client.set_tag(run, "mlflow.parentRunId", study)
    assert registry.register("story", run, good).run_id == run

    third = registry.register("story", trained(cache, poor), poor)
    assert (third.version, third.champion) == ("3", False)
    assert "the challenger has collapsed" in third.reason
    assert client.get_registered_model(name).aliases == {"champion": 2, "challenger": 3}

    # `vtcc show` reads who is champion from here.
    promotion.promote(name, "3", "by eye")
    told = json.loads((here / ".vtcc" / "registered.json").read_text(encoding="utf-8"))
    assert (told["dataset"], told["aliases"]["champion"]) == ("story", "3")
    assert (told["champion"], told["reason"]) == (True, "promoted by hand: by eye")
    promotion.rollback(name)
    told = json.loads((here / ".vtcc" / "registered.json").read_text(encoding="utf-8"))
    assert (told["champion"], told["aliases"]) == (False, {"champion": "2", "challenger": "3"})
    assert told["reason"] == "rolled back from version 3 (promoted by hand: by eye)"

    # What a person decides is not decided again by the same comparison.
    client.set_registered_model_alias(name, "champion", "1")
    again = registry.register("story", run, good)
    assert client.get_registered_model(name).aliases["champion"] == 1
    assert (again.version, again.champion) == ("2", False)

    shown = json.loads((here / ".vtcc" / "registered.json").read_text(encoding="utf-8"))
    assert shown["version"] == "2"
    assert shown["aliases"] == {"champion": "1", "challenger": "2"}


def test_a_version_is_of_the_commit_that_trained_it(client, cache, here, monkeypatch):
    model = toy.model(here / "m" / "committed", 0)
    git_state = create_autospec(provenance.git_state, return_value=("a" * 40, True))
    monkeypatch.setattr(provenance, "git_state", git_state)
    run = trained(cache, model)
    git_state.return_value = ("b" * 40, False)  # committed, and registered again

    def commit_of(version):
        tags = client.get_model_version(version.name, version.version).tags
        return tags.get("git_commit"), tags.get("git_dirty")

    assert commit_of(registry.register("committed", run, model)) == ("a" * 40, "true")
    git_state.return_value = ("c" * 40, False)
    assert commit_of(registry.register("committed", run, model)) == ("a" * 40, "true")
    pulled = toy.model(here / "m" / "pulled", 0)  # trained elsewhere: nobody knows by what
    assert commit_of(registry.register("pulled", None, pulled)) == (None, None)


def test_champion_that_cannot_be_loaded_stays(client, cache, here):
    one = registry.register("lost", trained(cache, paths.MODEL))
    model_id = runs.model_id(client, one.run_id)
    shutil.rmtree(here / "mlartifacts" / "models" / model_id)
    other = toy.model(here / "m" / "other", 3)
    two = registry.register("lost", trained(cache, other), other)
    assert (two.version, two.champion) == ("2", False)
    assert two.reason.startswith("not promoted: the champion could not be loaded")


def test_without_images_the_champion_stays_and_the_next_call_compares(cache, here, tmp_path):
    poor = toy.model(here / "m" / "poor2", 1, able=False)
    registry.register("blind", trained(cache, poor), poor)
    good = toy.model(here / "m" / "good2", 0)
    run = trained(cache, good)
    blind = registry.register("blind", run, good, cache_dir=tmp_path)
    assert not blind.champion
    assert blind.reason.startswith("not promoted: there are no images to compare on")
    assert registry.register("blind", run, good).champion


def test_run_whose_model_was_not_delivered_gets_it_when_registered(client, cache):
    tracker = runs.TrainingRun(params=toy.params(), cache=cache)
    tracker.on_start({"parameters": 1, "resumed_run_id": None})
    tracker.on_end("FINISHED", [], None)
    done = registry.register("late", tracker.run_id)
    assert done.run_id == tracker.run_id
    assert runs.model_id(client, tracker.run_id)


EVALUATE = {"seed": 0, "baselines": ["ward"]}


def pipeline(here, run_id, metrics, name="my toys"):
    """The files that the stages leave, wherever they come from: run, `dvc pull`, the cache."""
    paths.REPORTS.mkdir(exist_ok=True)
    (here / paths.RUN).write_text(json.dumps({"run_id": run_id}), encoding="utf-8")
    (here / paths.METRICS).write_text(json.dumps(metrics), encoding="utf-8")
    (here / paths.ASSIGNMENTS).write_text("path,split,cluster,confidence\n", encoding="utf-8")
    cache = json.loads((here / paths.CACHE / "cache.json").read_text(encoding="utf-8"))
    text = json.dumps(cache | {"name": name})
    (here / paths.CACHE / "cache.json").write_text(text, encoding="utf-8")
    of = {"model": provenance.model_digest(here / paths.MODEL), "images": cache["digest"]}
    (here / paths.EVALUATED).write_text(json.dumps(of | {"evaluate": EVALUATE}), encoding="utf-8")


def evaluations_of(client, run_id):
    where = client.get_run(run_id).info.experiment_id
    return client.search_runs([where], f"tags.`mlflow.parentRunId` = '{run_id}'")


def test_what_dvc_restored_is_logged_and_registered_once(client, cache, here):
    """A study without registration, then `make repro`: no stage runs, and all must be there."""
    run = trained(cache, paths.MODEL)
    pipeline(here, run, {"acc": 0.5, "baseline_ward_acc": 0.4})
    assert evaluations_of(client, run) == []
    done = registry.register_current()
    assert (done.name, done.run_id) == (registry.model_name("my toys"), run)
    assert client.get_registered_model(done.name).aliases["challenger"] == int(done.version)
    tags = client.get_model_version(done.name, done.version).tags
    assert tags["acc"] == "0.5"
    assert tags["data_digest"] == cache.digest
    assert "baseline_ward_acc" not in tags
    (logged,) = evaluations_of(client, run)
    assert logged.data.metrics == {"acc": 0.5, "baseline_ward_acc": 0.4}
    # As they were when the figures were made, whatever params.yaml says since.
    assert logged.data.params == {"evaluate.seed": "0", "evaluate.baselines": "['ward']"}
    assert [f.path for f in client.list_artifacts(logged.info.run_id)] == [
        "assignments.csv", "metrics.json",
    ]  # fmt: skip
    assert registry.register_current(here) == done
    assert len(evaluations_of(client, run)) == 1


def test_the_champion_exists_when_earlier_results_come_back(client, cache, here):
    """Parameters back to what they were: DVC restores a run that was registered before."""
    try:
        first = trained(cache, paths.MODEL)
        pipeline(here, first, {"acc": 0.5}, "back again")
        one = registry.register_current(here)
        assert one.champion
        pipeline(here, trained(cache, paths.MODEL), {"acc": 0.6}, "back again")
        assert registry.register_current(here).version == "2"
        pipeline(here, first, {"acc": 0.5}, "back again")
        assert registry.register_current(here) == one
        assert client.get_registered_model(one.name).aliases == {"champion": 1, "challenger": 1}
    finally:
        pipeline(here, first, {}, "my toys")


def test_figures_of_another_model_or_of_other_images_are_not_registered(client, cache, here):
    """A training, or images, without an evaluation after it: `vtcc train`, `vtcc validate`."""
    run = trained(cache, paths.MODEL)
    pipeline(here, run, {"acc": 0.5})
    known = (here / paths.EVALUATED).read_text(encoding="utf-8")
    for what, place in (("model", "models/model"), ("images", "data/cache")):
        changed = json.loads(known) | {what: "0" * 64}
        (here / paths.EVALUATED).write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(VtccError, match=rf"metrics\.json: not of the {what} in {place} now"):
            registry.register_current(here)
    (here / paths.EVALUATED).unlink()
    with pytest.raises(VtccError, match=r"evaluated\.json: no such file; run `dvc repro`"):
        registry.register_current(here)
    assert evaluations_of(client, run) == []


def moved_meanwhile(monkeypatch, client, name, version):
    """Lets somebody promote `version` by hand while two models are compared."""

    def challenge(challenger, fetched, cache_dir=paths.CACHE):
        if promotion.holder(client, name) != version:
            promotion.promote(name, version, "by hand")
        return True, "it is better", {"challenger_x": 1.0}

    spec = create_autospec(champion.challenge, side_effect=challenge)
    monkeypatch.setattr(champion, "challenge", spec)
    return spec


def test_a_promotion_during_a_comparison_is_not_overwritten_unseen(
    client, cache, here, monkeypatch
):
    model = toy.model(here / "m" / "same", 0)
    for _ in range(2):
        registry.register("raced", trained(cache, model), model)
    spec = moved_meanwhile(monkeypatch, client, "vtcc-raced", "2")
    third = registry.register("raced", trained(cache, model), model)
    # Compared with version 1, which lost the alias meanwhile; so again, with version 2.
    assert spec.call_count == 2
    assert (third.version, third.champion) == ("3", True)
    assert client.get_model_version("vtcc-raced", "3").tags["compared_with"] == "2"
    moves = [(m.before, m.version) for m in promotion.history(client, "vtcc-raced")]
    assert moves == [("", "1"), ("1", "2"), ("2", "3")]


def test_register_current_without_a_run_says_what_to_do(elsewhere):
    with pytest.raises(VtccError, match=r"cache\.json: .*run `dvc repro` first"):
        registry.register_current()


def test_fixed_views_are_fixed_mild_and_two():
    images = toy.images()
    a, b = champion.fixed_views(images)
    again = champion.fixed_views(images)
    assert np.array_equal(a, again[0])
    assert np.array_equal(b, again[1])
    assert a.shape == images.shape
    assert a.dtype == np.uint8
    assert not np.array_equal(a, b)
    flat = images.reshape(64, -1).astype(float)
    mild = [np.corrcoef(x, y)[0, 1] for x, y in zip(flat, a.reshape(64, -1), strict=True)]
    assert min(mild) > 0.75


def test_images_are_brought_to_what_a_model_takes():
    def takes(size, channels):
        return SimpleNamespace(cache_size=size, channels=channels)

    grey = toy.images()
    assert np.array_equal(champion._fit(grey, takes(16, 1)), grey)
    colour = champion._fit(grey, takes(16, 3))
    assert np.array_equal(colour, np.repeat(grey, 3, axis=3))
    assert np.array_equal(champion._fit(colour, takes(16, 1)), grey)
    small = champion._fit(grey, takes(8, 1))
    assert small.shape == (64, 8, 8, 1)
    assert small.dtype == np.uint8
    assert abs(small.mean() - grey.mean()) < 1


def test_pretrained_encoders_are_compared_on_fewer_images():
    def of(**model):
        return SimpleNamespace(info={"model": model})

    assert champion._most(of(), of(encoder="vit")) == 2000
    assert champion._most(of(encoder="vit"), of(encoder="lite2")) == 400


def test_champion_of_other_channels_is_compared(cache, tmp_path):
    grey = toy.model(tmp_path / "grey", 0)
    colour = toy.model(tmp_path / "colour", 0, channels=3)
    better, reason, figures = champion.challenge(grey, lambda room: colour)
    scores = {
        who: figures[f"{who}_view_consistency"] + figures[f"{who}_reference_silhouette"]
        for who in ("challenger", "champion")
    }
    assert better is (scores["challenger"] > scores["champion"])
    assert reason == (
        f"the challenger scores {scores['challenger']:.4f}, the champion {scores['champion']:.4f}"
    )
    # A model is not better than itself.
    assert not champion.challenge(grey, lambda room: grey)[0]


def test_a_model_that_decodes_otherwise_sees_the_files_its_own_way(elsewhere, monkeypatch):
    import tifffile

    from vtcc.engine import predict

    # Band 1 is what the cache holds, band 2 its negative.
    grey = toy.images()
    made = toy.project(elsewhere)
    for path, image in zip(made.paths, grey, strict=True):
        file = paths.IMAGES / path
        file.parent.mkdir(parents=True, exist_ok=True)
        both = np.concatenate([image, 255 - image], axis=2)
        tifffile.imwrite(file, both, photometric="minisblack", planarconfig="contig")
    rows = np.arange(64)

    def seen(**decoding):
        takes = {"channels": 1, "max_pixels": 10**6, "size": 16, "bands": [], "stretch": "type"}
        takes |= {"stretch_range": [0.0, 255.0]} | decoding
        model = SimpleNamespace(channels=takes["channels"], decoding=takes)
        return champion._as_seen(made, paths.IMAGES, rows, grey, model)

    assert seen() is grey and seen(channels=3) is grey
    assert np.array_equal(seen(bands=[2]), 255 - grey)
    assert np.array_equal(seen(channels=2)[..., 1:], 255 - grey)
    ours = toy.model(elsewhere / "ours", 0)
    theirs = toy.model(elsewhere / "theirs", 0, bands=[2])
    _, _, figures = champion.challenge(ours, lambda room: theirs)
    alone = champion.scores(predict.load(theirs, "cpu"), champion.fixed_views(255 - grey), grey)
    assert {k: figures[f"champion_{k}"] for k in alone} == alone
    # The files beside the cache, not those of the working directory: a worktree has its own.
    (elsewhere / "here").mkdir()
    monkeypatch.chdir(elsewhere / "here")
    assert champion.challenge(ours, lambda room: theirs, elsewhere / paths.CACHE)[2] == figures
    theirs = toy.model(elsewhere / "more", 0, channels=5)
    where = elsewhere / paths.CACHE
    better, reason, figures = champion.challenge(ours, lambda room: theirs, where)
    assert (better, figures) == (False, {})
    assert reason == (
        "the models decode images differently (no band 3 of the 5 channels: the image has 2 bands)"
    )


def test_fetch_finds_what_is_registered(cache, here, tmp_path):
    done = registry.register("found", trained(cache, paths.MODEL))
    for uri in (
        "models:/vtcc-found@champion",
        "models:/vtcc-found/1",
        "models:/vtcc-found/latest",
        f"runs:/{done.run_id}/model",
    ):
        room = tmp_path / str(abs(hash(uri)))
        room.mkdir()
        where = fetch.fetch(uri, room)
        weights = (where / "model.safetensors").read_bytes()
        assert weights == (here / paths.MODEL / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/vtcc-nothing@champion", "no registered model 'vtcc-nothing'.*`vtcc register`"),
        ("models:/vtcc-errors@winner", r"no alias 'winner'; it has: challenger \(version 1\), ch"),
        ("models:/vtcc-errors/9", "has no version 9; it has: 1"),
        ("models:/vtcc-errors", "which version"),
        ("runs:/" + "0" * 32 + "/model", "not found in sqlite"),
        ("models:/", "not found in"),
    ],
)
def test_fetch_errors_are_one_clear_line(cache, client, tmp_path, uri, message):
    try:
        client.get_registered_model("vtcc-errors")
    except Exception:
        registry.register("errors", trained(cache, paths.MODEL))
    with pytest.raises(VtccError, match=message) as caught:
        fetch.fetch(uri, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_package_that_a_store_in_a_bucket_needs_is_one_line(client, tmp_path, monkeypatch):
    def fail(uri, room):
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    stand_in(monkeypatch, fetch, "download", fail)
    with pytest.raises(VtccError, match=r"its files could not be fetched .No module named 'boto3'"):
        fetch.fetch(f"runs:/{'0' * 32}/model", tmp_path)


def test_a_model_without_versions_is_one_clear_line(client):
    client.create_registered_model("vtcc-empty")
    for uri in ("models:/vtcc-empty/latest", "models:/vtcc-empty/1"):
        with pytest.raises(VtccError, match=r"vtcc-empty has no version .*; it has: none"):
            fetch.version(uri)


def test_the_hundred_and_first_model_and_version_are_found(client, monkeypatch):
    """MLflow gives 100 models at a time; a page of two shows the same sooner."""
    for name in ("vtcc-many-a", "vtcc-many-b", "vtcc-many-c"):
        client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version("vtcc-many-c", source="file:///nowhere")
    for search in ("search_registered_models", "search_model_versions"):
        real = getattr(client, search)
        monkeypatch.setattr(client, search, functools.partial(real, max_results=2))
    stand_in(monkeypatch, store, "client", lambda: client)
    assert fetch.version("models:/vtcc-many-c/latest")["version"] == "3"
    assert promotion.promote("vtcc-many-c", "1").version == "1"
