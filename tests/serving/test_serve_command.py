"""`ecgforge serve`: where it listens, and what it refuses before a model is loaded."""

import socket

import pytest
import typer
from typer.testing import CliRunner

from ecgforge.errors import ConfigError, DataError
from ecgforge.serving.serve_command import address, is_loopback, listen, require_guarded, serve


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_others_reach_it_only_with_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="give --token"):
        require_guarded(host, None)
    require_guarded(host, "a-long-enough-token")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    assert is_loopback(host)
    require_guarded(host, None)


@pytest.mark.parametrize("token", ["", "short", "with spaces inside", "not-ascii-schlüssel", "line\nbreak-in-it"])
def test_weak_tokens_are_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigError, match="at least 12 letters") as caught:
        require_guarded("127.0.0.1", token)
    assert not token or token not in str(caught.value)


def test_a_taken_port_is_told_before_anything_is_loaded() -> None:
    app = typer.Typer()
    app.command()(serve)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address(taken) == f"http://127.0.0.1:{port}"
        result = CliRunner().invoke(app, ["--port", str(port), "--model", "no such folder"])
    assert isinstance(result.exception, ConfigError)
    assert f"cannot listen on 127.0.0.1 port {port}" in str(result.exception)


def test_the_address_of_ipv6_has_brackets() -> None:
    try:
        listener = listen("::1", 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert listener.family == socket.AF_INET6
        assert address(listener).startswith("http://[::1]:")


def test_the_token_may_come_from_the_environment() -> None:
    app = typer.Typer()
    app.command()(serve)
    result = CliRunner().invoke(app, ["--host", "0.0.0.0"], env={"ECGFORGE_TOKEN": "short"})
    assert "at least 12 letters" in str(result.exception)


def test_a_key_without_its_kit_is_refused() -> None:
    app = typer.Typer()
    app.command()(serve)
    for option in ("--key", "--answers"):
        result = CliRunner().invoke(app, [option, "somewhere"])
        assert isinstance(result.exception, ConfigError)
        assert "give its folder as --kit" in str(result.exception)


def test_what_is_no_kit_is_told_before_a_model_is_loaded() -> None:
    app = typer.Typer()
    app.command()(serve)
    result = CliRunner().invoke(app, ["--port", "0", "--kit", "no such kit", "--model", "no such folder"])
    assert isinstance(result.exception, DataError)
    assert "no such kit/answers.csv: cannot be read" in str(result.exception)
