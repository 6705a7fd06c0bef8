import copy

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vtcc import config
from vtcc.config import compose
from vtcc.errors import VtccError

DIGITS = yaml.safe_load((config.PRESETS / "digits.yaml").read_text())


def changed(key, value):
    values = copy.deepcopy(DIGITS)
    *sections, name = key.split(".")
    at = values
    for section in sections:
        at = at[section]
    at[name] = value
    return values


@pytest.mark.parametrize("name", compose.names("run"))
def test_every_preset_survives_a_round_trip(name):
    values = yaml.safe_load((config.PRESETS / f"{name}.yaml").read_text())
    params = config.from_dict(config.Params, values)
    assert config.override(values, {}) == config.to_dict(params)
    assert config.flatten(values).items() <= config.flatten(config.to_dict(params)).items()


def test_a_parameter_that_came_later_may_lack_and_is_as_before(tmp_path):
    text = "".join(
        line
        for line in (config.PRESETS / "digits.yaml").read_text().splitlines(keepends=True)
        if not line.strip().startswith(("prior:", "overcluster_heads:"))
    )
    assert config.override(yaml.safe_load(text), {}) == DIGITS
    edited = yaml.safe_load(config.edit(text, {"train.loss.prior": "estimated"}))
    assert edited == changed("train.loss.prior", "estimated")
    (tmp_path / "params.yaml").write_text(text)
    assert config.to_dict(config.load(tmp_path / "params.yaml")) == DIGITS


def test_an_override_in_a_section_that_lacks_says_so():
    values = {k: v for k, v in DIGITS.items() if k != "train"}
    with pytest.raises(VtccError, match=r"train: missing from params\.yaml"):
        config.override(values, {"train.epochs": 2})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epoch", 3, "train.epoch: unknown parameter; did you mean 'epochs'?"),
        ("trian", {}, "trian: unknown parameter; did you mean 'train'?"),
        ("train.epochs", "ten", "train.epochs: expected a whole number, found 'ten'"),
        ("train.epochs", 2.5, "train.epochs: expected a whole number, found 2.5"),
        ("train.epochs", True, "train.epochs: expected a whole number, found True"),
        ("train.epochs", 0, "train.epochs: found 0; allowed: at least 1"),
        ("train.epochs", None, "train.epochs: expected a whole number, found None"),
        ("train.num_clusters", 1, "train.num_clusters: found 1; allowed: at least 2"),
        ("dataset.holdout", 1.5, "dataset.holdout: found 1.5; allowed: at least 0, at most 0.9"),
        ("dataset.holdout", float("nan"), "dataset.holdout: expected a number, found nan"),
        ("dataset.channels", 17, "dataset.channels: found 17; allowed: at least 1, at most 16"),
        ("validate.bands", [2, 2], "validate.bands: found a number twice in \\[2, 2\\]"),
        ("validate.bands", [0], "validate.bands\\[0\\]: found 0; allowed: at least 1"),
        ("validate.bands", [1.5], "validate.bands\\[0\\]: expected a whole number, found 1.5"),
        ("validate.bands", [1, 2], "found 2 bands \\[1, 2\\], but dataset.channels is 1; give as"),
        ("validate.stretch", "auto", "found 'auto'; allowed: type, image, percentile, fixed"),
        ("validate.stretch_range", [5, 1], "expected \\[low, high\\] with low <= high"),
        ("validate.near_duplicates", -2, "found -2; allowed: at least -1, at most 16"),
        ("train.optimizer.name", "sgd", "found 'sgd'; allowed: adam, adamw"),
        ("train.optimizer.learning_rate", 0, "found 0.0; allowed: above 0"),
        (
            "train.optimizer.learning_rate",
            "1e-3",
            "found '1e-3' \\(text, for its quotes; write 0.001\\)",
        ),
        ("train.augment.crop_scale", [1.0, 0.5], "expected \\[low, high\\] with low <= high"),
        ("train.augment.crop_scale", 0.5, "train.augment.crop_scale: expected a list, found 0.5"),
        ("train.augment.quarter_turns", 1, "expected true or false, found 1"),
        ("evaluate.baselines", ["kmeans"], "evaluate.baselines\\[0\\]: found 'kmeans'; allowed"),
        ("evaluate.baselines", ["ward", "ward"], "found a name twice"),
        ("evaluate.baselines", [["ward"]], "expected text, found \\['ward'\\]"),
        ("train.seed", 2**32, "found 4294967296; allowed: at least 0, at most 4294967295"),
        ("dataset.name", " ", "dataset.name: found ' '; allowed: 1 to 100 printable"),
        ("dataset.name", "a\nb", "allowed: 1 to 100 printable characters"),
        (
            "download.mirror",
            "https://ann:secret@host/x",
            "^download.mirror: found 'https://host/x' and a user, password or key in it; .* VTCC_M",
        ),
        ("download.mirror", "http://token@host", "^download.mirror: found 'http://host' and a us"),
        ("download.mirror", "file://ann:secret@host/x", "found 'file://host/x' and a user"),
        ("download.mirror", "https://host/?sig=secret", r"found 'https://host/\?sig=\*\*\*' and"),
        *(
            ("download.mirror", f"https://host/x?a=1&{name}=secret", rf"x\?a=1&{name}=\*\*\*' and")
            for name in (
                *("key", "api_key", "apikey", "AWSAccessKeyId", "subscription-key", "accessKey"),
                *("token", "X-Amz-Security-Token", "accesstoken", "tokenValue", "client_secret"),
                *("X-Amz-Signature", "sslPassword", "pwd", "pass", "user", "userName", "user_id"),
            )
        ),
        ("train.model", 3, "train.model: expected a section, found 3"),
        ("train.image_size", 18, "18 is not a multiple of train.model.patch_size \\(4\\)"),
        ("train.image_size", 32, "validate.image_size: 16 is below train.image_size \\(32\\)"),
        ("train.model.num_heads", 3, "64 is not a multiple of num_heads \\(3\\)"),
        ("train.optimizer.name", "adam", "found 0.05 with adam"),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_what_is_allowed(key, value, message):
    with pytest.raises(VtccError, match=message):
        config.from_dict(config.Params, changed(key, value))


