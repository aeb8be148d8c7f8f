"""Models by name: folders and shipped ones without the network, the hub's only where `hf:` says so.

The hub is a stand-in on this machine that huggingface_hub talks to as to the real one.
"""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ecgforge.checkpoints.locate import SHIPPED, locate_model
from ecgforge.errors import CheckpointError, MissingExtraError

COMMIT, OLDER = "a" * 40, "b" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "README.md": b"# card", "pickled.bin": b"harm"}
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v1": OLDER, OLDER: OLDER}


@dataclass
class Hub:
    """A hub with one model, someone/ecg, that remembers what it was asked for."""

    address: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if found := re.fullmatch(r"/api/models/someone/ecg/revision/(\w+)", path):
            commit = REVISIONS.get(found[1])
            known = {"id": "someone/ecg", "sha": commit}
            return (200, {}, json.dumps(known).encode()) if commit else (404, {"X-Error-Code": "RevisionNotFound"}, b"")
        if re.fullmatch(r"/api/models/someone/ecg/tree/\w+", path):
            entries = [{"type": "file", "path": name, "size": len(text), "oid": name} for name, text in FILES.items()]
            return 200, {}, json.dumps(entries).encode()
        if found := re.fullmatch(r"/someone/ecg/resolve/(\w+)/(.+)", path):
            return 200, {"X-Repo-Commit": found[1], "ETag": f'"{found[2]}"'}, FILES[found[2]]
        return 404, {"X-Error-Code": "RepoNotFound"}, b""


@pytest.fixture
def hub() -> Iterator[Hub]:
    stand_in = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            stand_in.asked.append(path)
            status, headers, body = stand_in.answer(path)
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield stand_in
    server.shutdown()
    thread.join()
    server.server_close()


def locate_all(names: list[str | None], *, cache: Path, endpoint: str, offline: bool = False) -> list[str]:
    """What locate_model says to each name in a process of its own, then whether huggingface_hub was loaded."""
    code = """
import json, sys
from ecgforge.checkpoints.locate import locate_model
from ecgforge.errors import EcgforgeError
for name in json.loads(sys.argv[1]):
    try:
        print(locate_model(name))
    except EcgforgeError as error:
        print(f"{type(error).__name__}: {error}")
print("huggingface_hub" in sys.modules)
"""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    settings |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and key[:3] != "HF_"}
    words = [sys.executable, "-c", code, json.dumps(names)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env={**kept, **settings})
    return done.stdout.splitlines()


def test_folders_and_shipped_models_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_model() == locate_model("default") == SHIPPED["default"].folder
    assert locate_model(tmp_path) == locate_model(str(tmp_path)) == tmp_path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    assert locate_model("default") == Path("default")  # a folder of the user's own goes first


def test_every_shipped_model_is_there() -> None:
    for model in SHIPPED.values():
        assert {"config.json", "model.safetensors", "README.md"} <= {path.name for path in model.folder.iterdir()}
        assert model.licence in (model.folder / "README.md").read_text(encoding="utf-8")


def test_other_names_are_refused_with_advice() -> None:
    with pytest.raises(CheckpointError, match="expected a model folder, a shipped model .*; did you mean default"):
        locate_model("defualt")
    with pytest.raises(CheckpointError, match="is asked for as hf:someone/ecg$"):
        locate_model("someone/ecg")
    with pytest.raises(CheckpointError, match="`ecgforge models` lists the shipped ones"):
        locate_model(Path("/no/such/folder"))
    for name in (Path("hf:ecg"), "hf:ecg", "hf:someone/ecg/more", "hf:", "hf:someone/ecg@", "hf:/ecg"):
        with pytest.raises(CheckpointError, match="expected hf:owner/name or hf:owner/name@revision"):
            locate_model(name)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ecgforge\[hub\]'"):
        locate_model("hf:someone/ecg")


def test_names_without_the_prefix_ask_nobody(hub: Hub, tmp_path: Path) -> None:
    names: list[str | None] = [None, "default", "someone/ecg", str(tmp_path)]
    *said, loaded = locate_all(names, cache=tmp_path / "cache", endpoint=hub.address)
    assert said[0] == said[1] == str(SHIPPED["default"].folder)
    assert said[2].startswith("CheckpointError")
    assert (loaded, hub.asked, (tmp_path / "cache").exists()) == ("False", [], False)


def test_a_model_is_fetched_from_the_hub_once(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    names: list[str | None] = ["hf:someone/ecg", "hf:someone/ecg@v1"]
    newest, older, loaded = locate_all(names, cache=tmp_path, endpoint=hub.address)
    assert loaded == "True"
    assert (Path(newest).name, Path(older).name) == (COMMIT, OLDER)
    found = {path.name: path.read_bytes() for path in Path(newest).iterdir()}
    assert found == {name: text for name, text in FILES.items() if name != "pickled.bin"}
    assert not any("pickled" in path for path in hub.asked)

    before = list(hub.asked)
    assert locate_all(names, cache=tmp_path, endpoint=hub.address, offline=True)[:2] == [newest, older]
    assert hub.asked == before


def test_what_the_hub_does_not_give_is_one_message(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    names: list[str | None] = ["hf:nobody/ecg", "hf:someone/ecg@v9"]
    said = locate_all(names, cache=tmp_path, endpoint=hub.address)
    assert said[0] == "CheckpointError: expected a model hf:nobody/ecg on the hub, got none, or one that needs a login"
    assert said[1] == "CheckpointError: expected a branch, tag or commit of hf:someone/ecg@v9, got v9"
    said = locate_all(["hf:someone/ecg"], cache=tmp_path / "empty", endpoint="http://127.0.0.1:9")
    assert said[0].startswith("CheckpointError: cannot fetch hf:someone/ecg from the hub: ")
    assert said[0].endswith("; try again, or give a folder")
