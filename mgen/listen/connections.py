"""Connections of the listening page: one client, slow or malicious, must not keep others out.

uvicorn alone waits for ever for the rest of a request, and for a client that does not read its answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0  # until a request has arrived, head and body; the longest honest one is 1 kB
ANSWER_SECONDS = 120.0  # from then until the client has its answer; a sound of 4 MB is the longest
MAX_CONNECTIONS = 256  # at a time in all; above, requests are answered 503
ADDRESS_CONNECTIONS = 64  # at a time from one address: ten raters behind one router

_numbers = itertools.count()  # of connections, in their order


def network(host: str) -> str:
    """What one client can have many addresses in: its IPv4 address, or the first half of its IPv6 address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64)
    return str(address)


def guarded(app: ASGIApp) -> uvicorn.Config:
    """Settings of a quiet server whose connections are guarded."""
    protocols: dict[str, Any] = {"http": GuardedConnection, "ws": "none", "lifespan": "off", "proxy_headers": False}
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    return uvicorn.Config(app, **protocols, **quiet, timeout_graceful_shutdown=2, limit_concurrency=MAX_CONNECTIONS)


class GuardedConnection(H11Protocol):
    """A connection with a time limit for its requests and answers, and a limit on those of one address.

    Above that limit, the connection that has waited longest for its request gives way, so that requests which arrive
    at once are served even from an address that floods the page.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
        self._number, self._arriving = next(_numbers), True
        self._network = network(self.client[0]) if self.client else ""
        guarded = [other for other in self.connections if isinstance(other, GuardedConnection)]
        own = [other for other in guarded if other._network == self._network]
        if len(own) > ADDRESS_CONNECTIONS:
            waiting = [other for other in own if other._arriving and not other.transport.is_closing()]
            min(waiting, key=lambda other: other._number).transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._arriving:
            self._arriving = True
            self._allow(REQUEST_SECONDS)
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._arriving = False
            self._allow(ANSWER_SECONDS)

    def connection_lost(self, error: Any) -> None:
        self._timer.cancel()
        super().connection_lost(error)

    def _allow(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort)
