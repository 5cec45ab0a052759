"""Upstreams: the one place that talks to somebody else's repositories, and only about sdists.

settings        which upstreams there are, and which may be asked for a project
configuration   the file that says so;  default: what holds without one
listing         what an upstream tells of a project
http_index      one upstream over HTTP;  strict_http asks it, with credentials, pace, inside
directory       one upstream that is a local directory
upstreams       all of them together, and what they said last, kept in the store
"""

from wheelfarm_services.upstreams.default import default_index_url, routes_of
from wheelfarm_services.upstreams.http_index import HttpIndex
from wheelfarm_services.upstreams.listing import ListedSdist, ListedWheel, ProjectPage
from wheelfarm_services.upstreams.settings import Routes, UpstreamSettings
from wheelfarm_services.upstreams.upstreams import Index, Upstreams, index_of

__all__ = [
    "HttpIndex",
    "Index",
    "ListedSdist",
    "ListedWheel",
    "ProjectPage",
    "Routes",
    "UpstreamSettings",
    "Upstreams",
    "default_index_url",
    "index_of",
    "routes_of",
]
