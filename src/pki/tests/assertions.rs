//! The person's assertion: signed, verified, tampered with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::pki::assertion::{
    self, AssertionPolicy, AssertionSigner, Claims, Nonces, Presentation, Statement,
    VerifiedAssertion,
};
use crate::pki::{NodeIdentity, TrustHandle};
use crate::types::{CertificateThumbprint, HomeCommunityId, PersonRole, PurposeOfUse, Relation};

fn hub() -> HomeCommunityId {
    "urn:oid:1.2.392.200299.9.1".parse().unwrap()
}

struct Desk {
    lab: Lab,
    trust: Arc<TrustHandle>,
    signer: AssertionSigner,
}

fn identity(lab: &mut Lab, request: &IssueRequest) -> NodeIdentity {
    lab.pki.issue(request).unwrap().identity().unwrap()
}

impl Desk {
    fn new(request: &IssueRequest) -> Self {
        let mut lab = Lab::new();
        let identity = identity(&mut lab, request);
        let trust = TrustHandle::new(lab.trust());
        let signer = AssertionSigner::from_identity(&identity, trust.current().profiles()).unwrap();
        Self { lab, trust, signer }
    }

    fn statement(&self, role: &str) -> Statement {
        let person = self.signer.issuer() != CODE;
        Statement {
            subject: if person {
                self.signer.issuer().to_owned()
            } else {
                "staff-17".to_owned()
            },
            role: role.to_owned(),
            purpose: PurposeOfUse::Treatment,
            relation: Relation::Treating,
            institution: CODE.parse().unwrap(),
            audience: vec![hub()],
            presenter: None,
            one_time: false,
        }
    }

    fn token(&self, role: &str) -> String {
        let lifetime = Duration::from_mins(5);
        self.signer
            .issue(self.statement(role), self.lab.now(), lifetime)
            .unwrap()
    }

    fn verdict(&self, token: &str) -> &'static str {
        match assertion::verify(token, &self.trust, &hub(), self.lab.now()) {
            Ok(_) => "ok",
            Err(refusal) => refusal.rule(),
        }
    }

    fn claims(&self, change: impl FnOnce(&mut Claims)) -> &'static str {
        let token = self.token("Medical Doctor");
        let verified = assertion::verify(&token, &self.trust, &hub(), self.lab.now());
        let mut claims = verified.unwrap().claims;
        change(&mut claims);
        self.verdict(&self.signer.sign(&claims).unwrap())
    }
}

#[test]
fn a_person_signs_for_themselves_in_a_certified_role() {
    for key in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048] {
        let signer = Desk::new(&Lab::request(Kind::Person, "p").key(key));
        let token = signer.token("Medical Doctor");
        let now = signer.lab.now();
        let verified = assertion::verify(&token, &signer.trust, &hub(), now).unwrap();
        assert!(verified.role_is_certified());
        assert_eq!(verified.claims.person_role(), Some(PersonRole::Physician));
        assert_eq!(verified.claims.institution.as_str(), CODE);
        assert_eq!(
            signer.verdict(&signer.token("Pharmacist")),
            "assertion-role-not-certified"
        );
        assert_eq!(
            signer.verdict(&signer.token("Clerk")),
            "assertion-role-not-certified"
        );
    }
}

#[test]
fn an_institution_vouches_for_its_staff() {
    let signer = Desk::new(&Lab::request(Kind::Institution, "i"));
    let token = signer.token("Clerk");
    let verified = assertion::verify(&token, &signer.trust, &hub(), signer.lab.now()).unwrap();
    assert!(!verified.role_is_certified());
    assert_eq!(verified.claims.subject, "staff-17");
    assert_eq!(signer.verdict(&signer.token("General Nurse")), "ok");
    assert_eq!(signer.verdict(&signer.token("Physical Therapist")), "ok");
    assert_eq!(signer.verdict(&signer.token("Wizard")), "assertion-claim");
    assert_eq!(
        signer.claims(|c| c.institution = "1312345679".parse().unwrap()),
        "assertion-contradiction"
    );
    assert_eq!(
        signer.claims(|c| c.issuer = "1312345679".into()),
        "assertion-contradiction"
    );
}

