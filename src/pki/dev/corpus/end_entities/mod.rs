//! Every rule of the end entity, kept and violated.

mod form;
mod holders;
mod uses;

use rustls_pki_types::CertificateDer;

use super::{Level, Maker, usage_of};
use crate::pki::dev::template::{DevKey, Template};
use crate::pki::dev::{DevError, KeyAlgorithm, Kind};

type Change = Box<dyn Fn(&mut Template)>;

/// A variant: its name, the kinds it is made of, the rule that refuses it, what is changed.
struct Variant {
    name: &'static str,
    kinds: &'static [Kind],
    expected: Option<&'static str>,
    change: Change,
}

const EVERY: &[Kind] = &[Kind::Institution, Kind::Gateway, Kind::Person];
const ORGANISATIONS: &[Kind] = &[Kind::Institution, Kind::Gateway];
const PERSON: &[Kind] = &[Kind::Person];

fn kept(
    name: &'static str,
    kinds: &'static [Kind],
    change: impl Fn(&mut Template) + 'static,
) -> Variant {
    Variant {
        name,
        kinds,
        expected: None,
        change: Box::new(change),
    }
}

fn broken(
    name: &'static str,
    kinds: &'static [Kind],
    rule: &'static str,
    change: impl Fn(&mut Template) + 'static,
) -> Variant {
    Variant {
        expected: Some(rule),
        ..kept(name, kinds, change)
    }
}

pub(super) fn add(maker: &mut Maker) -> Result<(), DevError> {
    let groups = [
        form::form(),
        form::algorithms(),
        form::keys()?,
        form::extensions(),
        form::times(maker.now)?,
        uses::key_usages(),
        uses::purposes(),
        uses::policies(),
        holders::roles()?,
        holders::subjects(),
    ];
    for variant in groups.into_iter().flatten() {
        for kind in variant.kinds {
            let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
            let mut template = maker.pki.template(&Maker::request(*kind), 77, &key)?;
            (variant.change)(&mut template);
            let der = template.sign(&maker.pki.issuing.key)?;
            let chain = vec![CertificateDer::from(der), maker.pki.issuing_certificate()];
            let name = format!("leaf/{}/{kind}", variant.name);
            let usage = usage_of(*kind);
            maker.add(name, Level::EndEntity, usage, variant.expected, chain);
        }
    }
    octets(maker)?;
    kinds(maker)
}

/// What is wrong with the bytes, not with the content.
fn octets(maker: &mut Maker) -> Result<(), DevError> {
    for kind in [Kind::Institution, Kind::Gateway, Kind::Person] {
        let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        let template = maker.pki.template(&Maker::request(kind), 77, &key)?;
        let der = template.sign(&maker.pki.issuing.key)?;
        let mut flipped = der.clone();
        if let Some(last) = flipped.last_mut() {
            *last ^= 1;
        }
        let variants: [(&str, &'static str, Vec<u8>); 6] = [
            (
                "octets/one-more",
                "malformed",
                [der.as_slice(), &[0]].concat(),
            ),
            (
                "octets/one-less",
                "malformed",
                der.split_last()
                    .map(|(_, rest)| rest.to_vec())
                    .unwrap_or_default(),
            ),
            ("octets/none", "malformed", Vec::new()),
            (
                "octets/text",
                "malformed",
                b"-----BEGIN CERTIFICATE-----".to_vec(),
            ),
            (
                "octets/one-mebibyte",
                "certificate-size",
                vec![0x30; 1 << 20],
            ),
            ("signature/last-bit-flipped", "signature", flipped),
        ];
        for (name, rule, der) in variants {
            let chain = vec![CertificateDer::from(der), maker.pki.issuing_certificate()];
            let name = format!("leaf/{name}/{kind}");
            maker.add(name, Level::EndEntity, usage_of(kind), Some(rule), chain);
        }
    }
    Ok(())
}

/// Each kind of certificate for each use.
fn kinds(maker: &mut Maker) -> Result<(), DevError> {
    use crate::pki::Usage::{Institution, Person, Server};
    const POLICY: Option<&str> = Some("policy-not-accepted");
    const PURPOSE: Option<&str> = Some("extended-key-usage");
    for (kind, usage, expected) in [
        (Kind::Institution, Institution, None),
        (Kind::Institution, Server, PURPOSE),
        (Kind::Institution, Person, POLICY),
        (Kind::Gateway, Institution, None),
        (Kind::Gateway, Server, None),
        (Kind::Gateway, Person, POLICY),
        (Kind::Operator, Institution, None),
        (Kind::Operator, Server, PURPOSE),
        (Kind::Person, Person, None),
        (Kind::Person, Institution, POLICY),
        (Kind::Person, Server, POLICY),
    ] {
        let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        let template = maker.pki.template(&Maker::request(kind), 77, &key)?;
        let der = template.sign(&maker.pki.issuing.key)?;
        // Without the issuing CA, which is configured.
        let chain = vec![CertificateDer::from(der)];
        let name = format!("leaf/kind/{kind}-as-{usage}");
        maker.add(name, Level::EndEntity, usage, expected, chain);
    }
    Ok(())
}
