"""Serves the listening page on a socket until it is interrupted."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from mgen.errors import MgenError
from mgen.listen.pair_audio import PairAudioCache
from mgen.listen.vote_store import VoteStore
from mgen.options import option

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class ServeConfig:
    """Options of `mgen listen` for its server."""

    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0 for all of this machine.")
    port: int = option(8765, "Port to listen on; 0 takes any free one.", least=0, most=65535)
    token: str = option("", "Token that the page requires; generated if --host is not this machine alone.")
    names: list[str] = option([], "Further host names of the page, such as those of a proxy.")

    def __post_init__(self) -> None:
        if self.token and len(self.token) < 8:
            raise ValueError(f"token ({len(self.token)} letters) must have at least 8; leave it out to generate one")


def bind(host: str, port: int) -> socket.socket:
    """Opens a listening socket.

    Raises:
        MgenError: The port is taken or forbidden, or the host is no address of this machine.
    """
    try:
        known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise MgenError(f"--host {host}: no address of this machine ({error}); try 127.0.0.1") from error
    family, kind, protocol, _, address = known[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(64)
    except OSError as error:
        listener.close()
        problem = f"--port {port}: cannot listen on {host} ({error.strerror})"
        raise MgenError(f"{problem}; choose another --port, or 0 for any") from error
    return listener


def serve(
    store: VoteStore,
    audio: PairAudioCache,
    listener: socket.socket,
    config: ServeConfig,
    announce: Callable[[str], None],
) -> None:
    """Serves until Ctrl-C.

    Args:
        announce: receives the lines for the terminal: the study, the page's address, the token.
    """
    import uvicorn

    from mgen.listen.connections import guarded
    from mgen.listen.server import ListeningServer

    address, port = listener.getsockname()[:2]
    ip = ipaddress.ip_address(address.partition("%")[0])
    token = config.token or ("" if ip.is_loopback else secrets.token_urlsafe(16))
    names = {*LOOPBACK, address, config.host, *config.names}
    if not ip.is_loopback:
        names |= {socket.gethostname(), socket.getfqdn(), f"{socket.gethostname()}.local"}
    hosts = {name.lower() for name in names}
    server = ListeningServer(store, audio, token, hosts, ip.is_unspecified, cookie=f"mgen_listen_{port}")
    shown = socket.gethostname() if ip.is_unspecified else address
    place = f"[{shown}]" if ":" in shown else shown
    counts = store.counts()
    votes = f" ({counts['votes']} votes of {counts['raters']} raters so far)" if counts["raters"] else ""
    announce(f"{counts['pairs']} pairs of {', '.join(store.systems)}; votes go to {store.path}{votes}")
    announce(f"listen on  http://{place}:{port}/{f'#token={quote(token)}' if token else ''}")
    if token:
        announce(f"token      {token}")
    announce("Ctrl-C ends; every vote is kept.")
    logging.getLogger("uvicorn.error").addFilter(lambda record: "Invalid HTTP request" not in record.getMessage())
    try:
        uvicorn.Server(guarded(server.app)).run(sockets=[listener])
    except KeyboardInterrupt:  # passed on by uvicorn after a clean shutdown
        return
