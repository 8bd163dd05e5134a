"""Authenticated messages: what agents and clients send each other, and the form of the files in a shared folder.

A message is `NASM`, the lengths of header and body (4 and 8 bytes, big-endian), the header (a JSON object), the body (raw
bytes), and an HMAC-SHA256 of a label and all that. Nothing is encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from nas.errors import MeasurementError

MAGIC = b"NASM"
LENGTHS = struct.Struct(">IQ")
PREFIX = len(MAGIC) + LENGTHS.size
MAC_BYTES = 32
MAX_HEADER = 1 << 20
MAX_BODY = 1 << 30
CHUNK = 1 << 20

Message = tuple[dict[str, Any], bytes]


class WireError(MeasurementError):
    """A message that is damaged, forged, repeated, too long, or none at all."""


class LostError(WireError):
    """The other side has gone in the middle: worth trying again."""


def mac(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 of some parts, each with its length before it, so that no two lists of parts look alike."""
    code = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        code.update(len(part).to_bytes(8, "big"))
        code.update(part)
    return code.digest()


def seal(key: bytes, label: bytes, header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """The message as bytes. Raises WireError where it is longer than the other side would take."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    _require_lengths(len(text), len(body), MAX_BODY)
    prefix = MAGIC + LENGTHS.pack(len(text), len(body))
    return b"".join((prefix, text, body, mac(key, label, prefix, text, body)))


def unseal(key: bytes, label: bytes, read: Callable[[int], bytes], max_body: int = MAX_BODY) -> Message:
    """The message whose bytes `read(n)` returns in turn, exactly n of them or fewer at the end.

    Raises WireError where it is no message, too long, or not sealed with this key and label, LostError where it ends early.
    """
    prefix = _exactly(read, PREFIX)
    if prefix[: len(MAGIC)] != MAGIC:
        raise WireError("what came is no message of an agent or its client; look at the address")
    header_bytes, body_bytes = LENGTHS.unpack(prefix[len(MAGIC) :])
    _require_lengths(header_bytes, body_bytes, max_body)
    text, body, code = (_exactly(read, number) for number in (header_bytes, body_bytes, MAC_BYTES))
    if not hmac.compare_digest(code, mac(key, label, prefix, text, body)):
        raise WireError("a message was changed, repeated or sealed with another secret; it is refused")
    return decode_object(text), body


def decode_object(text: bytes) -> dict[str, Any]:
    """The JSON object of a text. Raises WireError for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("the header of a message is not JSON; it is refused") from error
    if not isinstance(found, dict):
        raise WireError("the header of a message is no JSON object; it is refused")
    return found


def _require_lengths(header: int, body: int, max_body: int) -> None:
    if header > MAX_HEADER or body > max_body:
        raise WireError(
            f"a message with a header of {header} and a body of {body} bytes is too long (limits {MAX_HEADER} and {max_body}); "
            "send fewer or smaller networks at a time"
        )


def _exactly(read: Callable[[int], bytes], number: int) -> bytes:
    """`number` bytes, read in pieces, so that a length that is a lie takes no memory."""
    pieces: list[bytes] = []
    left = number
    while left:
        piece = read(min(left, CHUNK))
        if not piece:
            raise LostError(f"a message ended {left} bytes early; it is refused")
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
