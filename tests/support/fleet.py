"""A node of a fleet as processes: a server, its agent, and what an operator does over plain HTTP."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.support.releases import release_of
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.messages import Command, Desired, Release, State

TOKEN = "a token of the tests"
CLAIM = "the-claim"


def release(manifest: Manifest, source: Path | str = "") -> Release:
    """What a rollout says of a manifest."""
    return Release(f"r{manifest.sequence}", manifest.sequence, manifest.digest, manifest.tree, str(source))


def build(where: Path, contents: Mapping[str, bytes], sequence: int, site: str = "www") -> Manifest:
    """A build's output, and its manifest."""
    for path, content in contents.items():
        file = where / os.fsdecode(unquote_to_bytes(path[1:]))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return release_of(contents, site=site, sequence=sequence)


class Operator:
    """What an operator's program asks an agent."""

    def __init__(self, port: int, site: str = "www", token: str = TOKEN) -> None:
        self.port = port
        self.site = site
        self.token = token
        self.edition = 0

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request below the site."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            fields = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
            connection.request(method, f"/v1/{self.site}/{path}", body, fields)
            response = connection.getresponse()
            return response.status, response.read()

    def told(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON of an answer; None where it has none."""
        status, answer = self.ask(method, path, body)
        assert status in (200, 204), answer
        return json.loads(answer) if answer else None

    def claim(self) -> None:
        form = {"holder": "r", "token": CLAIM, "lasts_s": 60}
        self.told("PUT", "claim", json.dumps(form).encode())

    def desire(self, wanted: Release | None, **more: Any) -> int:
        """Put a release as what is desired; its edition."""
        self.claim()
        self.edition = max(self.edition, self.told("GET", "desired")["edition"]) + 1
        desired = Desired(self.site, self.edition, wanted, **more)
        self.told("PUT", f"desired?claim={CLAIM}", desired.dump())
        return self.edition

    def put(self, manifest: Manifest) -> None:
        """Give the node a manifest."""
        self.told("PUT", f"manifests/{manifest.digest}", manifest.to_bytes())

    def publish(self, command: Command) -> None:
        """Give the node a command."""
        self.told("POST", "commands", command.dump())

    def state(self, query: str = "") -> State | None:
        """How the node is."""
        status, answer = self.ask("GET", f"state{query}")
        assert status in (200, 204), answer
        return State.parse(answer) if status == 200 else None
