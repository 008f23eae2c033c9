//! XML as a small tree: bounded, with namespaces, without document type or external entities. Every
//! XML that comes from outside is read here.

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// Octets of one text. A submission of 100 entries is below 2 MiB; documents are not in it.
const MAX_BYTES: usize = 16 << 20;
/// Levels of elements. A slot's value in a SOAP envelope is at level 10, a CDA result at 11.
const MAX_DEPTH: usize = 64;
/// Elements of one text; each costs at most some 200 octets beside its text.
const MAX_ELEMENTS: usize = 300_000;
/// Attributes of one element; ebRIM and CDA have some ten at most.
const MAX_ATTRIBUTES: usize = 64;

/// Why a text is not XML that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotXml {
    /// Not well-formed.
    #[error("is not well-formed XML")]
    Malformed,
    /// Not UTF-8, or said to be in another encoding.
    #[error("is not in UTF-8")]
    NotUtf8,
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

/// Reads a text to its root.
///
/// # Errors
/// [`NotXml`].
pub fn parse(bytes: &[u8]) -> Result<Element, NotXml> {
    if bytes.len() > MAX_BYTES {
        return Err(NotXml::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NotXml::NotUtf8)?;
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
            Event::Decl(declaration) => check_encoding(&declaration)?,
            Event::Comment(_) | Event::PI(_) => {}
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

/// ISO-2022-JP would pass as UTF-8, and say something else.
fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), NotXml> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name))
            if ["utf-8", "utf8", "us-ascii"].contains(&name.to_ascii_lowercase().as_str()) =>
        {
            Ok(())
        }
        Some(_) => Err(NotXml::NotUtf8),
    }
}

fn element(namespace: &ResolveResult<'_>, start: &BytesStart<'_>) -> Result<Element, NotXml> {
    let namespace = match namespace {
        ResolveResult::Bound(namespace) => namespace.as_ref().to_owned(),
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(_) => return Err(NotXml::Malformed),
    };
    let mut attributes: Vec<(String, String)> = Vec::new();
    // The reader's own check for duplicates compares each with each.
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

    /// The attribute with this name, prefix included; empty if there is none.
    pub fn value(&self, name: &str) -> &str {
        self.attribute(name).unwrap_or_default()
    }

    /// The attribute with this local name, whatever its prefix (`xsi:type`); empty if there is none.
    pub fn value_local(&self, name: &str) -> &str {
        let local = |key: &str| key.rsplit(':').next() == Some(name);
        let found = self.attributes.iter().find(|(key, _)| local(key));
        found.map_or("", |(_, value)| value)
    }

    /// The children with this name and this element's own namespace.
    pub fn own<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Self> {
        self.all(name)
            .filter(|child| child.namespace == self.namespace)
    }

    /// The first child with this name and this element's own namespace.
    pub fn own_child(&self, name: &str) -> Option<&Self> {
        let mut children = self.children.iter();
        children.find(|child| child.is(&self.namespace, name))
    }

    /// The first element down this path, all of this element's own namespace.
    pub fn down(&self, path: &[&str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |element, name| element.own_child(name))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_tree() {
        let text = "<?xml version='1.0' encoding='UTF-8'?><a xmlns='urn:1' xmlns:z='urn:2' \
                    x='1&lt;2' z:y='3'>t&amp;&#x41;<b/><z:b/><b y='2'>u</b></a>";
        let root = parse(text.as_bytes()).unwrap();
        assert!(root.is("urn:1", "a"));
        assert_eq!(root.text, "t&A");
        assert_eq!(root.attribute("x"), Some("1<2"));
        assert_eq!((root.value("y"), root.value_local("y")), ("", "3"));
        assert_eq!((root.all("b").count(), root.own("b").count()), (3, 2));
        assert_eq!(root.own("b").nth(1).unwrap().value("y"), "2");
        assert!(root.down(&["b", "c"]).is_none() && root.down(&["b"]).is_some());
    }

    #[test]
    fn what_is_dangerous_is_refused() {
        for (bad, why) in [
            (
                "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
                NotXml::Doctype,
            ),
            ("<a>&x;</a>", NotXml::Malformed),
            ("<a b='&x;'/>", NotXml::Malformed),
            ("<a b='1' b='2'/>", NotXml::Malformed),
            ("<a><b></a></b>", NotXml::Malformed),
            ("<p:a/>", NotXml::Malformed),
            ("<a/><b/>", NotXml::Malformed),
            ("<a>", NotXml::Malformed),
            ("", NotXml::Malformed),
            (
                "<?xml version='1.0' encoding='ISO-2022-JP'?><a/>",
                NotXml::NotUtf8,
            ),
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(why), "{bad}");
        }
        assert_eq!(parse(b"<a>\xff</a>"), Err(NotXml::NotUtf8));
        let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert!(parse(deep(64).as_bytes()).is_ok());
        assert_eq!(parse(deep(65).as_bytes()), Err(NotXml::TooLarge));
        assert_eq!(
            parse("<a>".repeat(1 << 20).as_bytes()),
            Err(NotXml::TooLarge)
        );
        assert_eq!(parse(&vec![b' '; (16 << 20) + 1]), Err(NotXml::TooLarge));
        let many: Vec<String> = (0..100).map(|at| format!("x{at}=''")).collect();
        let wide = format!("<a {}/>", many.join(" "));
        assert_eq!(parse(wide.as_bytes()), Err(NotXml::TooLarge));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[<>/&;'\"=!?a-c \\[\\]#x-]{0,40}") {
            drop(parse(text.as_bytes()));
        }
    }
}
