"""What says how nodes are: a program of monitoring, which a canary's --query asks. GET /NODE is 200, or 503 if it is
ill."""

from __future__ import annotations

import http.server
import threading


class Health:
    """Nodes in `ill` are not well. To be closed."""

    def __init__(self) -> None:
        self.ill: set[str] = set()
        health = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(503 if self.path.strip("/") in health.ill else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
