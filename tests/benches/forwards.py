#!/usr/bin/env python3
"""Forwards of two builds of Holdover, side by side: ratios from one run.

    forwards.py BEFORE AFTER [--mirrored] [--bao PATH] [--seconds N] [--turns N]

BEFORE and AFTER are `holdover` binaries (release builds). Both are started before the same OpenBao in development mode, which
keeps everything in memory, and are asked for the same secret by h2load over their Unix sockets, in turns: with an ordinary
token, which Holdover learns. With --mirrored a mirror covers the secret, so that each answer is also held against what is
kept. Printed are requests a second of each turn, and the ratio of the medians. Needs h2load (Debian: nghttp2-client).
"""

import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
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
socket = "{folder}/run/holdover.sock"
[admin]
socket = "{folder}/run/admin.sock"
[limits]
requests_per_second_per_uid = 1000000
"""

MIRROR = """
[[mirror]]
path = "secret/data/*"
interval = "5s"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, test, seconds=30, log=None):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if test():
                return
        except OSError:
            pass
        time.sleep(0.1)
    shown = log.read_text() if log else ""
    sys.exit(f"waited {seconds} s for {what}\n{shown}")


def ask(url, token, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, headers={"X-Vault-Token": token})
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"{}")


def ordinary_token(url, root):
    ask(url + "sys/policies/acl/bench", root, {"policy": 'path "secret/data/bench" { capabilities = ["read"] }'})
    return ask(url + "auth/token/create", root, {"policies": ["bench"], "ttl": "1h"})["auth"]["client_token"]


def daemon(binary, folder, port, token, mirrored):
    for name in ("state", "key", "run"):
        (folder / name).mkdir(parents=True, mode=0o700)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    key = folder / "key" / "root.key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o600)
    config = folder / "holdover.toml"
    config.write_text(CONFIG.format(port=port, folder=folder) + (MIRROR if mirrored else ""))
    config.chmod(0o600)
    log = open(folder / "log", "w")
    return subprocess.Popen([binary, "run", "--config", config], stdout=log, stderr=log)


def load(folder, token, seconds):
    command = ["h2load", "--h1", "-c", "32", "-t", "1", "-D", str(seconds), "-H", f"X-Vault-Token: {token}"]
    command += ["--base-uri", f"unix:{folder}/run/holdover.sock", "http://localhost/v1/secret/data/bench"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    good = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    rate = re.search(r"([\d.]+) req/s", said)
    if not good or not rate or int(good[1]) == 0 or any(int(good[nr]) for nr in (2, 3, 4)):
        sys.exit(f"not every request was answered with 200:\n{said}")
    return float(rate[1])


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("before")
    given.add_argument("after")
    given.add_argument("--mirrored", action="store_true")
    given.add_argument("--bao", default="bao")
    given.add_argument("--seconds", type=int, default=5)
    given.add_argument("--turns", type=int, default=5)
    given = given.parse_args()
    token, port = "bench-root", free_port()
    with tempfile.TemporaryDirectory() as top:
        top = pathlib.Path(top)
        environment = {**os.environ, "HOME": str(top)}
        server = [given.bao, "server", "-dev", f"-dev-root-token-id={token}", f"-dev-listen-address=127.0.0.1:{port}"]
        log = open(top / "bao.log", "w")
        running = [subprocess.Popen(server, stdout=log, stderr=log, env=environment)]
        try:
            url = f"http://127.0.0.1:{port}/v1/"
            until("the server", lambda: ask(url + "sys/health", token)["initialized"])
            ask(url + "secret/data/bench", token, {"data": {"password": "x" * 64}})
            client = ordinary_token(url, token)
            sides = {"before": given.before, "after": given.after}
            for side, binary in sides.items():
                running.append(daemon(binary, top / side, port, token, given.mirrored))
            for side in sides:
                workload = top / side / "run" / "holdover.sock"
                until(f"the daemon {side}", workload.exists, log=top / side / "log")
            time.sleep(3)
            rates = {side: [] for side in sides}
            for turn in range(given.turns):
                for side in sides if turn % 2 == 0 else reversed(sides):
                    rates[side].append(load(top / side, client, given.seconds))
            for side, each in rates.items():
                shown = " ".join(f"{rate:.0f}" for rate in each)
                print(f"{side:>6}: {shown} requests/s; median {statistics.median(each):.0f}")
            print(f" ratio: {statistics.median(rates['after']) / statistics.median(rates['before']):.3f}")
        finally:
            for process in running:
                process.kill()
                process.wait()


main()
