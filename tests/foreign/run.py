#!/usr/bin/env python3
"""Runs client.py against a node of its own: development PKI, configuration, `renkei serve`.

    run.py [--renkei BINARY] [--keep]

Everything lies in a temporary folder; the node listens on a free port of loopback. The node is
stopped with SIGTERM and must end with exit status 0.
"""

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import client

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = "urn:oid:2.999.1.9901"
AUTHORITIES = ["2.999.2.9901", "2.999.2.9911"]
REPOSITORY = "2.999.1.9901.1"
INSTITUTION = "1310000019"
READY_SECONDS = 30
STOP_SECONDS = 30
# One for each call of client.py; a node takes each once.
ASSERTIONS = 24


class Renkei:
    """The command line, as this test needs it: the only place that knows its arguments."""

    def __init__(self, binary: Path, folder: Path):
        self.binary = binary
        self.folder = folder
        self.pki = folder / "pki"
        self.root = self.pki / "root.cert.pem"
        # A setting of the caller's shell must not reach the node.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RENKEI__")}

    def run(self, *arguments) -> str:
        command = [str(self.binary), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"renkei {' '.join(command[1:])}: {done.stderr or done.stdout}"
        return done.stdout

    def init(self):
        self.run("pki", "init", "--dir", self.pki)

    def issue(self, name: str, kind: str, *more) -> SimpleNamespace:
        """Issues a certificate: its files `certificate` (the chain) and `key`, and its `pin`."""
        common = ["--dir", self.pki, "--kind", kind, "--name", name, "--cn", f"Foreign {name}"]
        issued = json.loads(self.run("pki", "issue", *common, *more, "--json"))
        return SimpleNamespace(
            certificate=Path(issued["certificate"]), key=Path(issued["key"]), pin=issued["pin"]
        )

    def token(self, profile: Path) -> str:
        return self.run("token", "--as", profile).strip()


class Node:
    """`renkei serve`, from its ready line to its end."""

    def __init__(self, renkei: Renkei, config: Path):
        self.log = open(renkei.folder / "node.log", "wb")
        self.process = subprocess.Popen(
            [str(renkei.binary), "serve", "--config", str(config)],
            cwd=renkei.folder,
            env=renkei.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def address(self) -> str:
        """Waits for the line that says where it listens."""
        while True:
            try:
                line = self.lines.get(timeout=READY_SECONDS)
            except queue.Empty:
                raise AssertionError(f"the node was not ready within {READY_SECONDS} s") from None
            assert line is not None, f"the node ended before it was ready: {self.process.wait()}"
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("event") == "ready":
                return event["address"]

    def stop(self) -> int:
        """Asks it to end, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the node did not end within {STOP_SECONDS} s of SIGTERM") from None

    def kill(self):
        """Whatever happened, it does not stay."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


def directory(gateway_pin: str, hospital_pin: str) -> dict:
    """Who takes part: this community and one hospital in it."""
    return {
        "community": [
            {
                "home_community_id": HOME,
                "name_ja": "外部接続試験地域",
                "name_en": "Foreign client test region",
                "kind": "region",
                "assigning_authorities": AUTHORITIES,
                "gateway_pins": [gateway_pin],
                "repositories": [REPOSITORY],
            }
        ],
        "institution": [
            {
                "institution_id": INSTITUTION,
                "name_ja": "外部接続試験病院",
                "name_en": "Foreign Client Test Hospital",
                "home_community_id": HOME,
                "kind": "hospital",
                "pins": [hospital_pin],
            }
        ],
    }


def toml(sections: dict) -> str:
    """TOML of sections of strings, booleans and lists of strings: JSON writes those the same way."""
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def write_config(renkei: Renkei, gateway) -> Path:
    crls = renkei.pki / "crls"
    path = renkei.folder / "node.toml"
    sections = {
        "node": {
            "home_community_id": HOME,
            "name": "Foreign client test",
            "data_dir": str(renkei.folder / "data"),
            "capabilities": ["identity", "registry", "repository"],
        },
        "listen": {"address": "127.0.0.1:0"},
        "tls": {
            "certificate": str(gateway.certificate),
            "key": str(gateway.key),
            "roots": [str(renkei.root)],
            "intermediates": [str(renkei.pki / "issuing.cert.pem")],
            "crls": [str(crls / "root.crl.pem"), str(crls / "issuing.crl.pem")],
            "test_profile": True,
        },
        "identity": {"assigning_authorities": AUTHORITIES},
        "documents": {"repository_unique_id": REPOSITORY},
        "directory": {"file": str(renkei.folder / "directory.json")},
    }
    path.write_text(toml(sections), encoding="utf-8")
    return path


def write_profile(renkei: Renkei, hospital, endpoint: str) -> Path:
    """The physician for whom the hospital vouches, as `renkei token` takes it."""
    path = renkei.folder / "physician.toml"
    crls = renkei.pki / "crls"
    connection = {
        "endpoint": f"https://{endpoint}",
        "certificate": str(hospital.certificate),
        "key": str(hospital.key),
        "roots": [str(renkei.root)],
        "intermediates": [str(renkei.pki / "issuing.cert.pem")],
        "crls": [str(crls)],
        "test_profile": True,
        "community": HOME,
    }
    person = {
        "institution": INSTITUTION,
        "subject": "D0001",
        "role": "Medical Doctor",
        "purpose": "TREAT",
        "relation": "treating",
        "audience": [HOME],
    }
    top = "".join(f"{key} = {json.dumps(value)}\n" for key, value in connection.items())
    profile = {"person": person}
    path.write_text(top + toml(profile), encoding="utf-8")
    return path


def run(renkei: Renkei) -> client.Report:
    stubs = renkei.folder / "stubs"
    files = client.generate(ROOT / "proto", stubs)
    print(f"ok   {len(files)} files of proto/ compiled with grpcio-tools")

    renkei.init()
    gateway = renkei.issue("gateway", "gateway", "--dns", "localhost", "--ip", "127.0.0.1")
    hospital = renkei.issue(
        "hospital", "institution", "--code", INSTITUTION, "--org", "Foreign Client Test Hospital"
    )
    members = directory(gateway.pin, hospital.pin)
    (renkei.folder / "directory.json").write_text(json.dumps(members), encoding="utf-8")

    node = Node(renkei, write_config(renkei, gateway))
    try:
        endpoint = node.address()
        print(f"ok   the node is ready at {endpoint}")
        profile = write_profile(renkei, hospital, endpoint)
        tokens = renkei.folder / "assertions"
        tokens.write_text("".join(f"{renkei.token(profile)}\n" for _ in range(ASSERTIONS)))
        options = SimpleNamespace(
            stubs=stubs,
            endpoint=endpoint,
            ca=renkei.root,
            cert=hospital.certificate,
            key=hospital.key,
            assertions=tokens,
            authority=AUTHORITIES[0],
            second_authority=AUTHORITIES[1],
            repository=REPOSITORY,
            home=HOME,
            institution=INSTITUTION,
            server_name="localhost",
        )
        report = client.run_steps(options)
        report.passed += 2  # proto/ compiled, the node got ready
        status = node.stop()
        report.check(status == 0, "the node ends with exit status 0 after SIGTERM", status)
        return report
    finally:
        node.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--renkei", type=Path, default=ROOT / "target/release/renkei")
    parser.add_argument("--keep", action="store_true", help="keep the folder, and say where it is")
    arguments = parser.parse_args()
    binary = arguments.renkei.absolute()
    if not os.access(binary, os.X_OK):
        print(f"FAIL there is no {binary}: cargo build --release\n0 passed, 1 failed")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="renkei-foreign-"))
    try:
        report = run(Renkei(binary, folder))
    except AssertionError as error:
        print(f"FAIL {error}")
        report = client.Report()
        report.failed = 1
    if report.failed and (folder / "node.log").exists():
        tail = (folder / "node.log").read_text(errors="replace").splitlines()[-40:]
        print("--- the end of the node's log", *tail, sep="\n")
    if arguments.keep:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{report.passed} passed, {report.failed} failed")
    return int(report.failed > 0 or report.passed == 0)


if __name__ == "__main__":
    sys.exit(main())
