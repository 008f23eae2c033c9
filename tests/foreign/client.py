#!/usr/bin/env python3
"""A gateway's client in another language, from proto/ alone: no code of Renkei's is used.

Feeds a patient in two domains, resolves one identifier into the other (PIX), provides a document as
a stream, finds it, retrieves it, and compares what came with what went; then what must be refused.
`generate` makes the stubs, `main` runs the steps; run.py does both against a node of its own.

    python client.py --stubs DIR --endpoint HOST:PORT --ca ROOT.pem --cert CERT.pem --key KEY.pem \
        --assertions FILE --authority OID --second-authority OID --repository OID --home urn:oid:...
"""

import argparse
import hashlib
import importlib
import os
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

CHUNK = 256 * 1024  # the most that a chunk may hold
TIMEOUT = 10  # seconds: every call has a deadline


def generate(proto: Path, out: Path):
    """Compiles every .proto with grpcio-tools, as any vendor would."""
    import grpc_tools
    from grpc_tools import protoc

    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path) for path in proto.rglob("*.proto"))
    assert files, f"no .proto under {proto}"
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [
        "protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}",
    ]
    assert protoc.main([*arguments, *files]) == 0, "protoc refuses proto/"
    return files


class Stubs:
    """The generated modules, by area."""

    def __init__(self, folder: Path):
        sys.path.insert(0, str(folder))
        load = importlib.import_module
        self.common = load("renkei.common.v1.common_pb2")
        self.person = load("renkei.identity.v1.person_pb2")
        self.identity = load("renkei.identity.v1.identity_pb2")
        self.metadata = load("renkei.documents.v1.metadata_pb2")
        self.query = load("renkei.documents.v1.query_pb2")
        self.documents = load("renkei.documents.v1.documents_pb2")
        self.IdentityStub = load("renkei.identity.v1.identity_pb2_grpc").IdentityServiceStub
        self.DocumentStub = load("renkei.documents.v1.documents_pb2_grpc").DocumentServiceStub


class Report:
    """Counts checks, and goes on after one that fails."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, good: bool, what: str, seen=""):
        if good:
            self.passed += 1
            print(f"ok   {what}")
        else:
            self.failed += 1
            print(f"FAIL {what}{f': {seen}' if seen != '' else ''}")
        return good

    def step(self, what: str, call):
        """Runs `call`; an exception is a failed check. Returns its value, or None."""
        import grpc

        try:
            return call()
        except grpc.RpcError as error:
            self.check(False, what, f"{error.code().name}: {error.details()}")
        except AssertionError as error:
            self.check(False, what, error)
        return None

    def refused(self, what: str, codes, call):
        """`call` must fail with one of `codes`."""
        import grpc

        try:
            call()
        except grpc.RpcError as error:
            wanted = [getattr(grpc.StatusCode, code) for code in codes]
            seen = f"{error.code().name}: {error.details()}"
            return self.check(error.code() in wanted, f"{what} ({error.code().name})", seen)
        return self.check(False, what, "it was answered")


class Institution:
    """A hospital's system: a channel, and assertions of the person who acts, one for each call."""

    def __init__(self, stubs: Stubs, options):
        import grpc

        self.stubs = stubs
        self.options = options
        self.tokens = iter(Path(options.assertions).read_text().split())
        read = lambda path: Path(path).read_bytes()
        self.ca = read(options.ca)
        credentials = grpc.ssl_channel_credentials(self.ca, read(options.key), read(options.cert))
        self.channel = self.open(credentials)
        self.identity = stubs.IdentityStub(self.channel)
        self.documents = stubs.DocumentStub(self.channel)

    def open(self, credentials):
        import grpc

        # The name in the node's certificate, if it is reached by another one.
        options = [("grpc.ssl_target_name_override", self.options.server_name)]
        return grpc.secure_channel(self.options.endpoint, credentials, options)

    def call(self, method, request, asserted=True):
        metadata = []
        if asserted:
            token = next(self.tokens, None)
            assert token, "the assertion file holds too few tokens"
            metadata.append(("renkei-assertion", token))
        return method(request, metadata=metadata, timeout=TIMEOUT)


# --- What is sent -----------------------------------------------------------------------------------