@pytest.mark.parametrize(
    "mirror",
    [
        *("", "/data/a:b@c?key=1", "https://a.b:80/x@y", "a@b", "https://host/x?token="),
        "https://host/x?keyword=x&design=1&user_view=1&monkey=2&bypass=1&tokenizer=y&token=&key=#x",
    ],
)
def test_an_address_without_a_password_and_any_directory_is_a_mirror(mirror):
    read = config.from_dict(config.Params, changed("download.mirror", mirror))
    assert read.download.mirror == mirror


def test_bands_stretch_and_channels_are_checked_together():
    few = {"dataset.channels": 5, "validate.bands": [8, 4, 3, 11, 12], "validate.stretch": "fixed"}
    values = config.override(DIGITS, few)
    read = config.from_dict(config.Params, values).validate
    assert (read.bands, read.stretch_range) == ((8, 4, 3, 11, 12), (0.0, 255.0))
    with pytest.raises(VtccError, match=r"stretch_range: found \[7\.0, 7\.0\]; .* first must be"):
        config.override(values, {"validate.stretch_range": [7, 7]})
    with pytest.raises(VtccError, match=r"'imagenet' with dataset.channels 5; .* use 'dataset'"):
        config.override(values, {"train.normalize": "imagenet"})


def test_a_missing_key_is_refused_with_its_reason():
    values = copy.deepcopy(DIGITS)
    del values["train"]["epochs"]
    with pytest.raises(VtccError, match=r"train.epochs: missing from params.yaml \(passes over"):
        config.from_dict(config.Params, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("", "expected a section, found None"),
        ("- 1", "expected a section"),
        ("train: {}\ntrain: {}", "'train' is written twice"),
    ],
)
def test_a_file_that_is_no_params_file_is_refused(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(VtccError, match=message):
        config.load(tmp_path / "params.yaml")


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(VtccError, match="run `vtcc use digits`"):
        config.load(tmp_path / "params.yaml")


def test_params_are_frozen():
    params = config.from_dict(config.Params, DIGITS)
    with pytest.raises(AttributeError):
        params.train.epochs = 3


def test_override_changes_what_was_asked_and_checks_the_whole():
    new = config.override(DIGITS, {"train.epochs": 2, "dataset.holdout": 0.2})
    assert (new["train"]["epochs"], new["dataset"]["holdout"]) == (2, 0.2)
    assert DIGITS["train"]["epochs"] != 2
    with pytest.raises(VtccError, match=r"train.epoch: unknown parameter; did you mean 'train.ep"):
        config.override(DIGITS, {"train.epoch": 2})


def test_edit_keeps_comments_and_everything_else():
    text = (config.PRESETS / "digits.yaml").read_text()
    new = config.edit(text, {"train.epochs": 7, "train.augment.crop_scale": [0.4, 0.9]})
    different = [(a, b) for a, b in zip(text.split("\n"), new.split("\n"), strict=True) if a != b]
    assert different == [
        ("  epochs: 75", "  epochs: 7"),
        ("    crop_scale: [0.5, 1.0]", "    crop_scale: [0.4, 0.9]"),
    ]


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1).filter(str.strip))
def test_edit_survives_any_text(source):
    try:
        new = config.edit((config.PRESETS / "digits.yaml").read_text(), {"dataset.source": source})
    except yaml.YAMLError:
        return  # a character that YAML cannot hold
    assert yaml.safe_load(new)["dataset"]["source"] == source


def test_assignments_are_read_as_yaml():
    parsed = config.parse_assignments(["train.epochs=2", "a=[1, x]", "b=c=d", "e="])
    assert parsed == {"train.epochs": 2, "a": [1, "x"], "b": "c=d", "e": ""}
    with pytest.raises(VtccError, match="expected KEY=VALUE"):
        config.parse_assignments(["train.epochs"])


def test_every_parameter_has_a_reason():
    rows = config.explain(config.Params)
    assert [row.key for row in rows] == list(config.flatten(DIGITS))
    assert all(len(row.why) > 1 for row in rows)


@pytest.mark.parametrize(
    "values",
    [
        {"train": "x" * 5000},
        {"x" * 5000: 1},
        {"train": {"x" * 5000: 1}},
        {"train": {"epochs": "x" * 5000}},
        {"train": {"seed": ["x"] * 5000}},
        {"evaluate": {"baselines": ["x" * 5000]}},
        {"train": {"loss": {"prior": "x" * 5000}}},
    ],
    ids=lambda values: "/".join(values)[:20],
)
def test_what_is_found_is_not_repeated_at_any_length(values):
    complete = config.to_dict(config.load(config.PRESETS / "tiny.yaml"))
    for name, found in values.items():
        complete[name] = complete[name] | found if isinstance(found, dict) else found
    with pytest.raises(VtccError) as caught:
        config.from_dict(config.Params, complete)
    assert len(str(caught.value)) < 1000


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(VtccError, match="did you mean 'digits'"):
        compose.run_text("digit")
