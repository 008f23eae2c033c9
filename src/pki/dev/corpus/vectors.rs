//! What issued certificates have, byte for byte where it is known: the hcRole vectors, and the
//! hierarchy and names of the HPKI root and its authentication CA (Japan fact sheet §1.3, §1.8).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use rustls_pki_types::CertificateDer;

use super::{Level, Maker, Trusted, policy, set};
use crate::pki::Usage;
use crate::pki::certificate::oid;
use crate::pki::der::{self, tag};
use crate::pki::dev::template::{DevKey, Extension, ListTemplate, Template, extension, name};
use crate::pki::dev::{DevError, KeyAlgorithm, Kind};

/// Extension values of issued certificates (the first two) and computed from the same form.
const ROLES: [(&str, &str); 4] = [
    (
        "medical-doctor",
        "303430320606288185420001312831263024a0223120a00c060a2a830886910f01060101a2100c0e4d65646963616c20446f63746f72",
    ),
    (
        "pharmacist",
        "3030302e0606288185420001312431223020a01e311ca00c060a2a830886910f01060101a20c0c0a506861726d6163697374",
    ),
    (
        "director-of-hospital",
        "303a30380606288185420001312e312c302aa0283126a00c060a2a830886910f01060101a2160c144469726563746f72206f6620486f73706974616c",
    ),
    (
        "doctor-and-director",
        "305e305c0606288185420001315231503024a0223120a00c060a2a830886910f01060101a2100c0e4d65646963616c20446f63746f723028a0263124a00c060a2a830886910f01060101a2140c124469726563746f72206f6620436c696e6963",
    ),
];

/// One `HCActor` each: with a code, and with empty regional data.
const ACTORS: [(&str, &str); 2] = [
    (
        "actor-with-a-code",
        "MCegJTEjoAwGCiqDCIaRDwEGAQGhBRIDMTIzogwMClBoYXJtYWNpc3Q=",
    ),
    (
        "actor-with-regional-data",
        "MCugJTEjoAwGCiqDCIaRDwEGAQGhBRIDMTIzogwMClBoYXJtYWNpc3ShAjAA",
    ),
];

pub(super) fn add(maker: &mut Maker) -> Result<(), DevError> {
    roles(maker)?;
    hierarchy(maker)
}

fn bad(_: impl std::error::Error) -> DevError {
    DevError::Profile("a vector does not decode".into())
}

fn roles(maker: &mut Maker) -> Result<(), DevError> {
    let mut values = Vec::new();
    for (name, hex) in ROLES {
        let value = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(bad)?;
        // Cut anywhere, a vector is no hcRole.
        let cut = value.get(..value.len() - 1).unwrap_or_default().to_vec();
        values.push((name.to_owned(), None, value));
        values.push((format!("{name}-cut"), Some("malformed"), cut));
    }
    for (name, text) in ACTORS {
        let actor = STANDARD.decode(text).map_err(bad)?;
        let double = der::set_of(vec![der::set_of(vec![actor.clone()])]);
        let single = der::set_of(vec![actor]);
        for (title, expected, set) in [
            (name.to_owned(), None, double),
            (
                format!("{name}-single-set"),
                Some("hc-role-malformed"),
                single,
            ),
        ] {
            let attribute = der::sequence([der::oid("1.0.17090.0.1"), set]);
            values.push((title, expected, der::sequence([attribute])));
        }
    }
    for (name, expected, value) in values {
        let key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        let mut template = maker
            .pki
            .template(&Maker::request(Kind::Person), 77, &key)?;
        set(&mut template, extension::directory_attributes(value));
        let der = template.sign(&maker.pki.issuing.key)?;
        let chain = vec![CertificateDer::from(der), maker.pki.issuing_certificate()];
        let name = format!("leaf/vector/{name}");
        maker.add(name, Level::EndEntity, Usage::Person, expected, chain);
    }
    Ok(())
}

/// The HPKI root, its authentication CA and an end entity of each policy, under the production
/// profiles: names, string types, extensions, RSA keys and lists as issued.
struct Hierarchy {
    root: DevKey,
    root_der: CertificateDer<'static>,
    issuing: DevKey,
    issuing_der: CertificateDer<'static>,
    arl: ListTemplate,
    list: ListTemplate,
    leaf: Template,
}

const ORGANISATION: &str = "Ministry of Health, Labour and Welfare";
const UNITS: [&str; 2] = [
    "Director-General for Policy Planning and Evaluation",
    "MHLW HPKI Root CA V2",
];
const AUTHENTICATION_CA: &str = "HPKI-01-MedisAuthCA2-forAuthentication-forIndividual";

fn root_name(more: Option<&'static str>) -> Vec<u8> {
    let own = [(oid::COUNTRY, "JP"), (oid::ORGANISATION, ORGANISATION)];
    let units = UNITS.map(|unit| (oid::ORGANISATIONAL_UNIT, unit));
    let more = more.map(|common| (oid::COMMON_NAME, common));
    name(own.into_iter().chain(units).chain(more))
}

