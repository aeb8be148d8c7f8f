"""What stands before every route: who may ask, how much, and what browsers may do with the answers."""

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The page brings everything along: nothing is loaded from elsewhere, and nobody frames it.
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class _TooLargeError(Exception):
    """Leaves the reading of a request."""


class Guard:
    """ASGI middleware: host names, token, size of requests, headers of answers.

    Without a token only requests under `hosts` are answered: a web page elsewhere can give its own name the address
    127.0.0.1, but then the request carries that name.

    Args:
        app: What is guarded.
        token: Asked for as `Authorization: Bearer TOKEN`; None asks for none.
        open_paths: Beginnings of paths that need no token: the page itself and the description of the service.
        hosts: Host names that are answered; None for any.
        most_bytes: Size of a request's body.
    """

    def __init__(
        self, app: App, *, token: str | None, open_paths: tuple[str, ...], hosts: frozenset[str] | None, most_bytes: int
    ) -> None:
        self._app = app
        self._token = token
        self._open_paths = open_paths
        self._hosts = hosts
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(receive, send, most_bytes=self._most_bytes)
        refusal = self._refusal(scope["path"], dict(scope["headers"]))
        if refusal is not None:
            await _answer(passage.send, *refusal)
            return
        with suppress(_TooLargeError):
            await self._app(scope, passage.receive, passage.send)
        if passage.too_large:
            passage.too_large = False
            await _answer(passage.send, *self._too_large())

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and _without_port(host) not in self._hosts:
            return 421, f"this service does not answer as {host!r}", "open it under 127.0.0.1 or localhost"
        if self._token is not None and not self._is_open(path) and not _bears(headers, self._token):
            return 401, "expected the token of this service", "send the header Authorization: Bearer TOKEN"
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most_bytes:
            return self._too_large()
        return None

    def _is_open(self, path: str) -> bool:
        return path == "/" or path.startswith(self._open_paths)

    def _too_large(self) -> tuple[int, str, str]:
        return 413, f"expected a request of at most {self._most_bytes} bytes, got a larger one", "send less at once"


class _Passage:
    """One request through the guard: its body is counted, its answer gets the headers."""

    def __init__(self, receive: Receive, send: Send, *, most_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._left = most_bytes
        self.too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.too_large = True
            raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        if self.too_large:  # what the routes say of a body that was cut off
            return
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await self._send(message)


def _bears(headers: dict[bytes, bytes], token: str) -> bool:
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), token.encode())


def _without_port(host: str) -> str:
    """ "localhost:8321" -> "localhost", "[::1]:8321" -> "[::1]"."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0].lower()


async def _answer(send: Send, status: int, error: str, remedy: str) -> None:
    body = json.dumps({"error": error, "remedy": remedy}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
