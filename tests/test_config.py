"""Configurations: strict reading, precedence, inverses, messages that name source and key."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgforge.config import (
    from_dict,
    load_json,
    load_toml,
    merge,
    parse_overrides,
    resolve,
    to_dict,
    write_json,
)
from ecgforge.errors import ConfigError


@dataclass(frozen=True)
class Network:
    layers: int = 4
    dropout: float = 0.1
    bidirectional: bool = True
    norm: Literal["layer", "batch"] = "layer"

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ConfigError(f"expected at least 1 layer, got {self.layers}")


@dataclass(frozen=True)
class Run:
    name: str
    network: Network = Network()
    folds: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = None
    window: int | str = "all"
    taps: tuple[Network, ...] = field(default_factory=tuple)


RUN = Run(name="first")


def message(cls: type, mapping: dict, where: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        from_dict(cls, mapping, where=where)
    return str(caught.value)


def test_missing_keys_take_the_defaults():
    assert from_dict(Run, {"name": "first"}) == RUN


def test_nested_values_arrive_with_their_types():
    run = from_dict(
        Run,
        {
            "name": "x",
            "network": {"dropout": 1},
            "betas": [0, 1],
            "clip": 2,
            "window": 7,
            "taps": [{"layers": 2}],
        },
    )
    assert run == Run("x", Network(dropout=1.0), betas=(0.0, 1.0), clip=2.0, window=7, taps=(Network(2),))
    assert [type(value) for value in (run.network.dropout, run.clip, *run.betas)] == [float] * 4


def test_to_dict_is_plain_json():
    assert to_dict(RUN) == {
        "name": "first",
        "network": {"layers": 4, "dropout": 0.1, "bidirectional": True, "norm": "layer"},
        "folds": [1, 2],
        "betas": [0.9, 0.999],
        "clip": None,
        "window": "all",
        "taps": [],
    }


networks = st.builds(
    Network,
    layers=st.integers(1, 10**6),
    dropout=st.floats(allow_nan=False, allow_infinity=False),
    bidirectional=st.booleans(),
    norm=st.sampled_from(["layer", "batch"]),
)
runs = st.builds(
    Run,
    name=st.text(),
    network=networks,
    folds=st.lists(st.integers()).map(tuple),
    clip=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    window=st.integers() | st.text(),
    taps=st.lists(networks, max_size=2).map(tuple),
)


@given(runs)
def test_dataclass_to_json_text_and_back_is_the_identity(run):
    assert from_dict(Run, json.loads(json.dumps(to_dict(run)))) == run


def test_none_can_be_written_as_a_word():
    assert from_dict(Run, {"name": "x", "clip": "none"}).clip is None


def test_unknown_key_is_named_with_source_path_and_suggestion():
    text = message(Run, {"name": "x", "network": {"layer": 3}}, where="my.toml")
    assert text == "my.toml: network.layer: unknown key; did you mean layers?"


def test_unknown_key_far_from_all_lists_the_known_ones():
    text = message(Network, {"zzz": 1})
    assert all(item.name in text for item in fields(Network))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"network": {"layers": 3.5}}, ["network.layers", "whole number", "3.5 (float)"]),
        ({"network": {"layers": True}}, ["network.layers", "whole number", "True (bool)"]),
        ({"network": {"dropout": False}}, ["network.dropout", "a number", "False (bool)"]),
        ({"network": {"dropout": float("nan")}}, ["network.dropout", "finite", "nan"]),
        ({"network": {"bidirectional": 1}}, ["network.bidirectional", "true or false", "1 (int)"]),
        ({"network": {"norm": "bach"}}, ["network.norm", "layer, batch", "'bach'", "did you mean batch?"]),
        ({"network": 3}, ["network", "a table of settings", "3 (int)"]),
        ({"folds": [1, "2"]}, ["folds[1]", "whole number", "'2' (str)"]),
        ({"folds": "1,2"}, ["folds", "a list such as [1, 2]", "'1,2' (str)"]),
        ({"betas": [0.9]}, ["betas", "a list of 2 values", "got 1 values"]),
        ({"clip": "high"}, ["clip", "a number", "'high' (str)"]),
        ({"window": 2.5}, ["window", "a whole number or a text", "2.5 (float)"]),
        ({"name": 3}, ["name", "a text", "3 (int)"]),
        ({"network": {"layers": 0}}, ["network", "at least 1 layer"]),
    ],
)
def test_a_value_that_does_not_fit_names_key_expectation_and_value(change, parts):
    text = message(Run, {"name": "x", **change}, where="my.toml")
    assert text.startswith("my.toml: ")
    assert [part for part in parts if part not in text] == []


def test_missing_required_key_is_named():
    assert message(Run, {}, where="my.toml") == "my.toml: name: required key is missing; add it"


def test_merge_is_deep_and_leaves_its_arguments_alone():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(base, {"a": {"c": [3]}, "d": {"e": 2}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_overrides_are_toml_values_and_bare_words_are_text():
    assert parse_overrides(
        [
            "training.rate=1e-3",
            "network.layers=6",
            "folds=[1,2]",
            "on=true",
            "name=fast run",
            'word="7"',
            "formula=a=b",
        ]
    ) == {
        "training": {"rate": 1e-3},
        "network": {"layers": 6},
        "folds": [1, 2],
        "on": True,
        "name": "fast run",
        "word": "7",
        "formula": "a=b",
    }


def test_later_override_wins_and_neighbours_stay():
    assert parse_overrides(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize("text", ["2024-01-31", "1\nlayers = 9", "[1, 2", ""])
def test_texts_that_only_look_like_toml_stay_texts(text):
    assert parse_overrides([f"name={text}"]) == {"name": text}


@pytest.mark.parametrize("entry", ["layers", "=3", "a..b=1", ".a=1"])
def test_malformed_override_is_refused(entry):
    with pytest.raises(ConfigError, match=r"--set: expected key=value .*" + entry):
        parse_overrides([entry])


def test_set_beats_file_beats_preset(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "file"\n[network]\nlayers = 7\ndropout = 0.3\n')
    run = resolve(RUN, file=file, overrides=["network.layers=9"])
    assert run == Run(name="file", network=Network(layers=9, dropout=0.3))
    assert resolve(RUN) == RUN


def test_error_names_the_source_that_brought_the_key(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text("[network]\nlayrs = 7\n")
    with pytest.raises(ConfigError, match=r"mine\.toml: network\.layrs: .*layers"):
        resolve(RUN, file=file, overrides=["network.layers=9"])
    with pytest.raises(ConfigError, match=r"^--set: network\.layrs: .*layers"):
        resolve(RUN, overrides=["network.layrs=9"])


@pytest.mark.parametrize(
    ("load", "content", "part"),
    [
        (load_toml, b"a = \n", "line 1"),
        (load_toml, b"\xff\xfe", "TOML"),
        (load_json, b"{", "JSON"),
        (load_json, b"[1]", "table of settings"),
    ],
)
def test_file_that_is_not_what_its_name_says_is_refused_by_name(tmp_path: Path, load, content, part):
    file = tmp_path / "broken"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken.*" + part):
        load(file)


def test_absent_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load_toml(tmp_path / "absent.toml")


def test_written_json_reads_back_and_replaces_the_old_one(tmp_path: Path):
    path = tmp_path / "config.json"
    write_json({"name": "old"}, path)
    write_json(Run("höher", clip=0.5), path)
    assert from_dict(Run, load_json(path)) == Run("höher", clip=0.5)
    assert path.read_text(encoding="utf-8").startswith('{\n  "name": "höher",\n')
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def test_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "config.json"
    write_json({"name": "old"}, path)
    with pytest.raises(TypeError):
        write_json({"name": {1, 2}}, path)
    assert load_json(path) == {"name": "old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]
