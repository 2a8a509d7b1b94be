#!/usr/bin/env python3
"""What a hostile neighbour costs a workload: the ratio of two p99s from one run.

    sudo neighbour.py HOLDOVER CLIENT [--bao PATH] [--seconds N] [--turns N]

HOLDOVER is the `holdover` binary (a release build), CLIENT the `holdover-test-client` of the tests. A workload reads a mirrored
secret in an outage, while one other user does everything at once (`tests/harness/client/hostile.rs`): in one turn to
Holdover's socket, in the next to the socket of an unrelated server on the same machine. So what is compared is what Holdover
can answer for, and not that the machine is busy. Printed are p50 and p99 of each turn, and the ratio of the medians of p99.
Needs root, for the other user. Both are built by

    cargo build --release -p holdover -p holdover-tests --bin holdover --bin holdover-test-client
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CONFIG = """
[primary]
addresses = ["http://127.0.0.1:{port}"]
[primary.auth]
method = "token_file"
path = "{folder}/token"
[replica]
path = "{folder}/state/replica.db"
[[replica.key]]
source = "file"
path = "{folder}/key/root.key"
[listener]
socket = "{run}/holdover.sock"
[admin]
socket = "{run}/admin.sock"
[failover]
probe_interval = "1s"
[[mirror]]
path = "secret/data/*"
interval = "2s"
[[workload]]
name = "bench"
role = "bench"
auto_token = true
match = {{ uid = 0 }}
"""

POLICY = 'path "secret/data/*" { capabilities = ["read"] }'
HOSTILE = 4666
LARGE = "/v1/secret/data/large"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, test, seconds=60, log=None):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if test():
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.1)
    shown = log.read_text() if log else ""
    sys.exit(f"waited {seconds} s for {what}\n{shown}")


def ask(url, token, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"X-Vault-Token": token})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"{}")


def asked(path, target, token=None):
    """Status and body of a GET over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path))
        head = f"GET {target} HTTP/1.0\r\nHost: h\r\n" + (f"X-Vault-Token: {token}\r\n" if token else "")
        stream.sendall(f"{head}\r\n".encode())
        said = b"".join(iter(lambda: stream.recv(1 << 16), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def seed(url, root):
    ask(url + "secret/data/bench", root, {"data": {"password": "x" * 64}})
    ask(url + "secret/data/large", root, {"data": {"large": "x" * 400_000}})
    ask(url + "sys/policies/acl/bench", root, {"policy": POLICY})
    ask(url + "auth/token/roles/bench", root, {
        "allowed_policies": ["bench"], "orphan": True, "renewable": True, "token_type": "default-service"})
    ask(url + "sys/auth/approle", root, {"type": "approle"})
    ask(url + "auth/approle/role/bench", root, {"token_policies": ["bench"]})
    role_id = ask(url + "auth/approle/role/bench/role-id", root)["data"]["role_id"]
    token = ask(url + "auth/token/create", root, {"policies": ["bench"], "ttl": "1h"})["auth"]["client_token"]
    return role_id, token


def daemon(binary, folder, run, port, token):
    for name in ("state", "key"):
        (folder / name).mkdir(parents=True, mode=0o700)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    key = folder / "key" / "root.key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o600)
    config = folder / "holdover.toml"
    config.write_text(CONFIG.format(port=port, folder=folder, run=run))
    config.chmod(0o600)
    log = open(folder / "log", "w")
    return subprocess.Popen([binary, "run", "--config", config], stdout=log, stderr=log)


def status(run):
    return json.loads(asked(run / "admin.sock", "/v1/status")[1])


def resident(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))


def hostile(client, target, folder):
    """The hostile user at work, from a copy of the client that it may run."""
    knows = folder / "target.json"
    knows.write_text(json.dumps(target))
    knows.chmod(0o644)
    return subprocess.Popen([client, "hostile", knows], user=HOSTILE, group=HOSTILE, extra_groups=[],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def turn(client, target, workload, seconds, folder):
    neighbour = hostile(client, target, folder)
    try:
        time.sleep(2)
        command = [client, "load", workload, "secret/data/bench", str(seconds)]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        seen = json.loads(said.stdout)
        if seen["failed"] or not seen["answered"]:
            sys.exit(f"not every request was answered with 200: {said.stdout}{said.stderr}")
        if neighbour.poll() is not None:
            sys.exit("the hostile process has ended")
        return seen
    finally:
        neighbour.kill()
        neighbour.wait()


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("holdover")
    given.add_argument("client")
    given.add_argument("--bao", default="bao")
    given.add_argument("--seconds", type=int, default=10)
    given.add_argument("--turns", type=int, default=3)
    given = given.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: the hostile process runs as another user")
    root, port, running = "bench-root", free_port(), []
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        top = pathlib.Path(top)
        top.chmod(0o711)
        run = top / "run"
        run.mkdir(mode=0o755)
        client = top / "client"
        client.write_bytes(pathlib.Path(given.client).read_bytes())
        client.chmod(0o755)
        server = [given.bao, "server", "-dev", f"-dev-root-token-id={root}", f"-dev-listen-address=127.0.0.1:{port}"]
        log = open(top / "bao.log", "w")
        primary = subprocess.Popen(server, stdout=log, stderr=log, env={**os.environ, "HOME": str(top)})
        running.append(primary)
        try:
            url = f"http://127.0.0.1:{port}/v1/"
            until("the server", lambda: ask(url + "sys/health", root)["initialized"])
            role_id, token = seed(url, root)
            holdover = daemon(given.holdover, top / "state", run, port, root)
            running.append(holdover)
            log = top / "state" / "log"
            workload, other = run / "holdover.sock", run / "other.sock"
            until("the daemon", lambda: status(run)["ready"], log=log)
            until("the token", lambda: asked(workload, LARGE, token)[0] == 200 and status(run)["grants"]["primary"], log=log)
            primary.kill()
            until("the outage", lambda: status(run)["state"] == "holdover", log=log)
            running.append(subprocess.Popen([client, "server", other]))
            until("the unrelated server", other.exists)
            other.chmod(0o666)
            sides = {"Holdover": workload, "another server": other}
            seen = {side: [] for side in sides}
            before, most = resident(holdover), 0
            for number in range(given.turns):
                for side in sides if number % 2 == 0 else reversed(sides):
                    target = {"socket": str(sides[side]), "large": LARGE, "token": token, "role_id": role_id, "seed": number}
                    seen[side].append(turn(client, target, workload, given.seconds, top))
                    most = max(most, resident(holdover))
            for side, each in seen.items():
                shown = ", ".join(f"{one['p50_us'] / 1000:.1f}/{one['p99_us'] / 1000:.1f}" for one in each)
                print(f"hostile to {side:>14}: p50/p99 {shown} ms; {sum(one['answered'] for one in each)} reads, none failed")
            p99 = {side: statistics.median(one["p99_us"] for one in each) for side, each in seen.items()}
            print(f"ratio of p99: {p99['Holdover'] / p99['another server']:.2f}")
            time.sleep(5)
            print(f"resident memory: {before} MiB before, {most} MiB at the ends of turns, {resident(holdover)} MiB 5 s after")
        finally:
            for process in running:
                process.kill()
                process.wait()


main()
