//! A line of CAs below the root, each with its list, and an end entity below the last.

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::{Level, Maker, Trusted, id, set, usage_of};
use crate::pki::certificate::oid;
use crate::pki::dev::template::{DevKey, ListTemplate, Template, extension, name};
use crate::pki::dev::{DevError, KeyAlgorithm, Kind};

/// A CA to be.
pub(super) struct Node {
    pub(super) key: DevKey,
    pub(super) template: Template,
    pub(super) list: ListTemplate,
}

/// Root, CAs from the highest down, end entity.
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) nodes: Vec<Node>,
    pub(super) leaf: Template,
}

impl Line {
    /// A line of `length` CAs with nothing wrong.
    pub(super) fn new(maker: &Maker, kind: Kind, length: usize) -> Result<Self, DevError> {
        let keys = vec![KeyAlgorithm::EcdsaP256; length];
        Self::with_keys(maker, kind, &keys)
    }

    /// A line of one CA for each kind of key.
    pub(super) fn with_keys(
        maker: &Maker,
        kind: Kind,
        keys: &[KeyAlgorithm],
    ) -> Result<Self, DevError> {
        let mut nodes: Vec<Node> = Vec::new();
        for (index, algorithm) in keys.iter().enumerate() {
            let key = DevKey::generate(*algorithm)?;
            let serial = u64::try_from(900 + index).unwrap_or(900);
            let mut template = maker.pki.authority_template(&key, serial)?;
            let common = format!("Corpus CA {}", index + 1);
            template.subject = name([(oid::COUNTRY, "JP"), (oid::COMMON_NAME, common.as_str())]);
            let mut list = maker.pki.issuing_crl_template(maker.now)?;
            list.issuer.clone_from(&template.subject);
            nodes.push(Node {
                key,
                template,
                list,
            });
        }
        let leaf_key = DevKey::generate(KeyAlgorithm::EcdsaP256)?;
        let leaf = maker.pki.template(&Maker::request(kind), 78, &leaf_key)?;
        let mut line = Self { kind, nodes, leaf };
        line.name_issuers();
        Ok(line)
    }

    /// Lets every certificate name its issuer as that now is.
    pub(super) fn name_issuers(&mut self) {
        let mut above: Option<[Vec<u8>; 4]> = None;
        let leaf = std::iter::once((&mut self.leaf, None));
        let nodes = self.nodes.iter_mut();
        let authorities = nodes.map(|node| (&mut node.template, Some(node.key.key_id())));
        for (template, key_id) in authorities.chain(leaf) {
            if let Some([subject, issuer, serial, key]) = &above {
                template.issuer.clone_from(subject);
                set(template, extension::authority_key(key, issuer, serial));
            }
            let (subject, issuer) = (template.subject.clone(), template.issuer.clone());
            above = key_id.map(|key| [subject, issuer, template.serial.clone(), key]);
        }
    }

    /// The key that signs below the first `above` CAs.
    fn key<'a>(&'a self, maker: &'a Maker, above: usize) -> &'a DevKey {
        let node = above.checked_sub(1).and_then(|index| self.nodes.get(index));
        node.map_or(&maker.pki.root.key, |node| &node.key)
    }

    /// The CA certificates, from the highest down.
    pub(super) fn authorities(
        &self,
        maker: &Maker,
    ) -> Result<Vec<CertificateDer<'static>>, DevError> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .map(|(index, node)| {
                let der = node.template.sign(self.key(maker, index))?;
                Ok(CertificateDer::from(der))
            })
            .collect()
    }

    /// The end entity's certificate.
    pub(super) fn leaf(&self, maker: &Maker) -> Result<CertificateDer<'static>, DevError> {
        let key = self.key(maker, self.nodes.len());
        Ok(CertificateDer::from(self.leaf.sign(key)?))
    }

    /// The lists: the root's, then those of the CAs.
    pub(super) fn lists(
        &self,
        maker: &Maker,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, DevError> {
        let [arl, _] = maker.pki.crls();
        let mut lists = vec![arl];
        for node in &self.nodes {
            let mut list = node.list.clone();
            let own = &node.template;
            let named = extension::authority_key(&node.key.key_id(), &own.issuer, &own.serial);
            list.extensions.retain(|known| known.oid != named.oid);
            list.extensions.push(named);
            lists.push(list.sign(&node.key)?.into());
        }
        Ok(lists)
    }

    /// Adds the line as one whose CAs are configured and have their lists.
    pub(super) fn configured(
        &self,
        maker: &mut Maker,
        name: &str,
        expected: Option<&'static str>,
    ) -> Result<(), DevError> {
        let authorities = self.authorities(maker)?;
        let trusted = Trusted {
            roots: vec![maker.pki.root_certificate()],
            lists: self.lists(maker)?,
            authorities,
            renewals: Vec::new(),
        };
        let chain = vec![self.leaf(maker)?];
        let name = format!("{name}/configured");
        let usage = usage_of(self.kind);
        let case = maker.add(name, Level::Authority, usage, expected, chain);
        case.trusted = trusted;
        Ok(())
    }

    /// Adds the line as one whose CAs are presented by the peer only. Nobody has their lists, so the
    /// best it can come to is `crl-missing`.
    pub(super) fn presented(
        &self,
        maker: &mut Maker,
        name: &str,
        expected: &'static str,
    ) -> Result<(), DevError> {
        let mut chain = vec![self.leaf(maker)?];
        chain.extend(self.authorities(maker)?.into_iter().rev());
        let name = format!("{name}/presented");
        let usage = usage_of(self.kind);
        let level = match expected {
            "crl-missing" => Level::EndEntity,
            _ => Level::Authority,
        };
        maker.add(name, level, usage, Some(expected), chain);
        Ok(())
    }
}

/// Removes the extensions by which `template` says who issued it.
pub(super) fn forget_issuer(template: &mut Template) {
    super::remove(template, id::AUTHORITY_KEY);
}