impl Hierarchy {
    #[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
    fn new(maker: &Maker) -> Result<Self, DevError> {
        let root = DevKey::generate(KeyAlgorithm::Rsa2048)?;
        let issuing = DevKey::generate(KeyAlgorithm::Rsa2048)?;
        let own = DevKey::generate(KeyAlgorithm::Rsa2048)?;
        let japanese = name([
            (oid::COUNTRY, "JP"),
            (oid::ORGANISATION, "厚生労働省"),
            (oid::ORGANISATIONAL_UNIT, "政策統括官"),
        ]);
        let mut top = maker.pki.authority_template(&root, 1)?;
        top.serial = vec![1];
        top.subject = root_name(None);
        top.issuer.clone_from(&top.subject);
        super::remove(&mut top, super::id::AUTHORITY_KEY);
        super::remove(&mut top, super::id::POLICIES);
        let directory = der::element(tag::constructed(4), &japanese);
        set(
            &mut top,
            Extension::new(
                super::id::ALTERNATIVE_NAMES,
                false,
                der::sequence([directory]),
            ),
        );
        let point = extension::directory(&root_name(Some("SARL")));
        let uri = extension::uri("http://hpki.mhlw.go.jp/repository/rlist/sarl2.crl");
        let mut authority = maker.pki.authority_template(&issuing, 2)?;
        authority.issuer.clone_from(&top.subject);
        authority.subject = name([
            (oid::COUNTRY, "JP"),
            (oid::ORGANISATION, "MEDIS"),
            (oid::ORGANISATIONAL_UNIT, "MEDIS HPKI CA"),
            (oid::COMMON_NAME, AUTHENTICATION_CA),
        ]);
        let cps = "http://hpki.mhlw.go.jp/repository/";
        set(
            &mut authority,
            extension::policies([policy::PERSON_PRODUCTION], cps),
        );
        set(
            &mut authority,
            extension::distribution_points([point.clone(), uri]),
        );
        let named = extension::authority_key(&root.key_id(), &top.subject, &top.serial);
        set(&mut authority, named);
        let mut arl = maker.pki.root_crl_template(maker.now)?;
        arl.issuer.clone_from(&top.subject);
        arl.extensions
            .retain(|known| known.oid != super::id::ISSUING_POINT);
        arl.extensions.push(extension::authorities_only(&point));
        let mut list = maker.pki.issuing_crl_template(maker.now)?;
        list.issuer.clone_from(&authority.subject);
        let own_key = |key: &DevKey, serial: &[u8], list: &mut ListTemplate| {
            let named = extension::authority_key(&key.key_id(), &top.subject, serial);
            list.extensions.retain(|known| known.oid != named.oid);
            list.extensions.push(named);
        };
        own_key(&root, &top.serial, &mut arl);
        own_key(&issuing, &authority.serial, &mut list);
        let mut leaf = maker
            .pki
            .template(&Maker::request(Kind::Person), 350, &own)?;
        leaf.issuer.clone_from(&authority.subject);
        let named = extension::authority_key(&issuing.key_id(), &top.subject, &authority.serial);
        set(&mut leaf, named);
        set(
            &mut leaf,
            extension::policies([policy::PERSON_PRODUCTION], cps),
        );
        Ok(Self {
            root_der: CertificateDer::from(top.sign(&root)?),
            issuing_der: CertificateDer::from(authority.sign(&root)?),
            root,
            issuing,
            arl,
            list,
            leaf,
        })
    }
}

#[expect(clippy::too_many_lines, reason = "a table: one row a variant")]
fn hierarchy(maker: &mut Maker) -> Result<(), DevError> {
    let hpki = Hierarchy::new(maker)?;
    let trusted = Trusted {
        roots: vec![hpki.root_der.clone()],
        authorities: vec![hpki.issuing_der.clone()],
        lists: vec![
            hpki.arl.sign(&hpki.root)?.into(),
            hpki.list.sign(&hpki.issuing)?.into(),
        ],
        renewals: Vec::new(),
    };
    let cps = "http://hpki.mhlw.go.jp/repository/";
    let asserting = |policy: &str, usage: u8| {
        let mut leaf = hpki.leaf.clone();
        set(&mut leaf, extension::policies([policy], cps));
        set(&mut leaf, extension::key_usage(&[usage]));
        leaf
    };
    const NOT_ACCEPTED: Option<&str> = Some("policy-not-accepted");
    for (name, expected, usage, leaf) in [
        (
            "card",
            None,
            Usage::Person,
            asserting(policy::PERSON_PRODUCTION, 0),
        ),
        (
            "card-for-a-connection",
            NOT_ACCEPTED,
            Usage::Institution,
            asserting(policy::PERSON_PRODUCTION, 0),
        ),
        (
            "test-card-under-the-production-ca",
            NOT_ACCEPTED,
            Usage::Person,
            asserting(policy::PERSON, 0),
        ),
        (
            "signing-card",
            Some("signing-certificate"),
            Usage::Person,
            asserting(policy::SIGNING_PRODUCTION, 1),
        ),
        (
            "signing-card-for-a-connection",
            Some("signing-certificate"),
            Usage::Institution,
            asserting(policy::SIGNING_PRODUCTION, 1),
        ),
        (
            "signing-policy-for-authentication",
            NOT_ACCEPTED,
            Usage::Person,
            asserting(policy::SIGNING_PRODUCTION, 0),
        ),
        (
            "organisation-policy-under-the-person-ca",
            NOT_ACCEPTED,
            Usage::Institution,
            asserting(policy::ORGANISATION_PRODUCTION, 0),
        ),
    ] {
        let chain = vec![CertificateDer::from(leaf.sign(&hpki.issuing)?)];
        let name = format!("leaf/vector/hpki-{name}");
        let case = maker.add(name, Level::EndEntity, usage, expected, chain);
        case.set = "hpki";
        case.trusted = trusted.clone();
    }
    let mut without = trusted.clone();
    without.lists.remove(0);
    let chain = vec![CertificateDer::from(hpki.leaf.sign(&hpki.issuing)?)];
    let name = "authority/vector/hpki-without-the-sarl".to_owned();
    let case = maker.add(
        name,
        Level::Authority,
        Usage::Person,
        Some("crl-missing"),
        chain,
    );
    case.set = "hpki";
    case.trusted = without;
    Ok(())
}
