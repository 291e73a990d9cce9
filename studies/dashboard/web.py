"""The dashboard's web server: a few addresses that answer GET with a page, its scripts, and JSON."""

import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from diffsim.errors import ArgumentError
from studies.dashboard.board import Board, Unknown
from studies.errors import ConflictError, StudyError
from studies.report.page import asset, plotly_script
from studies.report.style import to_json
from studies.storage.base import Storage
from studies.storage.resolve import open_storage

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK", "app"]

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
"""The names of this machine for itself."""

_LARGEST = 10_000  # bytes of a request's body
_HEADERS = {
    # plotly writes styles into its elements; scripts come from our own files only, and none is made from text.
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}


def app(
    storage: str | os.PathLike[str] | Storage, token: str | None = None, hosts: Sequence[str] = LOOPBACK
) -> "Starlette":
    """The dashboard as an ASGI application, for a server of your own.

    Args:
        storage: Holds the studies: a storage, its URL or its file.
        token: Lets those who know it mark pending trials as failed; without it only GET is answered.
        hosts: The names under which it may be asked for, so that no other web page can reach it under a name of its
            own (DNS rebinding); "*" allows all.

    Raises:
        ArgumentError: The token is too short.
        StorageError: The storage cannot be opened.
        StudyError: The extra `web` is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route
    except ImportError:
        raise StudyError("The dashboard needs starlette. Install it: pip install 'diffsim-studies[web]'") from None
    if token is not None and len(token) < 8:
        raise ArgumentError("`token` must have at least 8 characters. Pass secrets.token_urlsafe(), say.")
    plotly_script()  # a missing extra is told now, not in the browser
    board = Board(open_storage(storage, create=False))
    routes = [
        Route("/", _file("index.html", "text/html")),
        Route("/dashboard.js", _file("dashboard.js", "text/javascript")),
        Route("/dashboard.css", _file("dashboard.css", "text/css")),
        Route("/style.css", _text(lambda: asset("style.css"), "text/css")),
        Route("/plotly.js", _text(plotly_script, "text/javascript", "max-age=86400")),
        Route("/api/studies", _json(lambda _: {"studies": board.studies(), "writable": token is not None})),
        Route("/api/study", _json(lambda q: board.study(_name(q), *(_count(q, key) for key in _CURSOR)))),
        Route("/api/details", _json(lambda q: board.details(_name(q), _count(q, "column")))),
        Route("/api/trial", _json(lambda q: board.trial(_name(q), _count(q, "number")))),
    ]
    if token is not None:
        routes.append(Route("/api/fail", _failing(board, token), methods=["POST"]))
    guards = [
        Middleware(_Guard, methods=("GET",) if token is None else ("GET", "POST")),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
    ]
    return Starlette(routes=routes, middleware=guards)


_CURSOR = ("rounds", "results", "column")


class _Guard:
    """Refuses methods, and gives every answer the headers that keep a browser safe."""

    def __init__(self, app: "ASGIApp", methods: Sequence[str]) -> None:
        self._app, self._methods = app, methods

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def guarded(message: "Message") -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                more = {**_HEADERS, b"cache-control": b"no-store"}
                message["headers"] = [*message["headers"], *((n, v) for n, v in more.items() if n not in known)]
            await send(message)

        if scope["type"] == "http" and scope["method"] not in self._methods:
            from starlette.responses import PlainTextResponse

            allowed = {"Allow": ", ".join(self._methods)}
            refused = PlainTextResponse("This dashboard is read-only.", status_code=405, headers=allowed)
            return await refused(scope, receive, guarded)
        await self._app(scope, receive, guarded)


def _file(name: str, kind: str) -> "Callable[[Request], Response]":
    return _text(lambda: resources.files("studies.dashboard").joinpath(name).read_text(encoding="utf-8"), kind)


def _text(read: Callable[[], str], kind: str, cache_control: str = "no-cache") -> "Callable[[Request], Response]":
    from starlette.responses import Response

    once = cache(read)

    def answer(_: "Request") -> Response:
        return Response(once(), media_type=kind, headers={"Cache-Control": cache_control})

    return answer


def _json(tell: Callable[[Mapping[str, str]], Any]) -> "Callable[[Request], Response]":
    def answer(request: "Request") -> "Response":
        return _told(lambda: tell(request.query_params))

    return answer


def _failing(board: Board, token: str) -> "Callable[[Request], Any]":
    from starlette.concurrency import run_in_threadpool

    async def answer(request: "Request") -> "Response":
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return _reply({"error": "The token is wrong."}, 401)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST:
                return _reply({"error": "The request is too long."}, 413)
        return await run_in_threadpool(_told, lambda: _fail(board, body))

    return answer


def _fail(board: Board, body: bytes) -> Any:  # noqa: ANN401
    try:
        wish = json.loads(body)
        name, number, error = wish["name"], wish["number"], wish.get("error") or "marked as failed in the dashboard"
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArgumentError('Send {"name": "study", "number": 3, "error": "why"}.') from None
    if not (isinstance(name, str) and isinstance(number, int) and isinstance(error, str)):
        raise ArgumentError("`name` and `error` must be texts and `number` a number.")
    board.fail(name, number, error)
    return {"failed": number}


def _told(tell: Callable[[], Any]) -> "Response":
    try:
        return _reply(tell(), 200)
    except Unknown as error:
        return _reply({"error": str(error)}, 404)
    except ArgumentError as error:
        return _reply({"error": str(error)}, 400)
    except ConflictError as error:
        return _reply({"error": str(error)}, 409)
    except StudyError as error:
        return _reply({"error": str(error)}, 503)


def _reply(content: object, status: int) -> "Response":
    from starlette.responses import Response

    return Response(to_json(content), status, media_type="application/json")


def _name(query: Mapping[str, str]) -> str:
    if "name" not in query:
        raise ArgumentError("`name` is missing. Ask for ?name=study.")
    return query["name"]


def _count(query: Mapping[str, str], key: str) -> int:
    text = query.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ArgumentError(f"`{key}` must be a whole number, got {text!r}.")
    return int(text)