def demographics(stubs: Stubs, run: str):
    """One person, kanji and kana, with an insurance of this run only."""
    pb, common = stubs.person, stubs.common
    number = str(int(run[:8], 16) % 10_000_000).zfill(7)
    return pb.Demographics(
        names=[
            pb.PersonName(
                representation=pb.NAME_REPRESENTATION_IDEOGRAPHIC,
                use=pb.NAME_USE_OFFICIAL,
                family="髙橋",
                given=["さくら"],
            ),
            pb.PersonName(
                representation=pb.NAME_REPRESENTATION_SYLLABIC, family="タカハシ", given=["サクラ"]
            ),
        ],
        administrative_gender=pb.ADMINISTRATIVE_GENDER_FEMALE,
        birth_date="1984-11-03",
        addresses=[pb.Address(state="東京都", city="文京区", lines=["本郷7-3-1"], postal_code="113-0033")],
        telecoms=[pb.Telecom(system=pb.TELECOM_SYSTEM_PHONE, value="03-0000-1234")],
        coverages=[
            pb.InsuranceCoverage(
                insurer_number="06130001",
                symbol="12",
                number=number,
                branch="01",
                period=common.Period(start="2021-04-01"),
            )
        ],
    )


def feed(stubs: Stubs, authority: str, value: str, person, key: str):
    return stubs.identity.FeedPatientRequest(
        patient=stubs.person.Patient(
            identifier=stubs.common.Identifier(assigning_authority=authority, value=value),
            demographics=person,
        ),
        event=stubs.identity.FEED_EVENT_ADD,
        idempotency_key=key,
    )


def submission(stubs: Stubs, options, patient, content: bytes, unique: str, sha1: str):
    """A referral letter's metadata, complete by the Japanese guide."""
    pb, common = stubs.metadata, stubs.common
    code = lambda code, system, name: common.CodedValue(code=code, system=system, display_name=name)
    author = pb.Author(
        person=pb.MetadataPerson(id="D0001", family="鈴木", given="一郎"),
        institutions=[pb.MetadataOrganization(name="外部接続試験病院", id=options.institution)],
        roles=[common.CodedValue(code="Medical Doctor", system="1.2.392.100495.1.6.1.1")],
    )
    now = datetime.now(timezone.utc).strftime("%Y%m%d%H%M%S")
    title = common.InternationalString(
        values=[common.LocalizedString(value="診療情報提供書", language="ja-JP")]
    )
    entry = pb.DocumentEntry(
        entry_uuid="document-1",
        unique_id=unique,
        patient_id=patient,
        source_patient_id=patient,
        object_type=pb.OBJECT_TYPE_STABLE,
        authors=[author],
        class_code=code("57133-1", "2.16.840.1.113883.6.1", "Referral note"),
        type_code=code("57133-1", "2.16.840.1.113883.6.1", "Referral note"),
        format_code=code("urn:ihe:iti:xds-sd:text:2008", "1.3.6.1.4.1.19376.1.2.3", "Text"),
        healthcare_facility_type_code=code("22232009", "2.16.840.1.113883.6.96", "Hospital"),
        practice_setting_code=code("394802001", "2.16.840.1.113883.6.96", "General medicine"),
        confidentiality_codes=[code("N", "2.16.840.1.113883.5.25", "normal")],
        title=title,
        creation_time=now,
        language_code="ja-JP",
        mime_type="text/plain",
        hash=sha1,
        size=len(content),
        repository_unique_id=options.repository,
    )
    base = f"{options.repository}.{int(uuid.uuid4().hex[:12], 16)}"
    return pb.Submission(
        submission_set=pb.SubmissionSet(
            entry_uuid="set-1",
            unique_id=base,
            source_id=options.repository,
            patient_id=patient,
            submission_time=now,
            content_type_code=code("57133-1", "2.16.840.1.113883.6.1", "Referral note"),
            authors=[author],
        ),
        entries=[entry],
    )


def provide(stubs: Stubs, metadata, content: bytes, key: str):
    """The stream of a ProvideDocuments: metadata, then the document in chunks."""
    pb = stubs.documents
    yield pb.ProvideDocumentsRequest(start=pb.ProvideStart(submission=metadata, idempotency_key=key))
    yield pb.ProvideDocumentsRequest(document=pb.DocumentHeader(entry_uuid="document-1"))
    for start in range(0, len(content), CHUNK):
        yield pb.ProvideDocumentsRequest(chunk=content[start : start + CHUNK])


