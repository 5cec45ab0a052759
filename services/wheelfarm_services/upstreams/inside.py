"""Which hosts are inner ones: those that only this machine or its own network reaches."""

import ipaddress
import socket


def is_inside(host: str) -> bool:
    """Whether a host is, or resolves to, an address that is not public: loopback, link-local, private. One that this
    machine can't resolve is not, for whoever reaches it does so through a proxy."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)}
    except (OSError, UnicodeError):
        return False
    return any(not ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in found)
