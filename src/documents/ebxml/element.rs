//! XML as a small tree: bounded, with namespaces, without document type or external entities.

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// Octets of one message. A submission of 100 entries is below 2 MiB; documents are not in it.
const MAX_BYTES: usize = 16 << 20;
/// Levels of elements. A slot's value in a SOAP envelope is at level 10.
const MAX_DEPTH: usize = 48;
/// Elements of one message.
const MAX_ELEMENTS: usize = 400_000;
/// Attributes of one element; ebRIM has ten at most.
const MAX_ATTRIBUTES: usize = 64;

/// Why a text is not XML that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotXml {
    /// Not well-formed, or not UTF-8.
    #[error("is not well-formed XML in UTF-8")]
    Malformed,
    /// It has a document type: entities of its own are never read.
    #[error("has a document type, which is not read")]
    Doctype,
    /// Larger, deeper or wider than the bounds.
    #[error("is larger or deeper than is read")]
    TooLarge,
}

/// An element with everything that is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// Namespace; empty if it has none.
    pub namespace: String,
    /// Attributes by their names as written (`xml:lang`), without namespace declarations.
    pub attributes: Vec<(String, String)>,
    /// Elements in it, in order.
    pub children: Vec<Element>,
    /// Its own text, without that of its children.
    pub text: String,
}

/// Reads a message to its root.
///
/// # Errors
/// [`NotXml`].
pub fn parse(bytes: &[u8]) -> Result<Element, NotXml> {
    if bytes.len() > MAX_BYTES {
        return Err(NotXml::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NotXml::Malformed)?;
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    // The parents of the place reached, outermost first; the document itself is at 0.
    let mut open = vec![Element::default()];
    let mut elements = 0_usize;
    loop {
        let (namespace, event) = reader
            .read_resolved_event()
            .map_err(|_| NotXml::Malformed)?;
        match event {
            Event::DocType(_) => return Err(NotXml::Doctype),
            Event::Start(start) => open.push(element(&namespace, &start)?),
            Event::Empty(start) => {
                let inner = element(&namespace, &start)?;
                adopt(&mut open, inner)?;
            }
            Event::End(_) => {
                let inner = open.pop().ok_or(NotXml::Malformed)?;
                adopt(&mut open, inner)?;
            }
            Event::Text(text) => append(&mut open, &text.xml10_content()),
            Event::CData(text) => append(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                let letter = reference
                    .resolve_char_ref()
                    .map_err(|_| NotXml::Malformed)?;
                match (letter, resolve_predefined_entity(&reference)) {
                    (Some(letter), _) => append(&mut open, letter.encode_utf8(&mut [0; 4])),
                    (None, Some(text)) => append(&mut open, text),
                    (None, None) => return Err(NotXml::Malformed),
                }
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
        elements += 1;
        if open.len() > MAX_DEPTH + 1 || elements > 4 * MAX_ELEMENTS {
            return Err(NotXml::TooLarge);
        }
    }
    let document = open.pop().filter(|_| open.is_empty());
    let mut roots = document.ok_or(NotXml::Malformed)?.children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        _ => Err(NotXml::Malformed),
    }
}

fn element(namespace: &ResolveResult<'_>, start: &BytesStart<'_>) -> Result<Element, NotXml> {
    let namespace = match namespace {
        ResolveResult::Bound(namespace) => namespace.as_ref().to_owned(),
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(_) => return Err(NotXml::Malformed),
    };
    let mut attributes: Vec<(String, String)> = Vec::new();
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|_| NotXml::Malformed)?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| NotXml::Malformed)?;
        let name: &str = attribute.key.as_ref();
        if name == "xmlns" || name.starts_with("xmlns:") {
            continue;
        }
        if attributes.iter().any(|(known, _)| known == name) {
            return Err(NotXml::Malformed);
        }
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(NotXml::TooLarge);
        }
        attributes.push((name.to_owned(), value.into_owned()));
    }
    Ok(Element {
        name: start.local_name().as_ref().to_owned(),
        namespace,
        attributes,
        ..Element::default()
    })
}

fn adopt(open: &mut [Element], inner: Element) -> Result<(), NotXml> {
    let parent = open.last_mut().ok_or(NotXml::Malformed)?;
    parent.children.push(inner);
    Ok(())
}

fn append(open: &mut [Element], text: &str) {
    // Text beside the root is none of the document's.
    if let [_, .., inner] = open {
        inner.text.push_str(text);
    }
}

impl Element {
    /// Whether it is this element of this namespace.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    /// The attribute with this name, prefix included; `None` if there is none.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The children with this name, of the same namespace as this element or any other.
    pub fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child with this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The first element with this name here or below, in document order.
    pub fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name {
            return Some(self);
        }
        // Bounded by the depth of the parse.
        self.children.iter().find_map(|child| child.find(name))
    }

    /// The text without the whitespace around it: in ebRIM that is never data.
    pub fn trimmed(&self) -> &str {
        self.text.trim()
    }
}