def find(stubs: Stubs, patient):
    approved = stubs.metadata.AVAILABILITY_STATUS_APPROVED
    query = stubs.query.FindDocumentsQuery(
        patient_id=patient, filter=stubs.query.DocumentFilter(statuses=[approved])
    )
    return stubs.documents.QueryRegistryRequest(query=stubs.query.StoredQuery(find_documents=query))


def retrieve(stubs: Stubs, entry):
    document = stubs.common.DocumentRef(
        home_community_id=entry.home_community_id,
        repository_unique_id=entry.repository_unique_id,
        document_unique_id=entry.unique_id,
    )
    pb = stubs.documents
    return pb.RetrieveDocumentsRequest(documents=[pb.DocumentRequest(document=document)])


def receive(stream):
    """The octets, header and trailer of one retrieved document."""
    content, header, trailer = bytearray(), None, None
    for message in stream:
        kind = message.part.WhichOneof("part")
        if kind == "header":
            assert header is None, "a second header"
            header = message.part.header
        elif kind == "chunk":
            assert header is not None and trailer is None, "a chunk outside of a document"
            assert 0 < len(message.part.chunk) <= CHUNK, "a chunk of the wrong size"
            content += message.part.chunk
        elif kind == "trailer":
            trailer = message.part.trailer
        else:
            raise AssertionError(f"failed: {message.part.failure.error.code}")
    assert header is not None and trailer is not None, "the stream ended without header or trailer"
    return bytes(content), header, trailer


# --- The steps ---------------------------------------------------------------------------------------


def identity_steps(report: Report, institution: Institution, run: str):
    stubs, options, call = institution.stubs, institution.options, institution.call
    person = demographics(stubs, run)
    first = stubs.common.Identifier(assigning_authority=options.authority, value=f"A{run[:8]}")
    second = stubs.common.Identifier(
        assigning_authority=options.second_authority, value=f"B{run[:8]}"
    )
    method = institution.identity.FeedPatient
    request = feed(stubs, first.assigning_authority, first.value, person, f"{run}-a")
    fed = report.step("a patient is fed", lambda: call(method, request))
    if fed is None:
        return first
    new = stubs.identity.FEED_OUTCOME_NEW_PERSON
    report.check(fed.outcome == new and fed.linkage_id != "", "a patient is fed, and is a new person", fed)
    again = report.step("the same feed again", lambda: call(method, request))
    if again is not None:
        same = again.SerializeToString(deterministic=True) == fed.SerializeToString(deterministic=True)
        report.check(same, "the same feed again gives the first answer", again)
    request = feed(stubs, second.assigning_authority, second.value, person, f"{run}-b")
    linked = report.step("the person is fed in another domain", lambda: call(method, request))
    if linked is not None:
        good = linked.outcome == stubs.identity.FEED_OUTCOME_LINKED
        good &= linked.linkage_id == fed.linkage_id
        report.check(good, "the person is fed in another domain, and linked", linked)

    method = institution.identity.QueryIdentifiers
    request = stubs.identity.QueryIdentifiersRequest(
        identifier=first, target_domains=[second.assigning_authority]
    )
    found = report.step("PIX", lambda: call(method, request))
    if found is not None:
        pairs = [(i.assigning_authority, i.value) for i in found.identifiers]
        wanted = [(second.assigning_authority, second.value)]
        report.check(pairs == wanted, "PIX: the identifier resolves into the other domain", pairs)
        report.check(found.linkage_id == fed.linkage_id, "PIX: the linkage id is the one of the feed")
    request = stubs.identity.QueryIdentifiersRequest(
        identifier=stubs.common.Identifier(assigning_authority=options.authority, value=f"X{run}")
    )
    report.refused("PIX: an unknown identifier", ["NOT_FOUND"], lambda: call(method, request))
    return first


