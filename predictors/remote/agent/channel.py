"""A connection on which both sides have shown that they know the secret.

Each side sends 32 random bytes and proves the secret by an HMAC of both (challenge and response). The key of every message
is made of the secret and both nonces, for each direction apart, and its label is its number in that direction: a message
that was recorded, left out, put in another order or sent back cannot pass.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
from typing import Any

from nas.predictors.remote.agent.wire import LostError, Message, WireError, decode_object, mac, seal, unseal

PROTOCOL = 2
NONCE_BYTES = 32
MAX_GREETING = 1024


class WrongSecretError(WireError):
    """The two sides do not hold the same secret."""


class Channel:
    """Messages over a connected socket; not to be used by two threads at once."""

    def __init__(self, sock: socket.socket, send_key: bytes, receive_key: bytes) -> None:
        self._sock = sock
        self._send_key, self._receive_key = send_key, receive_key
        self._sent = self._received = 0

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send one message. Raises LostError where the connection is gone."""
        message = seal(self._send_key, _numbered(self._sent), header, body)
        self._sent += 1
        try:
            self._sock.sendall(message)
        except OSError as error:
            raise LostError(f"the connection was lost ({error}); connect again") from error

    def receive(self) -> Message:
        """The next message. Raises WireError where it cannot be trusted, LostError where none comes."""
        found = unseal(self._receive_key, _numbered(self._received), self._read)
        self._received += 1
        return found

    def _read(self, number: int) -> bytes:
        return _receive(self._sock, number)


def greet_as_agent(sock: socket.socket, secret: bytes) -> Channel:
    """The channel to a client that knows the secret. Raises WrongSecretError after telling the client, or WireError."""
    ours = secrets.token_bytes(NONCE_BYTES)
    _send_line(sock, {"nas-agent": PROTOCOL, "nonce": ours.hex(), "secret": bool(secret)})
    answer = _receive_line(sock)
    theirs, proof = _bytes_of(answer, "nonce"), _bytes_of(answer, "proof")
    if not hmac.compare_digest(proof, mac(secret, b"client", ours, theirs)):
        _send_line(sock, {"error": "wrong secret"})
        raise WrongSecretError("a client with another secret was turned away")
    _send_line(sock, {"proof": mac(secret, b"agent", ours, theirs).hex()})
    return Channel(sock, mac(secret, b"to client", ours, theirs), mac(secret, b"to agent", ours, theirs))


def other_protocol(version: object) -> str:
    """What to tell of an agent of another version."""
    return (
        f"the agent speaks version {version!r} of the protocol, this is {PROTOCOL}; write it anew by "
        "`nas agent --write agent.py` and copy it to the device"
    )


def greet_as_client(sock: socket.socket, secret: bytes) -> Channel:
    """The channel to an agent that knows the secret. Raises WrongSecretError where one of the two does not, or WireError."""
    greeting = _receive_line(sock)
    if "nas-agent" not in greeting:
        raise WireError("what answers is no nas agent; look at the address")
    if greeting["nas-agent"] != PROTOCOL:
        raise WireError(other_protocol(greeting["nas-agent"]))
    if bool(greeting.get("secret")) != bool(secret):
        has, remedy = ("asks for a secret", "give it by") if greeting.get("secret") else ("knows no secret", "leave away")
        raise WrongSecretError(f"the agent {has}; {remedy} --agent-secret-file or NAS_AGENT_SECRET")
    theirs, ours = _bytes_of(greeting, "nonce"), secrets.token_bytes(NONCE_BYTES)
    _send_line(sock, {"nonce": ours.hex(), "proof": mac(secret, b"client", theirs, ours).hex()})
    answer = _receive_line(sock)
    if "error" in answer or not hmac.compare_digest(_bytes_of(answer, "proof"), mac(secret, b"agent", theirs, ours)):
        raise WrongSecretError("the agent holds another secret; give both the same file")
    return Channel(sock, mac(secret, b"to agent", theirs, ours), mac(secret, b"to client", theirs, ours))


def _numbered(number: int) -> bytes:
    return b"message " + number.to_bytes(8, "big")


def _send_line(sock: socket.socket, data: dict[str, Any]) -> None:
    try:
        sock.sendall(json.dumps(data).encode() + b"\n")
    except OSError as error:
        raise LostError(f"the connection was lost in the greeting ({error}); connect again") from error


def _receive_line(sock: socket.socket) -> dict[str, Any]:
    """One line, byte by byte: what follows it belongs to the first message."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = _receive(sock, 1)
        if not piece:
            raise LostError("the connection was closed in the greeting; connect again")
        line += piece
        if len(line) > MAX_GREETING:
            raise WireError("what answers sends no greeting of an agent or its client; look at the address")
    return decode_object(bytes(line))


def _receive(sock: socket.socket, number: int) -> bytes:
    try:
        return sock.recv(number)
    except OSError as error:
        raise LostError(f"the connection was lost ({error}); connect again") from error


def _bytes_of(data: dict[str, Any], name: str) -> bytes:
    try:
        return bytes.fromhex(data[name])
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"the greeting lacks {name}; what answers is no nas agent or client of this version") from error