#[test]
fn claims_are_bounded_in_time_audience_and_text() {
    let signer = Desk::new(&Lab::request(Kind::Person, "p"));
    let now = signer.lab.now();
    let at = |seconds: i64| Timestamp::from_second(now.as_second() + seconds).unwrap();
    let times = |issued: i64, expires: i64| {
        signer.claims(|c| {
            c.issued_at = at(issued);
            c.expires_at = at(expires);
        })
    };
    assert_eq!(times(0, 900), "ok");
    assert_eq!(times(0, 901), "assertion-lives-too-long");
    assert_eq!(times(60, 120), "ok");
    assert_eq!(times(61, 120), "assertion-not-yet-valid");
    assert_eq!(times(-300, -60), "ok");
    assert_eq!(times(-300, -61), "assertion-expired");
    assert_eq!(times(0, 0), "assertion-lives-too-long");
    let elsewhere = || vec!["urn:oid:1.2.3".parse().unwrap()];
    assert_eq!(
        signer.claims(|c| c.audience = elsewhere()),
        "assertion-audience"
    );
    assert_eq!(signer.claims(|c| c.audience = vec![]), "assertion-claim");
    assert_eq!(
        signer.claims(|c| c.nonce = "short".into()),
        "assertion-claim"
    );
    assert_eq!(
        signer.claims(|c| c.subject = "x".repeat(129)),
        "assertion-claim"
    );
    assert_eq!(
        signer.claims(|c| c.subject = "someone-else".into()),
        "assertion-contradiction"
    );
    assert_eq!(
        signer.claims(|c| c.issuer = "someone-else".into()),
        "assertion-contradiction"
    );
    let policy = AssertionPolicy {
        max_lifetime: Duration::from_mins(1),
        ..Default::default()
    };
    let token = signer.token("Medical Doctor");
    let verdict = policy.verify(&token, &signer.trust, &hub(), now);
    assert_eq!(verdict.unwrap_err().rule(), "assertion-lives-too-long");
}

#[test]
fn signers_are_judged_like_any_certificate() {
    for (variant, rule) in [
        (Variant::SigningOnly, "signing-certificate"),
        (Variant::Expired, "expired"),
        (Variant::WrongPolicy, "policy-not-accepted"),
    ] {
        let signer = Desk::new(&Lab::request(Kind::Person, "p").variant(variant));
        assert_eq!(signer.verdict(&signer.token("Medical Doctor")), rule);
    }
    let mut signer = Desk::new(&Lab::request(Kind::Person, "p"));
    let token = signer.token("Medical Doctor");
    assert_eq!(signer.verdict(&token), "ok");
    signer.lab.pki.revoke("p").unwrap();
    signer.trust.replace(signer.lab.trust());
    assert_eq!(signer.verdict(&token), "revoked");
    let stranger = Desk::new(&Lab::request(Kind::Person, "p"));
    assert_eq!(
        signer.verdict(&stranger.token("Medical Doctor")),
        "authority-key-identifier"
    );
}

