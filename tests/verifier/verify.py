"""An independent verifier of Renkei's audit proofs, written from docs/audit-log.md alone.

`verify.py CASES` reads one JSON object a line, {"kind": ..., "valid": bool, ...}, and fails unless its
own judgement of each is the one that is stated. Nothing but the standard library is used.
"""

import base64
import collections
import hashlib
import json
import sys


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def number(value, octets=8):
    return value.to_bytes(octets, "big")


class Wrong(Exception):
    """A proof that shows nothing."""


def need(condition, what):
    if not condition:
        raise Wrong(what)


# --- The tree -------------------------------------------------------------------------------------


def leaf_hash(frame_hash, commitments):
    return sha256(b"\x00", frame_hash, sha256(*commitments))


def node_hash(left, right):
    return sha256(b"\x01", left, right)


def root_by_inclusion(leaf, index, size, path):
    """RFC 9162, 2.1.3.2."""
    need(index < size, "the leaf is not in the tree")
    node, last, root = index, size - 1, leaf
    for sibling in path:
        need(last != 0, "the path is too long")
        if node % 2 == 1 or node == last:
            root = node_hash(sibling, root)
            while node % 2 == 0 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    need(last == 0, "the path is too short")
    return root


def check_consistency(first, second, first_root, second_root, path):
    """RFC 9162, 2.1.4.2."""
    need(first <= second, "the first tree is larger")
    if first == second:
        need(not path and first_root == second_root, "one size, two roots")
        return
    if first == 0:
        need(not path and first_root == sha256(), "the empty tree has one root")
        return
    path = list(path)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    need(path, "the path is too short")
    node, last = first - 1, second - 1
    while node % 2 == 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        need(last != 0, "the path is too long")
        if node % 2 == 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while node % 2 == 0 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    need(last == 0, "the path is too short")
    need(old == first_root and new == second_root, "the roots are others")


# --- The map of patients --------------------------------------------------------------------------

NOTHING = bytes(32)


