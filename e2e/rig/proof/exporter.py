"""The row's slow meter: one gauge that Prometheus scrapes, true AC watts as a PDU would show them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

METER = "rig_row_input_watts"
POLL_S = 0.05


class Exporter:
    """A context manager that serves `/metrics`."""

    def __init__(self) -> None:
        self._watts: Callable[[], float] | None = None
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.page()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)

    def __enter__(self) -> Exporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Where Prometheus scrapes."""
        return f"127.0.0.1:{self._server.server_port}"

    def shows(self, watts: Callable[[], float]) -> None:
        """Show these watts from now on; until then there is no series."""
        self._watts = watts

    def page(self) -> bytes:
        """Return what a scrape reads."""
        return b"" if self._watts is None else f"# TYPE {METER} gauge\n{METER} {self._watts():.1f}\n".encode()
