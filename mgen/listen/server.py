"""HTTP server of the listening page.

Nothing that a rater's browser gets identifies a system: sounds have random names that are valid for one session, and
the two of a pair differ in their samples only. Every request is checked for its host, every change for its origin; if a
token is set, it is required before anything else.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mgen.errors import MgenError
from mgen.listen.connections import network
from mgen.listen.pair_audio import PairAudioCache
from mgen.listen.vote_store import CHOICES, MAX_ID, MAX_NAME, InvalidName, ReusedId, Trial, Vote, VoteStore

MAX_BODY = 4096  # bytes; the longest honest one has some 300
MAX_SESSIONS = 1000
_SOUNDS_KEPT = 8  # latest sounds of a session with a name
_LOGIN_PAUSE = 0.5  # seconds after a wrong token

_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src blob:; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass
class _Session:
    """State of one browser: its rater, and the names of its sounds."""

    rater: int | None = None
    sounds: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)  # name -> pair, 0 or 1


class _Refused(Exception):
    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.content = status, {"error": error, **more}


class ListeningServer:
    """The application; `ListeningServer(...).app` runs under uvicorn.

    Args:
        store: of the votes.
        audio: of the pairs.
        token: required from every browser; empty for none.
        hosts: host names or addresses that requests may be sent to, in lower case, without a port.
        any_address: whether to accept any numeric address too, as a machine may have unknown ones; DNS rebinding needs
            a name.
        cookie: name of the session cookie; browsers share cookies between the ports of a host.
    """

    def __init__(
        self,
        store: VoteStore,
        audio: PairAudioCache,
        token: str = "",
        hosts: Collection[str] = (),
        any_address: bool = False,
        cookie: str = "mgen_listen",
    ) -> None:
        self._store, self._audio = store, audio
        self._token, self._cookie = token, cookie
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()
        self._logins: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._files = {path: ((files("mgen.listen") / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}
        routes = [Route(path, self._file) for path in self._files]
        routes += [
            Route("/api/state", self._answer(self._state)),
            Route("/api/pair", self._answer(self._pair)),
            Route("/api/sound/{name}", self._answer(self._sound)),
            Route("/api/login", self._answer(self._log_in), methods=["POST"]),
            Route("/api/rater", self._answer(self._enter), methods=["POST"]),
            Route("/api/vote", self._answer(self._vote), methods=["POST"]),
        ]
        inner = Starlette(routes=routes)
        inner.router.redirect_slashes = False
        self._hosts, self._any_address = frozenset(hosts), any_address
        self.app: ASGIApp = BaseHTTPMiddleware(inner, self._guard)

    async def _guard(self, request: Request, answer: RequestResponseEndpoint) -> Response:
        """Refuses requests for another host name (DNS rebinding), and adds the headers of every response."""
        host = request.headers.getlist("host")
        if len(host) == 1 and self._is_known(host[0]):
            response = await answer(request)
        else:
            response = PlainTextResponse("This page has another address; see its terminal.", 421)
        response.headers.update(_HEADERS)
        return response

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._hosts:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address

    def _answer(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                if request.method == "POST":
                    _check_origin(request)
                return await handler(request)
            except _Refused as refused:
                return JSONResponse(refused.content, refused.status)
            except MgenError as error:  # the line may hold a path: it is for the terminal only
                print(f"mgen listen: {error}", flush=True)
                return JSONResponse({"error": "The server failed; see its terminal."}, 503)

        return answer

    async def _file(self, request: Request) -> Response:
        content, kind = self._files[request.url.path]
        return Response(content, media_type=kind)

    async def _state(self, request: Request) -> Response:
        has_rater = self._session(request, rater=False).rater is not None
        return JSONResponse({"question": self._store.question, "study": self._store.key, "rater": has_rater})

    async def _log_in(self, request: Request) -> Response:
        given = _text(await _body(request), "token", 512)
        address = network(request.client.host) if request.client else ""
        async with self._logins.setdefault(address, asyncio.Lock()):  # one at a time, to slow down who guesses
            if not hmac.compare_digest(given.encode("utf-8", "backslashreplace"), self._token.encode()):
                await asyncio.sleep(_LOGIN_PAUSE)
                raise _Refused(403, "This is not the token.", need="token")
        return self._open(_Session(), {"ok": True}, request)

    async def _enter(self, request: Request) -> Response:
        body = await _body(request)
        session = self._find(request)
        if self._token and session is None:
            raise _Refused(401, "The token is needed.", need="token")
        try:
            rater = await run_in_threadpool(self._store.rater, _text(body, "name", 512))
        except InvalidName as error:
            raise _Refused(400, f"Please give a name of 1 to {MAX_NAME} letters.") from error
        return self._open(_Session(rater), {"study": self._store.key}, request)

    async def _pair(self, request: Request) -> Response:
        session = self._session(request)
        assert session.rater is not None
        progress = await self._progress(session.rater)
        trials = await run_in_threadpool(self._store.trials, session.rater)
        places = await run_in_threadpool(self._store.open_places, session.rater)
        if not places:
            return JSONResponse(progress)
        trial = trials[places[0]]
        sound = await run_in_threadpool(self._audio, trial.pair)
        if len(places) > 1:
            self._audio.prefetch(trials[places[1]].pair)
        a, b = self._name(session, trial)
        length = {"seconds": round(sound.seconds, 3), "prompt_seconds": round(sound.prompt_seconds, 3)}
        return JSONResponse({**progress, "place": trial.place, "a": a, "b": b, **length})

    async def _sound(self, request: Request) -> Response:
        session = self._session(request)
        with self._lock:
            known = session.sounds.get(request.path_params["name"])
        if known is None:
            raise _Refused(404, "This sound has expired.")
        sound = await run_in_threadpool(self._audio, known[0])
        return Response((sound.first, sound.second)[known[1]], media_type="audio/wav")

    async def _vote(self, request: Request) -> Response:
        body = await _body(request)
        session = self._session(request)
        assert session.rater is not None
        place, choice = body.get("place"), _text(body, "choice", 8)
        key = _text(body, "id", MAX_ID)
        played = [body.get(name, 0) for name in ("seconds_a", "seconds_b")]
        n_trials = len(await run_in_threadpool(self._store.trials, session.rater))
        if not (
            (type(place) is int and 0 <= place < n_trials and choice in CHOICES)
            and (len(key) >= 8 and key.isascii() and key.isalnum())
            and all(type(seconds) in (int, float) and 0 <= seconds <= 86400 for seconds in played)
        ):
            raise _Refused(400, "This is not a vote.")
        vote = Vote(key, session.rater, place, choice, float(played[0]), float(played[1]))
        try:
            await run_in_threadpool(self._store.vote, vote)
        except ReusedId as error:
            raise _Refused(409, "This answer's id belongs to another one; please answer again.") from error
        return JSONResponse(await self._progress(session.rater))  # after the vote is on disk

    async def _progress(self, rater: int) -> dict[str, Any]:
        total = len(await run_in_threadpool(self._store.trials, rater))
        done = total - len(await run_in_threadpool(self._store.open_places, rater))
        return {"done": done, "total": total, "undo": await run_in_threadpool(self._store.last_place, rater)}

    def _find(self, request: Request) -> _Session | None:
        with self._lock:
            return self._sessions.get(request.cookies.get(self._cookie, ""))

    def _session(self, request: Request, rater: bool = True) -> _Session:
        session = self._find(request)
        if session is None and self._token:
            raise _Refused(401, "The token is needed.", need="token")
        if rater and (session is None or session.rater is None):
            raise _Refused(401, "A name is needed.", need="name")
        return session or _Session()

    def _open(self, session: _Session, answer: dict[str, Any], request: Request) -> Response:
        """Starts a new session, which replaces the browser's old one."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._sessions.pop(request.cookies.get(self._cookie, ""), None)
            self._sessions[key] = session
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        response = JSONResponse(answer)
        response.set_cookie(self._cookie, key, httponly=True, samesite="strict", path="/")
        return response

    def _name(self, session: _Session, trial: Trial) -> tuple[str, str]:
        """Returns new names for the sounds of A and B."""
        names = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        with self._lock:
            for shown, name in enumerate(names):
                session.sounds[name] = (trial.pair, int(trial.swapped) ^ shown)
            while len(session.sounds) > _SOUNDS_KEPT:
                session.sounds.popitem(last=False)
        return names


def _check_origin(request: Request) -> None:
    """Accepts changes only from our own page, as JSON, which a form of another page cannot send."""
    origin = request.headers.get("origin", "")
    own = urlsplit(origin).netloc.lower() == request.headers["host"].lower()
    if not own or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise _Refused(403, "This did not come from the listening page.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(415, "Expected JSON.")


async def _body(request: Request) -> dict[str, Any]:
    """Reads the JSON object of a request, at most `MAX_BODY` bytes."""
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise _Refused(413, "Too long.")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, "Expected JSON.") from error
    if not isinstance(content, dict):
        raise _Refused(400, "Expected a JSON object.")
    return content


def _text(body: dict[str, Any], name: str, most: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise _Refused(400, f"Expected {name} as text of at most {most} letters.")
    return value
