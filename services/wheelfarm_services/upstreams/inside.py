"""Which hosts are inner ones: those that only this machine or its own network reaches."""

import ipaddress
import socket

_CARRIERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::ffff:0:0/96"))
"""Whose last 32 bits are an IPv4 address: those of NAT64, and mapped ones."""


def is_inside(host: str) -> bool:
    """Whether a host is, or resolves to, an address that is not public: loopback, link-local, private. One that this
    machine can't resolve is not, for whoever reaches it does so through a proxy."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)}
    except (OSError, UnicodeError):
        return False
    return any(not _meant(str(address).partition("%")[0]).is_global for address in found)


def _meant(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address where packets end up: of one that carries an IPv4 address (RFC 3056, 4291, 6052), that one."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return address
    carries = any(address in network for network in _CARRIERS)
    return address.sixtofour or (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if carries else address)
