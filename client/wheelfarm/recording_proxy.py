"""A proxy on loopback that lets nothing through: it notes which URLs are asked for, and answers 404 to each.

To see more of an https URL than its host, it answers in the host's place, with certificates of its own making that a
process trusts which is told to (`environment`); where there is no openssl to make them, the host is all that is noted.
"""

import os
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_TRUST_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "PDM_PYPI_CA_CERTS")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_REQUEST = """[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = wheelfarm config check
[extensions]
"""


class RecordingProxy:
    """The proxy, from entering to leaving."""

    def __init__(self) -> None:
        self._noted: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="wheelfarm-proxy-")
        self._certificates = _Certificates(Path(self._folder.name)) if shutil.which("openssl") else None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a process sends everything here and trusts what it is answered."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        names = [*_PROXY_VARIABLES, *map(str.lower, _PROXY_VARIABLES)]
        trust = {name: str(self._certificates.authority) for name in _TRUST_VARIABLES} if self._certificates else {}
        return {**dict.fromkeys(names, url), "NO_PROXY": "", "no_proxy": "", **trust}

    @property
    def asked(self) -> list[str]:
        """The URLs in order, each once, without credentials or query; of a host that was told no path the root."""
        return [one for one in self._noted if not any(other != one and other.startswith(one) for other in self._noted)]

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if shown not in self._noted:
            self._noted.append(shown)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            origin = ""

            def do_GET(self) -> None:
                proxy._note(f"{self.origin}{self.path}")
                self.close_connection = True
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.send_header("Connection", "close")
                self.end_headers()

            do_HEAD = do_POST = do_GET  # noqa: N815  (http.server names its methods so)

            def do_CONNECT(self) -> None:
                host, _, port = self.path.rpartition(":")
                origin = f"https://{host if port == '443' else self.path}"
                context = proxy._certificates.context(host) if proxy._certificates else None
                proxy._note(origin + "/")
                if context is None:
                    self.send_error(502)
                    return
                self.send_response(200)
                self.end_headers()
                try:
                    self.connection = context.wrap_socket(self.connection, server_side=True)
                except OSError:  # it does not trust us: its host is what there is to tell
                    self.close_connection = True
                    return
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb")
                self.origin, self.close_connection = origin, False

            def finish(self) -> None:
                with suppress(OSError, ValueError):
                    super().finish()
                self.connection.close()

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        return Handler


class _Certificates:
    """A certificate authority for a moment, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._sign("authority", "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n")

    @property
    def authority(self) -> Path:
        return self._folder / "authority.pem"

    def context(self, host: str) -> ssl.SSLContext | None:
        """How to answer in the place of a host; None for what can't be one."""
        if not _HOST.fullmatch(host.strip("[]")):
            return None
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._made_context(host.strip("[]"), f"host-{len(self._contexts)}")
            return self._contexts[host]

    def _made_context(self, host: str, name: str) -> ssl.SSLContext:
        kind = "IP" if re.fullmatch(r"[0-9.]+|.*:.*", host) else "DNS"
        extensions = f"basicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth\n{_names(kind, host)}"
        self._sign(name, extensions, "-CA", str(self.authority), "-CAkey", str(self.authority.with_suffix(".key")))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        return context

    def _sign(self, name: str, extensions: str, *signer: str) -> None:
        file = self._folder / name
        file.with_suffix(".cnf").write_text(_REQUEST + extensions)
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "1", "-config", str(file.with_suffix(".cnf")), *signer]
        command += ["-keyout", str(file.with_suffix(".key")), "-out", str(file.with_suffix(".pem"))]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENSSL_")}
        subprocess.run(command, env=clean, check=True, capture_output=True)


def _names(kind: str, host: str) -> str:
    return f"subjectAltName = {kind}:{host}\n"