def bit(tag, depth):
    return tag[depth // 8] >> (7 - depth % 8) & 1


Head = collections.namedtuple("Head", "count last chain")


def check_map(leaf, path, tag, root):
    """What a map proof says about a tag."""
    depth = len(path)
    need(depth <= 128, "the path is too long")
    at = NOTHING
    if leaf:
        need(len(leaf) == 64, "the map leaf has another length")
        at = sha256(b"\x10", leaf)
    for step, sibling in enumerate(path):
        if bit(tag, depth - 1 - step):
            at = sha256(b"\x11", sibling, at)
        else:
            at = sha256(b"\x11", at, sibling)
    need(at == root, "the map has another root")
    if not leaf:
        return Head(0, 0, NOTHING)
    other = leaf[:16]
    if other != tag:
        need(all(bit(other, d) == bit(tag, d) for d in range(depth)), "the leaf belongs elsewhere")
        return Head(0, 0, NOTHING)
    count, last = int.from_bytes(leaf[16:24], "big"), int.from_bytes(leaf[24:32], "big")
    return Head(count, last, leaf[32:])


# --- Ed25519, RFC 8032 ---------------------------------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def same(one, other):
    x = (one[0] * other[2] - other[0] * one[2]) % P
    y = (one[1] * other[2] - other[1] * one[2]) % P
    return x == 0 and y == 0


def point(octets):
    need(len(octets) == 32, "not a point")
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    need(y < P, "not a point")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    need((x * x - square) % P == 0 and (x or not sign), "not a point")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def check_signature(key, message, signature):
    need(len(signature) == 64, "the signature has another length")
    scalar = int.from_bytes(signature[32:], "little")
    need(scalar < ORDER, "the signature is not canonical")
    hashed = hashlib.sha512(signature[:32] + key + message).digest()
    hashed = int.from_bytes(hashed, "little") % ORDER
    right = add(point(signature[:32]), times(hashed, point(key)))
    need(same(times(scalar, BASE), right), "the signature does not verify")


# --- Checkpoints ----------------------------------------------------------------------------------

Checkpoint = collections.namedtuple("Checkpoint", "origin size root patients")


def check_note(note, verifier):
    """The checkpoint in a note that is signed by the log with this verifier key."""
    name, key_id, key = verifier.split("+", 2)
    key = base64.b64decode(key, validate=True)
    need(key[0] == 1 and len(key) == 33, "not a log's key")
    own_id = sha256(name.encode(), b"\n", key)[:4]
    need(own_id.hex() == key_id, "the key has another id")
    need("\n\n" in note and note.endswith("\n"), "not a note")
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    for line in signatures.splitlines():
        need(line.startswith("\u2014 ") and line.count(" ") == 2, "not a signature")
        _, signer, signature = line.split(" ")
        signature = unbase64(signature)
        if signer == name and signature[:4] == own_id:
            check_signature(key[1:], text.encode(), signature[4:])
            return parse_checkpoint(text, name)
    raise Wrong("not signed by the log")


def unbase64(text):
    octets = base64.b64decode(text, validate=True)
    need(base64.b64encode(octets).decode() == text, "not the one form of base64")
    return octets


def decimal(text):
    need(text.isascii() and text.isdigit() and (text == "0" or text[0] != "0"), "not a number")
    return int(text)


def parse_checkpoint(text, name):
    lines = text.splitlines()
    need(len(lines) >= 3 and lines[0] == name, "another log")
    patients = None
    for line in lines[3:]:
        words = line.split(" ")
        if words[0] == "patients":
            need(len(words) == 3 and patients is None, "a malformed line")
            decimal(words[1])
            patients = unbase64(words[2])
    return Checkpoint(lines[0], decimal(lines[1]), unbase64(lines[2]), patients)


# --- Reports --------------------------------------------------------------------------------------


def check_report(case):
    checkpoint = check_note(case["checkpoint"], case["verifier"])
    heads = {}
    for event in case["events"]:
        commitments = [unhex(one) for one in event["commitments"]]
        need(all(len(one) == 32 for one in commitments), "a commitment has another length")
        commitment = sha256(unhex(event["salt"]), unhex(event["record"]))
        place = event["place"]
        need(place < len(commitments) and commitments[place] == commitment, "another record")
        leaf = leaf_hash(unhex(event["frame_hash"]), commitments)
        need(event["size"] == checkpoint.size, "another tree")
        path = [unhex(one) for one in event["path"]]
        root = root_by_inclusion(leaf, event["sequence"], event["size"], path)
        need(root == checkpoint.root, "not in the signed tree")
        tag = unhex(event["tag"])
        head = heads.get(tag, Head(0, 0, NOTHING))
        before = head.last if head.count else None
        need(event["number"] == head.count + 1 and event["before"] == before, "an event is missing")
        need(event["tag"].encode() in unhex(event["record"]), "an event about somebody else")
        chain = sha256(b"\x12", head.chain, number(event["sequence"]), number(place, 4), commitment)
        heads[tag] = Head(head.count + 1, event["sequence"], chain)
    need(case["maps"] and checkpoint.patients is not None, "no proof about the patient")
    total = 0
    for proof in case["maps"]:
        tag = unhex(proof["tag"])
        path = [unhex(one) for one in proof["path"]]
        said = check_map(unhex(proof["leaf"]), path, tag, checkpoint.patients)
        need(said == heads.pop(tag, Head(0, 0, NOTHING)), "the events are not all")
        total += said.count
    need(not heads and total == case["count"], "the count is another")


def check_inclusion(case):
    path = [unhex(one) for one in case["path"]]
    root = root_by_inclusion(unhex(case["leaf"]), case["index"], case["size"], path)
    need(root == unhex(case["root"]), "another root")


def check_pair(case):
    path = [unhex(one) for one in case["path"]]
    roots = unhex(case["from_root"]), unhex(case["to_root"])
    check_consistency(case["from"], case["to"], *roots, path)


def check_map_case(case):
    path = [unhex(one) for one in case["path"]]
    said = check_map(unhex(case["leaf"]), path, unhex(case["tag"]), unhex(case["root"]))
    need(said.count == case["count"], "another count")


def unhex(text):
    return bytes.fromhex(text)


KINDS = {
    "inclusion": check_inclusion,
    "consistency": check_pair,
    "map": check_map_case,
    "note": lambda case: check_note(case["note"], case["verifier"]),
    "report": check_report,
}


def main(path):
    judged, disagreed = collections.Counter(), []
    with open(path, encoding="utf-8") as cases:
        for line_number, line in enumerate(cases, 1):
            case = json.loads(line)
            try:
                KINDS[case["kind"]](case)
                valid, why = True, ""
            except (Wrong, ValueError) as error:
                valid, why = False, str(error)
            judged[case["kind"], valid] += 1
            if valid != case["valid"]:
                disagreed.append(f"line {line_number}: {case['kind']} is {valid} here ({why})")
    for (kind, valid), count in sorted(judged.items()):
        print(f"{kind:<12} {'verifies' if valid else 'refused':<9} {count}")
    for line in disagreed[:20]:
        print("DISAGREES", line)
    valid = sum(count for (_, fine), count in judged.items() if fine)
    refused = sum(count for (_, fine), count in judged.items() if not fine)
    if disagreed or not valid or not refused or len({kind for kind, _ in judged}) != len(KINDS):
        sys.exit(f"{len(disagreed)} judgements differ; {valid} verify, {refused} do not")
    print(f"agrees on {valid} proofs and on {refused} mutated ones")


if __name__ == "__main__":
    main(sys.argv[1])
