"""Credentials as HTTP's Basic scheme carries them (RFC 7617)."""

import base64
import binascii


def basic_credentials(authorization: str) -> tuple[str, str]:
    """User and password of an `Authorization` header; empty where it is malformed or of another scheme."""
    scheme, _, given = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (user, password) if scheme.lower() == "basic" else ("", "")
