//! What an end entity may be used for: keyUsage, extKeyUsage, certificatePolicies.

use super::{EVERY, ORGANISATIONS, PERSON, Variant, broken, kept};
use crate::pki::der::{self, tag};
use crate::pki::dev::Kind;
use crate::pki::dev::corpus::changes::{asserts, key_usage, uses};
use crate::pki::dev::corpus::{id, policy, remove, set};
use crate::pki::dev::template::{Extension, Template, extension};

pub(super) fn key_usages() -> Vec<Variant> {
    vec![
        broken(
            "key-usage/non-repudiation",
            EVERY,
            "signing-certificate",
            key_usage(&[1]),
        ),
        broken("key-usage/both", EVERY, "key-usage", key_usage(&[0, 1])),
        kept(
            "key-usage/key-encipherment-too",
            ORGANISATIONS,
            key_usage(&[0, 2]),
        ),
        broken(
            "key-usage/key-encipherment-too",
            PERSON,
            "key-usage",
            key_usage(&[0, 2]),
        ),
        broken(
            "key-usage/key-encipherment-only",
            EVERY,
            "key-usage",
            key_usage(&[2]),
        ),
        broken(
            "key-usage/key-agreement",
            EVERY,
            "key-usage",
            key_usage(&[0, 4]),
        ),
        broken("key-usage/crl-sign", EVERY, "key-usage", key_usage(&[0, 6])),
        broken(
            "authority/key-cert-sign",
            EVERY,
            "authority-as-end-entity",
            key_usage(&[0, 5]),
        ),
        broken("authority/ca-true", EVERY, "authority-as-end-entity", |t| {
            set(t, extension::authority());
        }),
        kept("authority/ca-false", EVERY, |t| {
            set(
                t,
                Extension::new(id::BASIC_CONSTRAINTS, true, vec![0x30, 0]),
            );
        }),
    ]
}

pub(super) fn purposes() -> Vec<Variant> {
    const RULE: &str = "extended-key-usage";
    let none = |t: &mut Template| remove(t, id::EXTENDED_KEY_USAGE);
    vec![
        broken("purpose/absent", ORGANISATIONS, RULE, none),
        kept("purpose/absent", PERSON, none),
        broken(
            "purpose/server-only",
            &[Kind::Institution, Kind::Person],
            RULE,
            uses(&["serverAuth"]),
        ),
        kept(
            "purpose/server-only",
            &[Kind::Gateway],
            uses(&["serverAuth"]),
        ),
        broken(
            "purpose/client-only",
            &[Kind::Gateway],
            RULE,
            uses(&["clientAuth"]),
        ),
        kept(
            "purpose/client-only",
            &[Kind::Institution, Kind::Person],
            uses(&["clientAuth"]),
        ),
        kept("purpose/both", EVERY, uses(&["clientAuth", "serverAuth"])),
        broken("purpose/any", EVERY, RULE, uses(&["2.5.29.37.0"])),
        broken("purpose/e-mail", EVERY, RULE, uses(&["1.3.6.1.5.5.7.3.4"])),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
pub(super) fn policies() -> Vec<Variant> {
    let qualified = |critical: bool| {
        move |t: &mut Template| {
            let qualifier = der::sequence([der::oid("1.2.392.9"), vec![tag::NULL, 0]]);
            let own = der::sequence([der::oid(policy::ORGANISATION), der::sequence([qualifier])]);
            set(
                t,
                Extension::new(id::POLICIES, critical, der::sequence([own])),
            );
        }
    };
    const NOT_ACCEPTED: &str = "policy-not-accepted";
    const MALFORMED: &str = "policy-malformed";
    vec![
        broken("policy/absent", EVERY, "policy-missing", |t| {
            remove(t, id::POLICIES);
        }),
        broken("policy/any", EVERY, "any-policy", asserts(&[policy::ANY])),
        kept(
            "policy/any-too",
            ORGANISATIONS,
            asserts(&[policy::ANY, policy::ORGANISATION]),
        ),
        kept(
            "policy/any-too",
            PERSON,
            asserts(&[policy::ANY, policy::PERSON]),
        ),
        broken(
            "policy/of-a-person",
            ORGANISATIONS,
            NOT_ACCEPTED,
            asserts(&[policy::PERSON]),
        ),
        broken(
            "policy/of-an-organisation",
            PERSON,
            NOT_ACCEPTED,
            asserts(&[policy::ORGANISATION]),
        ),
        kept(
            "policy/both",
            EVERY,
            asserts(&[policy::PERSON, policy::ORGANISATION]),
        ),
        broken(
            "policy/signing",
            EVERY,
            NOT_ACCEPTED,
            asserts(&[policy::SIGNING]),
        ),
        broken(
            "policy/organisation-production",
            ORGANISATIONS,
            NOT_ACCEPTED,
            asserts(&[policy::ORGANISATION_PRODUCTION]),
        ),
        broken(
            "policy/person-production",
            PERSON,
            NOT_ACCEPTED,
            asserts(&[policy::PERSON_PRODUCTION]),
        ),
        broken("policy/unknown", EVERY, NOT_ACCEPTED, asserts(&["1.2.3.4"])),
        broken(
            "policy/twice",
            ORGANISATIONS,
            MALFORMED,
            asserts(&[policy::ORGANISATION, policy::ORGANISATION]),
        ),
        broken("policy/none", EVERY, MALFORMED, asserts(&[])),
        broken(
            "policy/unknown-qualifier",
            ORGANISATIONS,
            MALFORMED,
            qualified(true),
        ),
        broken(
            "policy/unknown-qualifier-not-critical",
            ORGANISATIONS,
            "not-critical",
            qualified(false),
        ),
    ]
}
