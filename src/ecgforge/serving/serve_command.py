"""`ecgforge serve`: the service and its page."""

import importlib
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from ecgforge.errors import ConfigError, MissingExtraError
from ecgforge.serving.options import MODEL_HELP

SHORTEST_TOKEN = 12


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8321,
    model: Annotated[Path | None, typer.Option(help=MODEL_HELP)] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ECGFORGE_TOKEN",
            help="Secret that every request has to carry; better given in ECGFORGE_TOKEN, where no list of "
            "processes shows it.",
        ),
    ] = None,
    kit: Annotated[Path | None, typer.Option(help="Folder of a reading kit to be read on the page /reading.")] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="The kit's KIT-key.json: readers see their score once all is answered, no sooner."),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Folder for the readers' answers; by default KIT-answers beside the kit.")
    ] = None,
) -> None:
    """Serve the page and the REST service until interrupted (Ctrl-C).

    Example: `ecgforge serve`, then open http://127.0.0.1:8321

    Reading room: `ecgforge turing make` makes a kit, `ecgforge serve --kit KIT` lets readers answer it in a browser,
    `ecgforge turing score KIT-key.json KIT-answers/*.csv` scores them all.

    No data leaves this machine, and the page needs no network. Anyone who can reach the address can use the
    service, so by default only this machine can. /docs lists the routes.
    """
    require_guarded(host, token)
    if kit is None and (key, answers) != (None, None):
        raise ConfigError("expected --key and --answers with a reading kit only; give its folder as --kit")
    require_packages()
    import uvicorn

    from ecgforge.generate import Generator
    from ecgforge.serving.rest import LOOPBACK_NAMES, make_app
    from ecgforge.serving.service.reading import ReadingRoom

    with listen(host, port) as listener:
        room = None if kit is None else ReadingRoom(kit, answers=answers, key_file=key)
        generator = Generator.load(model)
        hosts = LOOPBACK_NAMES if is_loopback(host) else None
        app = make_app(generator, token=token, hosts=hosts, room=room)
        if room is not None:
            typer.echo(f"reading room on {address(listener)}/reading, answers go to {room.answers_folder}")
        typer.echo(f"ecgforge with the model {generator.config.name} on {address(listener)} (Ctrl-C ends it)")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def require_guarded(host: str, token: str | None) -> None:
    """Check that strangers cannot use the service.

    Raises:
        ConfigError: others can reach the address and there is no token, or the token is too short or cannot be sent.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"expected a token for a service that others can reach at {host}, got none; give --token, or leave "
            "--host out"
        )
    # The token itself is in no message: messages end up in logs.
    if token is not None and not (
        len(token) >= SHORTEST_TOKEN and token.isascii() and token.isprintable() and " " not in token
    ):
        raise ConfigError(
            f"expected a token of at least {SHORTEST_TOKEN} letters, digits or signs without spaces, got one that is "
            "not; `python -c 'import secrets; print(secrets.token_urlsafe())'` makes one"
        )


def require_packages() -> None:
    """Check that the optional packages of the service are there.

    Raises:
        MissingExtraError: one is not; the message says how to install it.
    """
    for name in ("fastapi", "uvicorn", "python_multipart"):
        try:
            importlib.import_module(name)
        except ImportError as problem:
            raise MissingExtraError(
                f"expected the package {name} for the service, which is not installed; install it with: "
                "pip install 'ecgforge[serve]'"
            ) from problem


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}; take another --port") from error


def address(listener: socket.socket) -> str:
    """The address to open in a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
