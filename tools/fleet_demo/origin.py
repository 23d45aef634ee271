"""The origin: nginx, which serves the files of all builds, and whose log says how many bytes went where."""

from __future__ import annotations

import os
from pathlib import Path

from tools.fleet_demo.processes import Process, program, wait_until
from tools.ports import free_port

HOST = "127.0.0.10"
_CONFIG = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
    log_format moved '$body_bytes_sent $status $uri';
    access_log {folder}/nginx-access.log moved;
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
    types {{ text/html html; }}
    sendfile on;
    keepalive_requests 100000;
    server {{
        listen {host}:{port};
        root {root};
    }}
}}
"""


class Origin:
    """Serves `root`: a folder for each build, and `newest`, which leads to the last that was published."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "origin"
        self.root.mkdir()
        self.address = (HOST, free_port(HOST))
        self._log = folder / "nginx-access.log"
        config = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(user=user, folder=folder, host=HOST, port=self.address[1], root=self.root))
        argv = [program("nginx"), "-p", str(folder), "-e", str(folder / "nginx-error.log"), "-c", str(config)]
        self.process = Process(argv, folder / "nginx.log")

    def start(self) -> None:
        """And its log is there."""
        self.process.start()
        wait_until("nginx", lambda: self.process.pid and self._log.exists())

    def url(self, build: int) -> str:
        """Where the files of a build are."""
        return f"http://{self.address[0]}:{self.address[1]}/{build}/"

    def publish(self, build: int) -> None:
        """`newest` leads to it."""
        made = self.root / "newest-next"
        made.symlink_to(str(build))
        os.replace(made, self.root / "newest")

    def moved(self) -> tuple[int, int]:
        """Answers with content, and their bytes, so far."""
        rows = [line.split(" ", 2) for line in self._log.read_text().splitlines()]
        moved = [int(size) for size, status, _ in rows if status in ("200", "206")]
        return len(moved), sum(moved)