def document_steps(report: Report, institution: Institution, run: str, patient):
    stubs, options, call = institution.stubs, institution.options, institution.call
    # Four chunks, the last one short; random, so that nothing can compress or guess it.
    content = os.urandom(3 * CHUNK + 1234)
    sha1 = hashlib.sha1(content).hexdigest()
    unique = f"{options.repository}.{int(run[:12], 16)}"
    metadata = submission(stubs, options, patient, content, unique, sha1)
    method = institution.documents.ProvideDocuments

    wrong = submission(stubs, options, patient, content, unique, "0" * 40)
    report.refused(
        "a document that is not what its hash says",
        ["INVALID_ARGUMENT"],
        lambda: call(method, provide(stubs, wrong, content, f"{run}-wrong")),
    )
    stored = report.step(
        "a document is provided", lambda: call(method, provide(stubs, metadata, content, f"{run}-d"))
    )
    if stored is None:
        return
    uuids = [assigned.entry_uuid for assigned in stored.result.assigned_ids]
    good = any(entry.startswith("urn:uuid:") for entry in uuids)
    report.check(good, "a document is provided as a stream, and gets its entryUUID", uuids)

    method = institution.documents.QueryRegistry
    listed = report.step("the document is found", lambda: call(method, find(stubs, patient)))
    if listed is None:
        return
    entries = [entry for entry in listed.objects.entries if entry.unique_id == unique]
    if not report.check(len(entries) == 1, "the document is found, once", len(entries)):
        return
    (entry,) = entries
    report.check(
        (entry.hash.lower(), entry.size) == (sha1, len(content)), "its metadata has hash and size"
    )
    report.check(entry.home_community_id == options.home, "and names the community", entry.home_community_id)
    title = entry.title.values[0].value if entry.title.values else ""
    report.check(title == "診療情報提供書", "and the title as it was given", title)

    method = institution.documents.RetrieveDocuments
    got = report.step("the document is retrieved", lambda: receive(call(method, retrieve(stubs, entry))))
    if got is not None:
        received, header, trailer = got
        report.check(received == content, "the document is retrieved, octet for octet", len(received))
        report.check(hashlib.sha1(received).hexdigest() == trailer.hash.lower(), "its SHA-1 is the trailer's")
        report.check(
            hashlib.sha256(received).hexdigest() == trailer.hash_sha256.lower(), "its SHA-256 is the trailer's"
        )
        report.check(header.mime_type == "text/plain", "its media type is the one given", header.mime_type)


def refusal_steps(report: Report, institution: Institution, patient):
    import grpc

    stubs, call = institution.stubs, institution.call
    report.refused(
        "a list without a person's assertion",
        ["PERMISSION_DENIED", "UNAUTHENTICATED"],
        lambda: call(institution.documents.QueryRegistry, find(stubs, patient), asserted=False),
    )
    # TLS 1.3: the client learns of the refusal with its first call, as a broken connection.
    request = stubs.identity.QueryIdentifiersRequest(identifier=patient)
    with institution.open(grpc.ssl_channel_credentials(institution.ca)) as nobody:
        method = stubs.IdentityStub(nobody).QueryIdentifiers
        report.refused("a call without a client certificate", ["UNAVAILABLE"], lambda: call(method, request))
    with grpc.insecure_channel(institution.options.endpoint) as plain:
        method = stubs.IdentityStub(plain).QueryIdentifiers
        report.refused("a call without TLS", ["UNAVAILABLE"], lambda: call(method, request))
    # The same question with certificate and assertion: what was refused is not the question.
    answer = report.step("the same call with both", lambda: call(institution.identity.QueryIdentifiers, request))
    if answer is not None:
        report.check(answer.linkage_id != "", "the same call with certificate and assertion is answered")


def run_steps(options) -> Report:
    report = Report()
    institution = Institution(Stubs(Path(options.stubs)), options)
    run = uuid.uuid4().hex
    with institution.channel:
        patient = identity_steps(report, institution, run)
        document_steps(report, institution, run, patient)
        refusal_steps(report, institution, patient)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, text in [
        ("stubs", "folder of the generated modules"),
        ("endpoint", "HOST:PORT of the node"),
        ("ca", "trusted root, PEM"),
        ("cert", "the institution's certificate chain, PEM"),
        ("key", "its private key, PEM"),
        ("assertions", "file of person assertions, one a line; each is used once"),
        ("authority", "OID of the patient identifiers"),
        ("second-authority", "OID of a second domain of the same community"),
        ("repository", "repositoryUniqueId of the node"),
        ("home", "homeCommunityId of the node"),
    ]:
        parser.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--institution", default="1310000019", help="10-digit institution code")
    parser.add_argument("--server-name", default="localhost", help="DNS name in the node's certificate")
    report = run_steps(parser.parse_args())
    print(f"{report.passed} passed, {report.failed} failed")
    return int(report.failed > 0 or report.passed == 0)


if __name__ == "__main__":
    sys.exit(main())
