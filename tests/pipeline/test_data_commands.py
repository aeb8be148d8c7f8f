import json

import pytest
from typer.testing import CliRunner

from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError, DataError
from ecgforge.serving.data_commands import app, parse_folds


def run(*arguments):
    """Result of `ecgforge data ...`; errors of ours come through, as the main command prints them."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands") / "demo"
    result = run("simulate", folder, "-n", 6, "--seed", 3)
    assert result.exit_code == 0 and "6 simulated records" in result.stdout
    return folder


def test_simulate_build_info_verify(demo, tmp_path):
    store = tmp_path / "store"
    built = run("build", "ptbxl", demo, store, "--jobs", 1)
    assert built.exit_code == 0
    assert built.stdout == f"{store}: 6 records (0 left out, 0 repaired, 0 noted)\n"
    found = json.loads(run("info", store, "--json").stdout)
    assert (found["records"], found["rate"], found["synthetic"]) == (6, 100.0, True)
    text = run("info", store).stdout
    assert "6 of 10 s at 100 Hz, 12 leads" in text and "(synthetic)" in text
    for code, number in found["statements"].items():
        assert f"{code:<8}{number:>6}" in text
    verified = run("verify", store)
    assert verified.exit_code == 0 and verified.stdout.endswith(f"{store}: 6 records, usable\n")


def test_folds_and_overwrite(demo, tmp_path):
    store = tmp_path / "store"
    run("build", "ptbxl", demo, store, "--jobs", 1)
    everything = EcgStore.open(store).index
    fold = int(everything["fold"][0])
    with pytest.raises(DataError, match="--overwrite"):
        run("build", "ptbxl", demo, store, "--jobs", 1)
    run("build", "ptbxl", demo, store, "--jobs", 1, "--overwrite", "--folds", fold)
    assert len(EcgStore.open(store)) == (everything["fold"] == fold).sum()


def test_problems_are_summed_up_and_strict_refuses_them(demo, tmp_path):
    broken = sorted(demo.rglob("*.dat"))[2]
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    try:
        result = run("build", "ptbxl", demo, tmp_path / "store", "--jobs", 1)
        assert "5 records (1 left out, 0 repaired, 0 noted)" in result.stdout
        assert broken.name in result.stdout and "report.csv" in result.stdout
        with pytest.raises(DataError, match=broken.stem):
            run("build", "ptbxl", demo, tmp_path / "strict", "--jobs", 1, "--strict")
    finally:
        broken.write_bytes(content)


def test_build_wfdb_from_headers_and_from_a_table(demo, tmp_path):
    result = run("build", "wfdb", demo, tmp_path / "store", "--jobs", 1, "--seconds", 4, "--rate", 50)
    assert "6 records" in result.stdout
    store = EcgStore.open(tmp_path / "store")
    assert (store.rate, store.samples) == (50.0, 200)
    name = store.index["record_id"][0]
    (tmp_path / "labels.csv").write_text(f'record,statements,fold\n{name},"WPW,SR",7\n')
    run("build", "wfdb", demo, tmp_path / "two", "--jobs", 1, "--statements", tmp_path / "labels.csv")
    first = EcgStore.open(tmp_path / "two").record(0)
    assert first.statements == {"WPW": 1.0, "SR": 1.0} and first.provenance.fold == 7


def test_verify_of_a_damaged_store_exits_with_1(demo, tmp_path):
    run("build", "ptbxl", demo, tmp_path / "store", "--jobs", 1)
    path = tmp_path / "store" / "signals.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = run("verify", tmp_path / "store")
    assert result.exit_code == 1
    assert "error: files that do not match their checksums: 1 (signals.npy)" in result.stdout
    assert "not usable" in result.stdout


def test_help_teaches_with_an_example():
    for command in (("build", "ptbxl"), ("build", "wfdb"), ("info",), ("verify",), ("simulate",)):
        assert f"Example: ecgforge data {' '.join(command)}" in " ".join(run(*command, "--help").stdout.split())


def test_folds_in_words():
    assert parse_folds("1-8,9") == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert parse_folds(" 3, 1 - 2 ,2") == (1, 2, 3)
    for text in ("", "a", "1-", "-3", "1,,2", "1-2-3", "3-1"):
        with pytest.raises(ConfigError, match="expected"):
            parse_folds(text)
