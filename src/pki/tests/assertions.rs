//! The person's assertion: signed, verified, tampered with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::pki::assertion::{self, AssertionPolicy, AssertionSigner, Claims, Statement};
use crate::pki::{NodeIdentity, TrustHandle};
use crate::types::{HomeCommunityId, PersonRole, PurposeOfUse, Relation};

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