#[test]
fn an_assertion_is_bound_to_the_certificate_that_presents_it() {
    let mut signer = Desk::new(&Lab::request(Kind::Institution, "i"));
    let certified = |chain: &[CertificateDer<'static>], lab: &Lab| {
        judge(chain, &lab.trust(), Usage::Institution, lab.now()).unwrap()
    };
    let other = signer.lab.issue(Kind::Institution, Variant::Ok);
    let other = certified(&other, &signer.lab);
    let now = signer.lab.now();
    let verify = |token: &str| assertion::verify(token, &signer.trust, &hub(), now).unwrap();
    let own = verify(&signer.token("Clerk"));
    assert_eq!(own.signer.fingerprint.len(), 32);
    own.check_presenter(&own.signer).unwrap();
    assert_eq!(
        own.check_presenter(&other).unwrap_err().rule(),
        "assertion-presenter"
    );
    // Named: the system of the other certificate may, the signer may not.
    let mut statement = signer.statement("Clerk");
    statement.presenter = Some(CertificateThumbprint::from_bytes(other.fingerprint));
    let token = signer
        .signer
        .issue(statement, now, Duration::from_mins(5))
        .unwrap();
    let named = verify(&token);
    named.check_presenter(&other).unwrap();
    assert_eq!(
        named.check_presenter(&own.signer).unwrap_err().rule(),
        "assertion-presenter"
    );
    // Without cnf, or with one that is none.
    let payload = json(&token, 1);
    assert!(payload.contains("x5t#S256"));
    let without = resigned(&signer, &payload.replace("\"cnf\"", "\"cnx\""));
    assert_eq!(signer.verdict(&without), "assertion-unbound");
    let empty = resigned(&signer, &payload.replace("x5t#S256", "jkt"));
    assert_eq!(signer.verdict(&empty), "assertion-malformed");
    let thumbprint = other_thumbprint(&payload);
    let short = resigned(&signer, &payload.replace(&thumbprint, &thumbprint[1..]));
    assert_eq!(signer.verdict(&short), "assertion-claim");
}

fn other_thumbprint(payload: &str) -> String {
    let claims: serde_json::Value = serde_json::from_str(payload).unwrap();
    claims["cnf"]["x5t#S256"].as_str().unwrap().to_owned()
}

