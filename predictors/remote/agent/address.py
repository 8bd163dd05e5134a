"""Addresses on the network: `HOST:PORT`, with square brackets around an IPv6 host."""

from __future__ import annotations

import ipaddress
import socket

from nas.errors import UsageError


def parse_address(text: str) -> tuple[str, int]:
    """Host and port. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536) or "/" in host:
        raise UsageError(f"cannot read {text!r} as an address; write HOST:PORT, e.g. 192.168.1.20:7070 or [::1]:7070")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host name or address. Raises UsageError where it is none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"host {host!r} of an address is not known ({error}); write a name or an IP address") from error
    return all(ipaddress.ip_address(str(item[4][0]).partition("%")[0]).is_loopback for item in found)
