"""The tiny world is made once; every page gets a folder and a shell of its own."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import uvicorn
from rehearsal import Rehearsal
from tiny_world import make_world, tiny, tiny_models

from ecgforge.serving import serve_command
from ecgforge.serving.notes import silence_notes


@pytest.fixture(scope="session")
def shipped_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What stands for the models that come with the package."""
    return tiny_models(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, shipped_models: dict[str, Path]) -> Path:
    """Data set, store, twin, runs and checkpoints, as the pages name them."""
    with pytest.MonkeyPatch.context() as patch:
        tiny(patch, shipped_models)
        return make_world(tmp_path_factory.mktemp("world"), shipped_models)


class Service:
    """`ecgforge serve` goes on in a thread, on a free port, until the page is done."""

    def __init__(self) -> None:
        self.port = 0
        self._servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def listen(self, host: str, port: int) -> object:
        """In place of serve_command.listen: only this machine, any port."""
        listener = _LISTEN("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        return listener

    def run(self, server: uvicorn.Server, sockets: list[object]) -> None:
        """In place of uvicorn.Server.run: returns when the service answers."""
        copies = [socket.dup() for socket in sockets]  # the command closes its own
        thread = threading.Thread(target=_RUN, args=(server,), kwargs={"sockets": copies}, daemon=True)
        thread.start()
        self._servers.append((server, thread))
        while not server.started:
            if not thread.is_alive():
                raise AssertionError("the service ended before it began")
            time.sleep(0.01)

    def stop(self) -> None:
        """End what was started."""
        for server, thread in self._servers:
            server.should_exit = True
            thread.join()


_LISTEN = serve_command.listen
_RUN = uvicorn.Server.run


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service of a page that starts one."""
    started = Service()
    monkeypatch.setattr(serve_command, "listen", started.listen)
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: started.run(server, sockets))
    yield started
    started.stop()


@pytest.fixture
def rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped_models: dict[str, Path], service: Service
) -> Iterator[Rehearsal]:
    """A reader in an empty folder, in the tiny world."""
    tiny(monkeypatch, shipped_models)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield Rehearsal(tmp_path, monkeypatch, address=lambda text: text.replace(":8321", f":{service.port}"))
    silence_notes(False)