/// Any claims, signed.
fn resigned(signer: &Desk, payload: &str) -> String {
    let head = signer.token("Clerk");
    let head = head.split('.').next().unwrap();
    let message = format!("{head}.{}", URL_SAFE_NO_PAD.encode(payload));
    let signature = signer.signer.sign_message(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An assertion for one time, verified.
fn one_time(signer: &Desk, change: impl FnOnce(&mut Claims)) -> VerifiedAssertion {
    let now = signer.lab.now();
    let token = signer.token("Clerk");
    let mut verified = assertion::verify(&token, &signer.trust, &hub(), now).unwrap();
    verified.claims.one_time = true;
    change(&mut verified.claims);
    verified
}

/// Bars: Z-11 (replay), T-32.
#[test]
fn one_for_one_time_is_taken_once() {
    let signer = Desk::new(&Lab::request(Kind::Institution, "i"));
    let now = signer.lab.now();
    let at = |seconds: i64| Timestamp::from_second(now.as_second() + seconds).unwrap();
    let nonces = Nonces::small(at(-60), 100, 50);
    let direct = |assertion: &VerifiedAssertion, at| {
        let taken = nonces.take(assertion, Presentation::Direct, at);
        taken.map_err(|refusal| refusal.rule())
    };
    let first = one_time(&signer, |_| {});
    assert_eq!(direct(&first, now), Ok(()));
    assert_eq!(direct(&first, now), Err("assertion-replayed"));
    assert_eq!(
        direct(&first, at(300 + 60)),
        Err("assertion-replayed"),
        "to its last second"
    );
    assert_eq!(nonces.len(), 1);
    // For several calls: not remembered.
    let session = one_time(&signer, |claims| claims.one_time = false);
    assert_eq!(
        (direct(&session, now), direct(&session, now)),
        (Ok(()), Ok(()))
    );
    assert_eq!(nonces.len(), 1);
    // Passed on: the calls of one request, of the gateway that came first.
    let (home, other) = (hub(), "urn:oid:1.2.3".parse().unwrap());
    let relayed = |by: &HomeCommunityId, request_id: &str| {
        let taken = nonces.take(&first, Presentation::Relayed { by, request_id }, now);
        taken.map_err(|refusal| refusal.rule())
    };
    assert_eq!(relayed(&home, "a"), Ok(()));
    assert_eq!(relayed(&home, "a"), Ok(()));
    assert_eq!(relayed(&home, "b"), Err("assertion-replayed"));
    assert_eq!(relayed(&other, "b"), Ok(()));
    // Forgotten when it is refused as expired anyway.
    let later = one_time(&signer, |claims| {
        claims.nonce = "another nonce of it".into();
    });
    assert_eq!(direct(&later, at(300 + 61)), Ok(()));
    assert_eq!(nonces.len(), 1);
    // Issued before the memory began, as after a restart.
    let restarted = Nonces::small(at(-4), 100, 50);
    let old = restarted.take(&first, Presentation::Direct, now);
    assert_eq!(old.unwrap_err().rule(), "assertion-before-memory");
    let ahead = |seconds: i64| {
        signer.claims(|claims| {
            claims.one_time = true;
            claims.issued_at = at(seconds);
            claims.expires_at = at(seconds + 60);
        })
    };
    assert_eq!(ahead(5), "ok");
    assert_eq!(ahead(6), "assertion-not-yet-valid");
}

#[test]
fn the_memory_of_nonces_is_bounded_and_shared() {
    let signer = Desk::new(&Lab::request(Kind::Institution, "i"));
    let other = Desk::new(&Lab::request(Kind::Institution, "j"));
    let now = signer.lab.now();
    let nonces = Nonces::small(now - Duration::from_mins(1), 6, 4);
    let take = |desk: &Desk, number: usize| {
        let one = one_time(desk, |claims| {
            claims.nonce = format!("nonce number {number:04}");
        });
        let taken = nonces.take(&one, Presentation::Direct, now);
        taken.map_err(|refusal| refusal.rule())
    };
    for number in 0..4 {
        assert_eq!(take(&signer, number), Ok(()));
    }
    assert_eq!(
        take(&signer, 4),
        Err("assertion-too-many"),
        "one signer's part"
    );
    assert_eq!(take(&other, 0), Ok(()));
    assert_eq!(take(&other, 1), Ok(()));
    assert_eq!(take(&other, 2), Err("assertion-too-many"), "all of it");
    assert_eq!(nonces.len(), 6);
    assert_eq!(
        take(&signer, 0),
        Err("assertion-replayed"),
        "what is known stays known"
    );
}

/// `token` with its header, claims and signature replaced where given.
fn forge(token: &str, head: Option<&str>, claims: Option<&str>, signature: Option<&str>) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let part = |index: usize, json: Option<&str>| {
        json.map_or_else(
            || parts[index].to_owned(),
            |json| URL_SAFE_NO_PAD.encode(json),
        )
    };
    format!(
        "{}.{}.{}",
        part(0, head),
        part(1, claims),
        signature.unwrap_or(parts[2])
    )
}

fn json(token: &str, index: usize) -> String {
    let part = token.split('.').nth(index).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn tampering_is_seen() {
    let signer = Desk::new(&Lab::request(Kind::Person, "p"));
    let token = signer.token("Medical Doctor");
    let (head, claims) = (json(&token, 0), json(&token, 1));
    let head_with = |from: &str, to: &str| {
        assert!(head.contains(from), "{head}");
        signer.verdict(&forge(&token, Some(&head.replace(from, to)), None, None))
    };
    let raised = claims.replace("TREAT", "ETREAT");
    assert_eq!(
        signer.verdict(&forge(&token, None, Some(&raised), None)),
        "assertion-signature"
    );
    assert_eq!(
        signer.verdict(&forge(&token, None, None, Some(""))),
        "assertion-signature"
    );
    assert_eq!(head_with("ES256", "HS256"), "assertion-algorithm");
    assert_eq!(head_with("ES256", "RS256"), "assertion-algorithm");
    assert_eq!(head_with("\"ES256\"", "\"none\""), "assertion-malformed");
    assert_eq!(head_with(assertion::TOKEN_TYPE, "JWT"), "assertion-header");
    assert_eq!(
        head_with("{\"typ\"", "{\"crit\":[\"b64\"],\"typ\""),
        "assertion-header"
    );
    assert_eq!(
        head_with("{\"typ\"", "{\"jku\":\"http://a\",\"typ\""),
        "assertion-header"
    );
    assert_eq!(head_with("x5c", "x5d"), "assertion-header");
    // Another person's certificate over this signature.
    let mut other = Desk::new(&Lab::request(Kind::Person, "p"));
    let second = Lab::request(Kind::Person, "q");
    let second = identity(&mut other.lab, &second);
    let swapped = AssertionSigner::from_identity(&second, other.trust.current().profiles());
    let swapped = swapped.unwrap().issue(
        other.statement("Medical Doctor"),
        other.lab.now(),
        Duration::from_mins(5),
    );
    let mixed = forge(
        &other.token("Medical Doctor"),
        Some(&json(&swapped.unwrap(), 0)),
        None,
        None,
    );
    assert_eq!(other.verdict(&mixed), "assertion-signature");
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let signer = Desk::new(&Lab::request(Kind::Person, "p"));
    let token = signer.token("Medical Doctor");
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.e30"] {
        assert_ne!(signer.verdict(text), "ok");
    }
    assert_eq!(
        signer.verdict(&"x".repeat(assertion::LARGEST_TOKEN + 1)),
        "assertion-size"
    );
    for index in (0..token.len()).step_by(7) {
        let mut damaged = token.clone().into_bytes();
        damaged[index] = if damaged[index] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(damaged).unwrap();
        assert_ne!(signer.verdict(&damaged), "ok", "character {index}");
    }
}

/// The example of `docs/assertion.md`, signed as it stands there: another vendor's program would do no
/// more than put in its own certificates.
#[test]
fn the_documented_example_is_accepted() {
    let text = include_str!("../../../docs/assertion.md");
    let blocks: Vec<&str> = text
        .split("```json")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let [head, claims] = blocks.as_slice() else {
        panic!("a header and claims");
    };
    let signer = Desk::new(&Lab::request(Kind::Institution, "i"));
    let own: serde_json::Value = serde_json::from_str(&json(&signer.token("Clerk"), 0)).unwrap();
    let mut head: serde_json::Value = serde_json::from_str(head).unwrap();
    assert!(head["x5c"].is_array());
    head["x5c"] = own["x5c"].clone();
    let mut claims: serde_json::Value = serde_json::from_str(claims).unwrap();
    let sample = claims["cnf"]["x5t#S256"].as_str().unwrap().to_owned();
    assert_eq!(sample.len(), signer.signer.thumbprint().to_string().len());
    claims["cnf"]["x5t#S256"] = signer.signer.thumbprint().to_string().into();
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&head), part(&claims));
    let signature = signer.signer.sign_message(message.as_bytes()).unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let now = signer.lab.now();
    let verified = assertion::verify(&token, &signer.trust, &hub(), now).unwrap();
    verified.check_presenter(&verified.signer).unwrap();
    assert!(!verified.claims.one_time);
    assert_eq!(verified.claims.subject, "staff-17");
    // Every claim and header of the example is explained, and every one that is read is in it.
    for name in head
        .as_object()
        .unwrap()
        .keys()
        .chain(claims.as_object().unwrap().keys())
    {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
    let purposes = PurposeOfUse::ALL.iter().map(|purpose| purpose.code());
    let relations = Relation::ALL.iter().map(|relation| relation.code());
    for code in purposes.chain(relations) {
        assert!(text.contains(&format!("`{code}`")), "{code}");
    }
    for rule in [
        "assertion-presenter",
        "assertion-replayed",
        "assertion-too-many",
        "assertion-before-memory",
    ] {
        assert!(text.contains(&format!("`{rule}`")), "{rule}");
    }
}
