import dataclasses
import hashlib
import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from tests.encoders.hub_server import COMMIT, Hub, serve
from tests.fakes import stand_in
from vtcc import encoders, quiet
from vtcc.encoders import catalog, conversion, hub, tensor_file, weights
from vtcc.encoders.catalog import HubSource, PackageSource
from vtcc.errors import VtccError, in_one_line

REPO = "timm/test_resnet.r160_in1k"


@pytest.fixture
def state():
    """Weights of a tiny model of timm, under timm's names and in its order."""
    torch.manual_seed(3)
    return timm.create_model("test_resnet").state_dict()


@pytest.fixture
def card():
    """A card for it, found nowhere."""
    return dataclasses.replace(
        encoders.card("lite2"),
        name="tiny",
        timm="test_resnet.r160_in1k",
        package=None,
        hub=HubSource(repo=REPO, revision=COMMIT, file="model.safetensors", sha256=None),
    )


def pinned(card, data):
    source = dataclasses.replace(card.hub, sha256=hashlib.sha256(data).hexdigest())
    return dataclasses.replace(card, hub=source)


def as_bytes(state, tmp_path):
    save_file(state, tmp_path / "bytes.safetensors")
    return (tmp_path / "bytes.safetensors").read_bytes()


def in_package(card, state, tmp_path, monkeypatch, name="tiny_weights_package"):
    """The state dict as a package on the path would bring it, under names of its own."""
    module = tmp_path / "site" / name
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save({f"own.{i}": value for i, value in enumerate(state.values())}, module / "w-1.pth")
    (tmp_path / "site" / f"{name}-2.5.dist-info").mkdir()
    (tmp_path / "site" / f"{name}-2.5.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    digest = hashlib.sha256((module / "w-1.pth").read_bytes()).hexdigest()
    source = PackageSource(distribution=name, module=name, file="w-*.pth", sha256=digest)
    return dataclasses.replace(card, package=source)


def in_hub_cache(data, tmp_path, commit=COMMIT):
    snapshot = tmp_path / "hf" / f"models--{REPO.replace('/', '--')}" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(data)


def test_sources_are_tried_in_order_and_the_digest_is_the_same_from_all(
    tmp_path, card, state, monkeypatch, capsys
):
    data = as_bytes(state, tmp_path)
    own, directory = tmp_path / "own.pth", tmp_path / "weights"
    with serve(Hub({f"{REPO}/model.safetensors": data})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        reached = [encoders.resolve(card, may_download=True)]  # the only source there is
        asked = len(served.asked)
        reached.append(encoders.resolve(card))  # what was downloaded is kept
        card = in_package(card, state, tmp_path, monkeypatch)
        reached.append(encoders.resolve(card, may_download=True))
        directory.mkdir()
        torch.save(state, directory / "w-1.pth")
        (directory / "tiny.safetensors").write_bytes(data)
        monkeypatch.setenv("VTCC_WEIGHTS", str(directory))
        card = dataclasses.replace(card, package=dataclasses.replace(card.package, file="w-1.pth"))
        reached.append(encoders.resolve(card, may_download=True))
        torch.save(state, own)
        reached.append(encoders.resolve(card, weights=own, may_download=True))
        assert len(served.asked) == asked
    assert [weights.source for weights in reached] == [
        f"Hugging Face hub, {REPO}@{COMMIT[:12]}",
        f"Hugging Face cache, {REPO}@{COMMIT[:12]}",
        "package tiny_weights_package 2.5",
        f"VTCC_WEIGHTS: {directory / 'tiny.safetensors'}",
        f"file {own}",
    ]
    assert len({weights.digest for weights in reached}) == 1
    assert reached[0].digest == conversion.digest_of(state)
    notes = capsys.readouterr().out.splitlines()
    assert "weights of tiny: package tiny_weights_package 2.5" in notes


@pytest.mark.parametrize("name", ["tiny", "test_resnet.r160_in1k", "test_resnet.r160_in1k/model"])
def test_a_directory_holds_weights_by_three_names(tmp_path, card, state, monkeypatch, name):
    file = tmp_path / "weights" / f"{name}.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(as_bytes(state, tmp_path))
    monkeypatch.setenv("VTCC_WEIGHTS", str(tmp_path / "weights"))
    assert encoders.resolve(card).file == file
    assert encoders.available(card) == f"VTCC_WEIGHTS: {file}"


def test_weights_may_lie_below_a_folder_whose_name_is_not_utf8(tmp_path, card, state, monkeypatch):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    monkeypatch.setenv("VTCC_CACHE", str(odd))
    torch.save(state, odd / "w.pth")
    for _ in range(2):  # as it is converted, and as it is found again
        kept = encoders.resolve(card, weights=odd / "w.pth")
        assert kept.digest == conversion.digest_of(state)
        assert kept.file.parent == odd / "weights"
    read = tensor_file.read_tensors(kept.file)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)
    kept.file.write_bytes(b"damaged")
    assert encoders.resolve(card, weights=odd / "w.pth").digest == kept.digest


def test_a_directory_that_is_none_is_refused(tmp_path, card, monkeypatch):
    monkeypatch.setenv("VTCC_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(VtccError, match=r"VTCC_WEIGHTS: no directory '.*gone'; correct"):
        encoders.resolve(card)


def test_offline_without_weights_one_sentence_says_where_was_looked(tmp_path, card, monkeypatch):
    with pytest.raises(encoders.WeightsMissing) as error:
        encoders.resolve(card, may_download=True)
    words = str(error.value)
    assert "\n" not in words
    assert words.startswith("encoder tiny: no weights here (looked in: VTCC_WEIGHTS (not set); ")
    assert f"Hugging Face cache {tmp_path / 'hf'}; {REPO}/model.safetensors at {COMMIT}" in words
    assert "Connection refused" in words
    assert "`vtcc encoders fetch tiny` where there is a network" in words
    assert encoders.available(card) is None
    assert not (tmp_path / "vtcc-cache").exists()


def test_the_hub_is_not_asked_unless_it_may_be(tmp_path, card, state, monkeypatch):
    with serve(Hub({f"{REPO}/model.safetensors": as_bytes(state, tmp_path)})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        with pytest.raises(encoders.WeightsMissing, match="no weights here"):
            encoders.resolve(card)
        with monkeypatch.context() as patch:  # the user's own switch, not vtcc's
            patch.delenv("VTCC_HUB_OFFLINE_BY_DEFAULT", raising=False)
            patch.setenv("HF_HUB_OFFLINE", "1")
            with pytest.raises(encoders.WeightsMissing, match="HF_HUB_OFFLINE is set; unset it"):
                encoders.resolve(card, may_download=True)
        assert served.asked == []


def test_a_download_is_pinned_verified_and_goes_on_after_a_cut(
    tmp_path, card, state, monkeypatch, capsys
):
    from huggingface_hub import constants

    assert quiet.SWITCHES["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    data = as_bytes(state, tmp_path)
    card = pinned(card, data)
    with serve(Hub({f"{REPO}/model.safetensors": data}, cuts=[1_000_000])) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        resolved = encoders.resolve(card, may_download=True)
        asked = [line for line in served.asked if line.startswith("GET")]
    path = f"GET /{REPO}/resolve/{COMMIT}/model.safetensors"
    assert asked == [path, f"{path} bytes=1000000-"]
    assert resolved.file.read_bytes() == data
    assert resolved.digest == conversion.digest_of(state)
    assert constants.HF_HUB_OFFLINE is True  # again
    said = capsys.readouterr().out
    total = round(len(data) / 1e6)
    lines = [json.loads(line)["progress"] for line in said.splitlines() if "progress" in line]
    assert lines[-1] == {"stage": "fetch tiny", "done": total, "total": total, "unit": "MB"}
    assert encoders.available(card) == "Hugging Face cache"


def test_an_unpinned_digest_is_said(tmp_path, card, state, monkeypatch, capsys):
    data = as_bytes(state, tmp_path)
    with serve(Hub({f"{REPO}/model.safetensors": data})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        encoders.resolve(card, may_download=True)
    digest = hashlib.sha256(data).hexdigest()
    expected = f"tiny: the card pins no digest of {REPO}; got sha256 {digest}"
    assert expected in capsys.readouterr().out.splitlines()


def test_a_download_of_another_digest_is_refused_and_deleted(tmp_path, card, state, monkeypatch):
    data = as_bytes(state, tmp_path)
    with serve(Hub({f"{REPO}/model.safetensors": data})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        with pytest.raises(VtccError) as error:
            encoders.resolve(pinned(card, b"other"), may_download=True)
    assert hashlib.sha256(data).hexdigest() in str(error.value)
    assert hashlib.sha256(b"other").hexdigest() in str(error.value)
    models = tmp_path / "hf" / f"models--{REPO.replace('/', '--')}"
    assert [f for f in models.rglob("*") if f.is_file() or f.is_symlink()] == []
    assert encoders.available(card) is None


def test_a_damaged_file_of_the_cache_is_fetched_again(tmp_path, card, state, monkeypatch, capsys):
    data = as_bytes(state, tmp_path)
    in_hub_cache(data[:-8] + b"12345678", tmp_path)
    card = pinned(card, data)
    with pytest.raises(encoders.WeightsMissing):
        encoders.resolve(card)
    assert "not used:" in capsys.readouterr().out
    with serve(Hub({f"{REPO}/model.safetensors": data})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        assert encoders.resolve(card, may_download=True).file.read_bytes() == data


def test_a_file_the_hub_lacks_is_named(card, monkeypatch):
    with serve(Hub()) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        with pytest.raises(encoders.WeightsMissing, match=r"not downloaded \(.*404"):
            encoders.resolve(card, may_download=True)


def test_a_restricted_licence_is_accepted_by_name_before_anything_is_fetched(
    tmp_path, card, state, monkeypatch
):
    card = dataclasses.replace(card, restricted=True, licence="Strange License")
    with serve(Hub({f"{REPO}/model.safetensors": as_bytes(state, tmp_path)})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        for accepted in ((), ("lite2",)):
            with pytest.raises(
                encoders.LicenceNotAccepted, match=r"under the Strange License .*-licence tiny"
            ):
                encoders.resolve(card, may_download=True, accept_licence=accepted)
        assert served.asked == []
        resolved = encoders.resolve(card, may_download=True, accept_licence=("tiny",))
    assert resolved.digest == conversion.digest_of(state)


def test_pickled_weights_are_converted_once(tmp_path, card, state, monkeypatch):
    card = in_package(card, state, tmp_path, monkeypatch)
    first = encoders.resolve(card)
    assert first.file.parent == tmp_path / "vtcc-cache" / "weights"
    converted = load_file(first.file)
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[name], state[name]) for name in state)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", None)  # not read again
        assert encoders.resolve(card) == first
    assert sorted(p.name for p in first.file.parent.iterdir()) == [first.file.name]
    assert "tiny_weights_package" not in sys.modules


def test_a_damaged_conversion_is_made_again(tmp_path, card, state, monkeypatch):
    card = in_package(card, state, tmp_path, monkeypatch)
    first = encoders.resolve(card)
    data = first.file.read_bytes()
    first.file.write_bytes(data[:-8] + b"12345678")
    again = encoders.resolve(card)
    assert (again.digest, again.file.read_bytes()) == (first.digest, data)


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tmp_path, card, state, monkeypatch, capsys
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VTCC_CACHE", str(tmp_path / "file"))
    card = in_package(card, state, tmp_path, monkeypatch)
    resolved = encoders.resolve(card)
    assert resolved.digest == conversion.digest_of(state)
    assert resolved.file.is_file() and tmp_path not in resolved.file.parents
    assert "cannot be written to" in capsys.readouterr().out


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, card):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(VtccError, match=r"trap\.pth: holds more than tensors"):
        encoders.resolve(card, weights=tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "vtcc-cache").exists()


def test_weights_of_another_model_are_refused(tmp_path, card, state, monkeypatch):
    stand_in(monkeypatch, catalog, "names", lambda: ["lite0", "lite2"])
    file = tmp_path / "w.pth"
    torch.save({f"x{i}": v for i, v in enumerate(list(state.values())[:-1])}, file)
    with pytest.raises(VtccError, match=r"not the weights of tiny .*: \d+ tensors, expected \d+"):
        encoders.resolve(card, weights=file)
    other = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(other, file)
    first = r"conv_stem\.weight is \(32, 3, 3, 3\) there, \(\d+, 3, 3, 3\) in timm"
    with pytest.raises(VtccError, match=rf"{first}; by its names and shapes it is .* lite0$"):
        encoders.resolve(card, weights=file)
    with pytest.raises(VtccError, match=r"gone\.pth: no file of weights for tiny"):
        encoders.resolve(card, weights=tmp_path / "gone.pth")


NAME = "a\x1b[31m\r\nb" + 3000 * "c"  # of a tensor in a file that anyone may have made


def test_a_name_in_a_file_of_weights_is_short_and_harmless_in_a_message(tmp_path, card):
    file = tmp_path / "w.pth"
    shown = r"a\\x1b\[31m bc{86}\.\.\."
    torch.save({NAME: torch.ones(3)}, file)
    with pytest.raises(VtccError, match=rf"1 tensors, expected \d+; {shown} is \(3,\) there"):
        encoders.resolve(card, weights=file)
    with pytest.raises(VtccError, match=rf"w\.pth: {shown}: of type int64, where"):
        tensor_file.check_numbers({NAME: torch.ones(1).long()}, file)
    assert in_one_line(ValueError(NAME), most=12) == r"a\x1b[31m..."


def test_weights_are_known_by_names_and_shapes(card, state, monkeypatch):
    cards = {"lite0": encoders.card("lite0"), "tiny": card}
    stand_in(monkeypatch, catalog, "names", lambda: sorted(cards))
    stand_in(monkeypatch, catalog, "card", lambda name: cards[name])
    assert conversion.whose(state, "lite9") == "by its names and shapes it is a file of tiny"
    assert conversion.whose(state, card.timm) == ""
    head = {name: value for name, value in state.items() if "fc" in name}
    short = {name: value[:1] for name, value in state.items() if value.ndim}
    assert conversion.whose(head, "lite9") == conversion.whose(short, "lite9") == ""


def test_the_digest_covers_names_types_shapes_and_bytes():
    tensors = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    digest = conversion.digest_of(tensors)
    assert digest == conversion.digest_of(dict(reversed(tensors.items())))
    others = [
        {"c": tensors["a"], "b": tensors["b"]},
        tensors | {"a": tensors["a"].reshape(2, 2)},
        tensors | {"b": torch.ones(2, dtype=torch.float16)},
        tensors | {"a": tensors["a"] + 1e-6},
    ]
    assert len({digest, *map(conversion.digest_of, others)}) == 5


def test_quiet_tells_its_own_switch_from_the_users(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("VTCC_HUB_OFFLINE_BY_DEFAULT", raising=False)
    quiet.apply()
    assert not quiet.hub_switched_off()
    monkeypatch.delenv("VTCC_HUB_OFFLINE_BY_DEFAULT")
    quiet.apply()
    assert quiet.hub_switched_off()


def test_the_cache_is_where_the_variables_say(monkeypatch):
    monkeypatch.delenv("VTCC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert conversion.cache_directory() == Path("/some/where/vtcc/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert conversion.cache_directory() == Path.home() / ".cache/vtcc/weights"
    assert hub.cache_directory().name == "hf"


def test_a_file_of_ones_own_has_not_the_cards_licence(tmp_path, card, state, monkeypatch):
    data = as_bytes(state, tmp_path)
    monkeypatch.setattr(weights.catalog, "names", lambda: ["tiny"])
    own = str(tmp_path / "bytes.safetensors")
    monkeypatch.setattr(weights.catalog, "card", lambda name: card)
    assert "licence" not in encoders.encoder_record("tiny", own)
    # The very file that the card names, given by hand, is under its licence.
    monkeypatch.setattr(weights.catalog, "card", lambda name: pinned(card, data))
    assert encoders.encoder_record("tiny", own)["licence"] == card.licence
