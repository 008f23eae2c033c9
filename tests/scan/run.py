#!/usr/bin/env python3
"""Starts a node and runs the scanners that are there; see run.sh."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from pathlib import Path

HERE = Path(__file__).resolve().parent
ACCEPTED = json.loads((HERE / "accepted.json").read_text(encoding="utf-8"))
BAD = {"MEDIUM", "HIGH", "CRITICAL"}
# Longer than any of them takes.
LIMIT = 900


def start(renkei: str, folder: Path):
    """A node of its own with a development PKI: the process, and its port."""
    pki = folder / "pki"
    run = lambda *a: subprocess.run([renkei, *map(str, a)], check=True, stdout=subprocess.DEVNULL)
    run("pki", "init", "--dir", pki)
    run("pki", "issue", "--dir", pki, "--kind", "gateway", "--name", "node", "--cn", "Node",
        "--dns", "localhost", "--ip", "127.0.0.1")
    run("pki", "issue", "--dir", pki, "--kind", "operator", "--name", "operator", "--cn", "Operator")
    config = folder / "node.toml"
    config.write_text(f"""
[node]
home_community_id = "urn:oid:2.999.1.1"
name = "Scanned"
data_dir = "{folder}/data"
capabilities = ["identity", "registry"]
[listen]
address = "127.0.0.1:0"
[tls]
certificate = "{pki}/names/node.cert.pem"
key = "{pki}/names/node.key.pem"
roots = ["{pki}/root.cert.pem"]
intermediates = ["{pki}/issuing.cert.pem"]
crls = ["{pki}/crls"]
test_profile = true
[identity]
assigning_authorities = ["2.999.2.1"]
[log]
filter = "error"
""", encoding="utf-8")
    node = subprocess.Popen([renkei, "serve", "--config", config], stdout=subprocess.PIPE, text=True)
    line = node.stdout.readline()
    if not line:
        raise SystemExit("the node did not start")
    return node, int(json.loads(line)["address"].rsplit(":", 1)[1])


def shell(*command, folder=None):
    return subprocess.run([str(part) for part in command], cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)


def testssl(port: int, folder: Path):
    """Every test it has; findings by severity as it gives them."""
    if not shutil.which("testssl"):
        return None
    report = folder / "testssl.json"
    done = shell("testssl", "--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1",
                 "--jsonfile", report, f"localhost:{port}", folder=folder)
    found = json.loads(report.read_text(encoding="utf-8"))
    ids = {one["id"] for one in found}
    if not {"TLS1_3", "heartbleed"} <= ids:
        raise SystemExit(f"testssl broke off: {sorted(ids)}\n{done.stdout[-2000:]}")
    offered = [one["finding"] for one in found if one["id"] == "TLS1_3"]
    assert "offered" in offered[0], offered
    return [(one["id"], one["severity"], one["finding"]) for one in found]


def sslscan(port: int, folder: Path):
    """Its report states facts; what is bad among them is said here."""
    if not shutil.which("sslscan"):
        return None
    report = folder / "sslscan.xml"
    done = shell("sslscan", "--no-colour", f"--xml={report}", f"127.0.0.1:{port}")
    test = xml.parse(report).find("ssltest")
    if test is None:
        raise SystemExit(f"sslscan broke off: {done.stdout[-2000:]}")
    found, seen = [], set()
    for protocol in test.iter("protocol"):
        version = f"{protocol.get('type')} {protocol.get('version')}"
        on = protocol.get("enabled") == "1"
        seen.add(version)
        if on and version != "tls 1.3":
            found.append((f"protocol {version}", "HIGH", "is offered"))
        if version == "tls 1.3" and not on:
            raise SystemExit("sslscan does not see TLS 1.3")
    assert {"tls 1.0", "tls 1.3"} <= seen, seen
    for name, attribute in [("heartbleed", "vulnerable"), ("compression", "supported"),
                            ("renegotiation", "supported")]:
        for one in test.iter(name):
            if one.get(attribute) == "1" and not (name == "renegotiation" and one.get("secure") == "1"):
                found.append((name, "HIGH", json.dumps(one.attrib)))
    for cipher in test.iter("cipher"):
        bits = int(cipher.get("bits") or 0)
        if bits < 128 or cipher.get("strength") not in ("strong", "acceptable"):
            found.append((f"cipher {cipher.get('cipher')}", "MEDIUM", json.dumps(cipher.attrib)))
    for group in test.iter("group"):
        if int(group.get("bits") or 0) < 112:
            found.append((f"group {group.get('name')}", "MEDIUM", json.dumps(group.attrib)))
    return found


def nmap(port: int, folder: Path):
    """ssl-enum-ciphers grades each suite; B and below are findings."""
    if not shutil.which("nmap"):
        return None
    report = folder / "nmap.xml"
    shell("nmap", "-Pn", "-p", port, "--script", "+ssl-enum-ciphers,+ssl-heartbleed,+ssl-poodle,+sslv2,+tls-alpn",
          "-oX", report, "127.0.0.1")
    root = xml.parse(report).getroot()
    state = root.find(".//port/state")
    if state is None or state.get("state") != "open":
        raise SystemExit("nmap does not see the port")
    found = []
    scripts = {script.get("id") for script in root.iter("script")}
    if "ssl-enum-ciphers" not in scripts:
        raise SystemExit(f"nmap's ssl-enum-ciphers saw nothing: {scripts}")
    for script in root.iter("script"):
        text = script.get("output") or ""
        if "VULNERABLE" in text and "NOT VULNERABLE" not in text:
            found.append((script.get("id"), "HIGH", text.strip()))
        if script.get("id") == "ssl-enum-ciphers":
            for table in script:
                version = table.get("key") or ""
                if version.startswith(("SSL", "TLSv1.0", "TLSv1.1", "TLSv1.2")):
                    found.append((f"protocol {version}", "HIGH", "is offered"))
            for grade in re.findall(r" - ([B-F])$", text, re.MULTILINE):
                found.append((f"grade {grade}", "MEDIUM", text.strip()))
    return found


def sslyze(port: int, folder: Path, python: str):
    """Every scan it has, and what it says of each."""
    if shell(python, "-c", "import sslyze").returncode != 0:
        return None
    report = folder / "sslyze.json"
    # Not SSL 2.0: with a client certificate sslyze cannot; sslscan and nmap try that.
    scans = ["certinfo", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "compression",
             "early_data", "openssl_ccs", "fallback", "heartbleed", "robot", "reneg", "resum", "ems"]
    names = folder / "pki" / "names"
    done = shell(python, "-m", "sslyze", "--mozilla_config=disable", *[f"--{scan}" for scan in scans],
                 "--cert", names / "operator.cert.pem", "--key", names / "operator.key.pem",
                 f"--json_out={report}", f"127.0.0.1:{port}")
    if not report.exists():
        raise SystemExit(f"sslyze broke off: {done.stdout[-2000:]}")
    server = json.loads(report.read_text(encoding="utf-8"))["server_scan_results"][0]
    if server["connectivity_status"] != "COMPLETED":
        raise SystemExit(f"sslyze could not connect: {done.stdout[-2000:]}")
    results, found = server["scan_result"], []
    broken = [name for name, scan in results.items() if scan["status"] == "ERROR"]
    if broken:
        print(f"  sslyze could not finish: {', '.join(broken)}")
    part = lambda name: (results.get(name) or {}).get("result") or {}
    for version in ["ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"]:
        scan = part(f"{version}_cipher_suites")
        if not scan:
            raise SystemExit(f"sslyze did not test {version}")
        if scan["accepted_cipher_suites"]:
            found.append((version, "HIGH", "is offered"))
    if not part("tls_1_3_cipher_suites").get("accepted_cipher_suites"):
        raise SystemExit("sslyze does not see TLS 1.3")
    for name, key in [("heartbleed", "is_vulnerable_to_heartbleed"),
                      ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"),
                      ("tls_compression", "supports_compression"),
                      ("tls_1_3_early_data", "supports_early_data"),
                      ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos")]:
        if part(name).get(key):
            found.append((name, "HIGH", key))
    resumed = part("session_resumption")
    if resumed.get("session_id_successful_resumptions_count") or resumed.get("tls_ticket_successful_resumptions_count"):
        found.append(("session_resumption", "MEDIUM", "a session was resumed"))
    if "VULNERABLE" in str(part("robot").get("robot_result", "")) and "NOT_VULNERABLE" not in str(part("robot")):
        found.append(("robot", "HIGH", str(part("robot"))))
    for deployment in part("certificate_info").get("certificate_deployments", []):
        leaf = deployment["received_certificate_chain"][0]
        if leaf["public_key"]["algorithm"].startswith("RSA") and leaf["public_key"]["key_size"] < 2048:
            found.append(("certificate key", "HIGH", str(leaf["public_key"])))
        if (leaf.get("signature_hash_algorithm") or {}).get("name") in ("md5", "sha1"):
            found.append(("certificate signature", "HIGH", str(leaf["signature_hash_algorithm"])))
    return found


def judge(name: str, found) -> int:
    """Prints what one scanner found; how much of it is not accepted."""
    accepted = ACCEPTED[name]
    bad = [one for one in found if one[1] in BAD]
    print(f"{name}: {len(found)} facts, {len(bad)} of medium severity or worse")
    refused = 0
    for identifier, severity, finding in bad:
        reason = accepted.get(identifier)
        refused += reason is None
        print(f"  {'accepted' if reason else 'FINDING'} {identifier} ({severity}): {finding}"
              + (f"\n    because {reason}" if reason else ""))
    return refused


def attempt(scan, port: int, folder: Path):
    """Scans; once more if the scanner broke off, as they do on a busy machine."""
    try:
        return scan(port, folder)
    except SystemExit as broken:
        print(f"{broken}\nonce more", file=sys.stderr)
        for report in folder.glob("*.json"):
            report.unlink()
        return scan(port, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renkei", default="target/release/renkei")
    parser.add_argument("--sslyze", default=sys.executable, help="a Python that has sslyze")
    parser.add_argument("--keep", action="store_true", help="keep the reports")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="renkei-scan-"))
    node, port = start(os.path.abspath(args.renkei), folder)
    refused, ran = 0, []
    try:
        for name, scan in [("sslscan", sslscan), ("nmap", nmap),
                           ("sslyze", lambda p, f: sslyze(p, f, args.sslyze)), ("testssl", testssl)]:
            began = time.monotonic()
            try:
                found = attempt(scan, port, folder)
            except SystemExit as broken:
                # A scanner that could not scan has found nothing, good or bad: it does not count.
                print(f"!!! {broken}\n!!! {name} could not scan: SKIPPED", file=sys.stderr)
                continue
            if found is None:
                print(f"!!! {name} is not there: SKIPPED", file=sys.stderr)
                continue
            ran.append(name)
            refused += judge(name, found)
            print(f"  {time.monotonic() - began:.0f} s")
            if node.poll() is not None:
                print(f"FINDING the node ended during {name} ({node.returncode})")
                return 1
    finally:
        if node.poll() is None:
            node.send_signal(signal.SIGTERM)
            node.wait(timeout=60)
        if args.keep:
            print(f"reports: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(ran)} scanners ran ({', '.join(ran)}), {refused} findings")
    if len(ran) < 2:
        print("!!! fewer than two scanners: nothing is shown", file=sys.stderr)
        return 3
    return 1 if refused or node.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
