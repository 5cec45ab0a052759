"""The farm's upstreams over a network that a test stands for."""

import httpx

from wheelfarm_services.store import Store
from wheelfarm_services.upstreams import HttpIndex, Routes, Upstreams, UpstreamSettings

URL = "https://index.example/simple/"


def http_index(settings: UpstreamSettings, transport: httpx.BaseTransport) -> HttpIndex:
    """One upstream that does not pause between attempts, and resolves no host names."""
    return HttpIndex(settings, transport=transport, sleep=lambda _: None, inside=lambda _: False)


def upstreams_of(
    store: Store, transport: httpx.BaseTransport, *settings: UpstreamSettings, internal: tuple[str, ...] = ()
) -> Upstreams:
    """Upstreams over one transport; without settings there is one, at `URL`."""
    routes = Routes(upstreams=settings or (UpstreamSettings(name="default", url=URL),), internal=internal)
    return Upstreams(lambda: routes, store, make=lambda one: http_index(one, transport))
