"""A Ray cluster of two nodes on loopback, and an object store beside it; each started and stopped here."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE = 240.0  # seconds for a node to start: busy machines exist
TRIES = 3  # of starting a node
LITTLE = str(100 << 20)  # bytes of each node's object store, near the least that Ray takes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def descendants(parent: int) -> list[int]:
    """Every process below `parent`, by /proc: a node is its starter, its daemons and their workers."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found = [parent]
    for process in found:
        found += children.get(process, [])
    return found[1:]


class NoStart(Exception):
    """Ray itself does not start on this machine."""


class Node:
    """One `ray start --block`, at an address of its own on this machine, once it says that it runs."""

    def __init__(self, address: str, folder: Path, arguments: list[str], environment: dict[str, str]) -> None:
        for left in reversed(range(TRIES)):
            name, port = secrets.token_hex(28), free_port()
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address", address, "--num-cpus",
                       "1", "--object-store-memory", LITTLE, "--disable-usage-stats", "--include-log-monitor", "false",
                       "--runtime-env-agent-port", str(port), "--block", *arguments]
            self.process = subprocess.Popen(command, env={**environment, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": name},
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                                            text=True, errors="replace")
            threading.Thread(target=self._announce, args=(folder, name, port), daemon=True).start()
            told = self._told()
            if told is None:
                threading.Thread(target=self.process.stdout.read, daemon=True).start()  # or it would block one day
                return
            self.kill()
            if not left:
                raise NoStart(f"`ray start` at {address} gave up {TRIES} times: {told}")

    def _announce(self, folder: Path, name: str, port: int) -> None:
        """Tells the node its parts' ports, as they will themselves: it waits 15 s, too little on busy machines.

        Without ray[default] the parts that watch have none.
        """
        ports = {"dashboard_agent_listen_port": -1, "metrics_agent_port": -1, "metrics_export_port": -1,
                 "runtime_env_agent_port": port}
        while self.process.poll() is None:
            for session in folder.glob("session_2*"):
                for part, value in ports.items():
                    if not (session / f"{part}_{name}").exists():
                        (session / f"{part}_{name}").write_text(str(value))
            time.sleep(0.5)

    def _told(self) -> str | None:
        """None as soon as the node says that it runs; all it said, if it ended."""
        told = []
        for line in self.process.stdout:
            told.append(line)
            if "block forever" in line:
                return None
        return "".join(told)

    def workers(self) -> list[int]:
        """The processes of this node in which models are."""
        found = []
        for process in descendants(self.process.pid):
            try:
                if b"sigan.workers" in Path(f"/proc/{process}/cmdline").read_bytes():
                    found.append(process)
            except OSError:
                continue
        return found

    def kill(self) -> None:
        """All of it at once, as when a machine is switched off."""
        for process in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            below = descendants(self.process.pid)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
            for process in below:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue


class Cluster:
    """A head, and nodes that are added; this process is connected to it until `stop`."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **environment, "RAY_USAGE_STATS_ENABLED": "0"}
        self.nodes: list[Node] = []
        self.folder, port = folder, free_port()
        self.address = f"127.0.0.2:{port}"
        self.head = Node("127.0.0.2", folder, ["--head", "--port", str(port), "--include-dashboard",
                                               "false", "--min-worker-port", "0", "--max-worker-port", "0",
                                               "--temp-dir", str(folder)], self.environment)
        import ray

        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except BaseException:
            self.stop()
            raise

    def add(self) -> Node:
        """One more node, once the cluster knows of it."""
        before = self.alive()
        node = Node(f"127.0.0.{3 + len(self.nodes)}", self.folder, ["--address", self.address], self.environment)
        self.nodes.append(node)
        self.wait(lambda: self.alive() > before, "the node to join")
        return node

    def alive(self) -> int:
        import ray

        return sum(node["Alive"] for node in ray.nodes())

    def wait(self, condition, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end or self.head.process.poll() is not None:
                raise TimeoutError(f"waited for {what}; `ray start` ended with {self.head.process.poll()}")
            time.sleep(0.2)

    def stop(self) -> None:
        import ray

        ray.shutdown()
        for node in [*self.nodes, self.head]:
            node.stop()


class Store:
    """An S3 server in memory, with the bucket `photos`; `environment` leads any client to it."""

    def __init__(self, port: int) -> None:
        self.environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test",
                            "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
                            "AWS_EC2_METADATA_DISABLED": "true"}
        self.process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError(f"the S3 server does not answer; it ended with {self.process.poll()}")
            time.sleep(0.2)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Deadly:
    """Stands for `sigan_ray.workers.Task` in a process of its own: ends it at an input that is called so."""

    def __init__(self, job: bytes) -> None:
        self.job = job

    def __call__(self, entries: list) -> list:
        from sigan_ray.rows import Done

        from sigan.events import ItemDone

        if any("deadly" in entry.place for entry in entries):
            os._exit(9)
        return [Done(entry.index, ItemDone(entry.place, (f"by {os.getpid()}",), "ok", 1, 0.0)) for entry in entries]
