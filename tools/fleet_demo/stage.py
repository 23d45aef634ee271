"""The stage: all processes of a run, its clients, and what scenes do with them: make a build, release it, go back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tools.fleet_demo import content
from tools.fleet_demo.commands import Command, Said, key_at
from tools.fleet_demo.content import Shape
from tools.fleet_demo.front import Front
from tools.fleet_demo.full import Full
from tools.fleet_demo.health import Health
from tools.fleet_demo.judge import Judge
from tools.fleet_demo.load import Court, Load
from tools.fleet_demo.node import KEPT, SITE, TOKEN, Node
from tools.fleet_demo.origin import Origin
from tools.fleet_demo.processes import Process, StageError, program, wait_until
from tools.fleet_demo.record import Record
from tools.fleet_demo.relay import Address, Relay
from tools.fleet_demo.watch import Watch
from tools.ports import free_port
from zcserve.config.sources import load as load_config
from zcserve.fleet.making import config_of, make_manifest
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.signing import Signer

HOSTS = {"n1": "127.0.0.11", "n2": "127.0.0.12", "n3": "127.0.0.13"}
# The node whose agent has its links through the relay.
RELAYED = "n3"
NATS_HOST = "127.0.0.10"


# What a stage starts, by its bus. Debian's packages have the same names.
PROGRAMS = {"nats": ("nats-server", "nginx", "haproxy"), "http": ("nginx", "haproxy")}


class Waits(NamedTuple):
    """How long a scene takes what is away, in seconds."""

    link_s: float = 30.0
    nats_s: float = 60.0
    idle_s: float = 60.0
    purges: int = 10


SHORT = Waits(5.0, 5.0, 10.0, 5)


class Build(NamedTuple):
    """A build, where it lies, and its manifest."""

    number: int
    root: Path
    digests: dict[str, str]
    manifest: Manifest
    file: Path


class Stage:
    """A run's. `start` it, then play scenes, then `end` it."""

    def __init__(self, folder: Path, bus: str, waits: Waits) -> None:
        self.folder, self.bus, self.waits = folder, bus, waits
        self.record = Record()
        self.judge = Judge(KEPT)
        self.court = Court(self.judge, self.record)
        self.load = Load(self.court)
        self.builds: dict[int, Build] = {}
        self._trees: dict[str, int] = {}
        self._sequence = 0
        self.live = self.before = 0
        self.shape = Shape()
        self.nodes: dict[str, Node] = {}
        self.relay = Relay()
        self.health = Health()
        self.full = Full()
        self.watch = Watch(self.court, self._trees.get, time.monotonic)
        self._commands: list[Command] = []
        self._ends: list[Callable[[], object]] = [self.relay.close, self.health.close]

    # --- its processes ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """All of it, and the first build is live. Raises StageError."""
        (self.folder / "keys").mkdir()
        self.key = key_at(self.folder, "demo.key")
        os.rename(f"{self.key}.pub", self.folder / "keys" / "demo.key.pub")
        (self.folder / "token").write_text(TOKEN + "\n")
        self.origin = Origin(self.folder)
        self._begin(self.origin.process, self.origin.start)
        if self.bus == "nats":
            self._start_nats()
        self._make_nodes()
        self._ends.append(self.full.end)
        self.full.mount(self.nodes["n2"])
        self.front = Front(self.folder, list(self.nodes.values()))
        for node in self.nodes.values():
            self._ends.append(node.end)
            node.start()
        self._begin(self.front.process, self.front.start)
        self._ends.append(self.watch.end)
        self.watch.start(self.operator_bus)
        self._first()

    def _begin(self, process: Process, start: Callable[[], None]) -> None:
        self._ends.append(process.end)
        start()

    def _start_nats(self) -> None:
        self.nats_address = (NATS_HOST, free_port(NATS_HOST))
        config = self.folder / "nats.conf"
        listen = "{}:{}".format(*self.nats_address)
        config.write_text(f'listen: "{listen}"\njetstream {{ store_dir: "{self.folder / "nats"}" }}\n')
        self.nats = Process([program("nats-server"), "-c", str(config)], self.folder / "nats.log")
        self._begin(self.nats, self.start_nats)

    def start_nats(self) -> None:
        """Again, too."""
        before = self.nats.log.stat().st_size if self.nats.log.exists() else 0
        self.nats.start()
        wait_until("nats-server", lambda: self.nats.pid and b"is ready" in self.nats.log.read_bytes()[before:])

    def _make_nodes(self) -> None:
        ports = {name: (free_port(host), free_port(host), free_port(host)) for name, host in HOSTS.items()}
        agents = {name: (host, ports[name][2]) for name, host in HOSTS.items()}
        listed = agents | {RELAYED: self._relayed(agents[RELAYED])}
        from_there = {name: self._relayed(address) for name, address in agents.items()} if self.bus == "http" else {}
        for name, host in HOSTS.items():
            is_relayed = name == RELAYED
            source = "http://{}:{}/newest/".format(*self._relayed(self.origin.address)) if is_relayed else ""
            if self.bus == "nats":
                address = self._relayed(self.nats_address) if is_relayed else self.nats_address
                carried = ["--nats", "nats://{}:{}".format(*address)]
            else:
                known = self._list(f"nodes-{name}", from_there if is_relayed else listed, ports)
                carried = ["--listen", "{}:{}".format(*agents[name]), "--token-file", str(self.folder / "token")]
                carried += ["--nodes", str(known)]
            self.nodes[name] = Node(name, host, ports[name], self.folder / name, carried, source)
        self._list("nodes", listed, ports)
        self._list("public", {}, ports)

    def _relayed(self, target: Address) -> Address:
        """Where the node that has its links through the relay reaches this, and is reached."""
        host = HOSTS[RELAYED]
        return host, self.relay.listen(host, target)

    def _list(self, file: str, agents: dict[str, Address], ports: dict[str, tuple[int, int, int]]) -> Path:
        """Write a list of nodes: where their agents are, if that is told, and what clients ask."""
        path = self.folder / file
        urls = {name: [f"http://{host}:{port}"] for name, (host, port) in agents.items()}
        rows = ([name, *urls.get(name, []), f"http://{host}:{ports[name][0]}"] for name, host in HOSTS.items())
        path.write_text("".join(" ".join(row) + "\n" for row in rows))
        return path

    async def operator_bus(self) -> Any:
        """An operator's side of the bus, to be closed."""
        if self.bus == "nats":
            place = import_module("zcserve.fleet.nats_place").NatsPlace.of(self.nats_url)
            return import_module("zcserve.fleet.nats_bus").NatsOperatorBus(place, SITE)
        module, lists = import_module("zcserve.fleet.http_bus"), import_module("zcserve.fleet.node_list")
        return module.HttpOperatorBus(SITE, lists.read_nodes(self.folder / "nodes"), TOKEN)

    @property
    def nats_url(self) -> str:
        """Where NATS is."""
        return "nats://{}:{}".format(*self.nats_address)

    def _first(self) -> None:
        build = self.build()
        said = self.command("release", *self.words(build)).wait()
        if said.code:
            raise StageError(f"the first release: {said.told}")
        now = time.monotonic()
        for name in self.nodes:
            self.front.await_status(name, "UP")
            self.judge.serves(name, build.number, now)
        self.settled(build.number, said)
        self.load.start({name: node.web for name, node in self.nodes.items()}, self.front.web)

    def end(self) -> None:
        """All processes, the last first; each whatever the others do."""
        self.load.end()
        for command in self._commands:
            command.kill()
        for end in reversed(self._ends):
            try:
                end()
            except Exception as error:
                print(f"fleet_demo: not ended: {error}")

    # --- builds -------------------------------------------------------------------------------------------------------

    def build(self, shape: Shape | None = None, *, at: int | None = None, sign: bool = True) -> Build:
        """The next build, published at the origin, with a signed manifest of the next sequence (or of `at`)."""
        self.shape = shape or self.shape
        number = len(self.builds) + 1
        root = self.origin.root / str(number)
        digests = content.write(root, number, self.shape)
        self._sequence += 1
        sequence = self._sequence if at is None else at
        rules = str(self.nodes["n1"].folder / "site.toml")
        config = config_of(load_config({"root": str(root)}, {}, rules), SITE)
        manifest = make_manifest(config, SITE, sequence).manifest
        if sign:
            manifest = Signer.read(self.key).sign(manifest)
        file = self.folder / f"{number}.json"
        file.write_bytes(manifest.to_bytes())
        made = Build(number, root, digests, manifest, file)
        self.builds[number] = made
        self._trees[manifest.tree] = number
        self.origin.publish(number)
        with self.court.lock:
            self.judge.knows(number, digests)
        return made

    def opens(self, build: int, *nodes: str) -> None:
        """From now on these nodes (none named: all) may have a build, or serve it."""
        now = time.monotonic()
        with self.court.lock:
            for node in nodes or self.nodes:
                self.judge.may_flip(node, build, now)
        self.load.paths.of(*(self.builds[one].digests for one in {self.live or build, build}))

    def withdraws(self, build: int, *nodes: str) -> None:
        """These nodes (none named: all) have let go of a build that they did not flip to."""

        def have_none() -> bool:
            states = self.watch.states
            return all(not (state := states[name].prepared) or self._trees[state.tree] != build for name in self.nodes)

        wait_until(f"build {build} is prepared nowhere", have_none)
        now = time.monotonic()
        with self.court.lock:
            for node in nodes or self.nodes:
                self.judge.withdraw(node, build, now)

    def settled(self, build: int, said: Said) -> None:
        """A rollout has ended well: this is live."""
        self._sequence = max(self._sequence, int(said.event("release")["sequence"]))
        self.before, self.live = self.live, build
        self.load.paths.of(*(self.builds[one].digests for one in {self.before or build, build}))

    def build_at(self, node: str) -> int:
        """The build that a node works on, or serves; 0: none."""
        state = self.watch.states.get(node)
        return self._trees.get(state.release.tree, 0) if state and state.release else 0

    def await_live(self, build: int) -> None:
        """All nodes report it as live. Raises StageError."""
        self.watch.await_live(build, *self.nodes)

    # --- commands -----------------------------------------------------------------------------------------------------

    def words(self, build: Build, *more: str) -> list[str]:
        """The words of a release's command, but for the bus."""
        return [str(build.file), "--source", self.origin.url(build.number), "--quorum", "1", *more]

    def command(self, name: str, *words: str) -> Command:
        """Begin a command of `warm_cache`."""
        if self.bus == "nats":
            bus = ["--nats", self.nats_url]
            bus += ["--public", str(self.folder / "public")] if name in ("release", "rollback") else []
        else:
            bus = ["--nodes", str(self.folder / "nodes"), "--token-file", str(self.folder / "token")]
        signed = ["--key", str(self.key)] if name == "rollback" else []
        command = Command(name, *words, "--site", SITE, *bus, *signed, "--json")
        self._commands.append(command)
        return command

    def release(self, build: Build, *more: str) -> Said:
        """Release a build to all nodes, and see it live. Raises StageError."""
        self.opens(build.number)
        said = self.command("release", *self.words(build, *more)).wait()
        if said.code:
            raise StageError(said.told)
        self.settled(build.number, said)
        return said

    def note(self, text: str, lane: str = "operator") -> None:
        """For the record."""
        self.record.add(lane, "note", text)

    # --- what can happen to a node ------------------------------------------------------------------------------------

    def kill(self, node: Node) -> None:
        """Server and agent, by SIGKILL."""
        now = time.monotonic()
        with self.court.lock:
            self.judge.goes_down(node.name, now)
        self.record.add(node.name, "down", "server and agent are killed")
        for process in (node.server, node.agent):
            process.kill()

    def revive(self, node: Node) -> None:
        """Both again."""
        node.start()
        now = time.monotonic()
        with self.court.lock:
            self.judge.comes_up(node.name, now)
        self.record.add(node.name, "up", "server and agent are started again")
