"""The agent's side of the network: a thread for each connection, all of which ask the same desk."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator

from nas.errors import MeasurementError, UsageError
from nas.predictors.remote.agent.address import is_loopback
from nas.predictors.remote.agent.channel import WrongSecretError, greet_as_agent
from nas.predictors.remote.agent.desk import Desk
from nas.predictors.remote.agent.wire import WireError

GREETING_SECONDS = 10.0
IDLE_SECONDS = 120.0
MAX_CONNECTIONS = 32


class Server(socketserver.ThreadingTCPServer):
    """Listens at once; `serve_forever` answers. Raises UsageError where a secret is needed, MeasurementError where the
    address cannot be used."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, secret: bytes, desk: Desk, say: Callable[[str], None]) -> None:
        if not secret and not is_loopback(host):
            raise UsageError(
                f"{host} can be reached from other machines: give the agent a secret by --secret-file, or listen on 127.0.0.1"
            )
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.secret, self.desk, self.say = secret, desk, say
        self.free = threading.Semaphore(MAX_CONNECTIONS)
        try:
            super().__init__((host, port), Connection)
        except OSError as error:
            raise MeasurementError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port") from error

    @property
    def port(self) -> int:
        """The port that is listened on, also where 0 left the choice to the system."""
        return int(self.server_address[1])


class Connection(socketserver.BaseRequestHandler):
    """One client: greeting, then requests until it leaves or sends what cannot be trusted."""

    request: socket.socket
    server: Server

    def handle(self) -> None:
        """Serve the client; many silent ones cannot keep others out for longer than the time of a greeting."""
        if not self.server.free.acquire(timeout=GREETING_SECONDS):
            return
        try:
            self._serve()
        except WrongSecretError as error:
            self.server.say(f"{self.client_address[0]}: {error}")
        except (WireError, OSError):
            pass  # the client has gone, or is none: its jobs stay
        finally:
            self.server.free.release()

    def _serve(self) -> None:
        self.request.settimeout(GREETING_SECONDS)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel = greet_as_agent(self.request, self.server.secret)
        self.request.settimeout(IDLE_SECONDS)
        while True:
            header, body = channel.receive()
            channel.send(*self.server.desk.answer(header, body))


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
