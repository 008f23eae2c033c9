//! XML as a small tree: bounded, without document type, without entities of its own.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::NotUnderstood;

/// Levels of elements. A CDA result is at level 9, in an organizer 11.
const MAX_DEPTH: usize = 64;
/// Elements of one document; each costs at most 200 octets beside its text.
const MAX_ELEMENTS: usize = 300_000;
/// Attributes of one element; CDA has some ten at most.
const MAX_ATTRIBUTES: usize = 64;

/// An element of the namespace of the root. Others, with all that is in them, are left out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Element {
    /// Local name.
    pub(super) name: String,
    prefix: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    /// Its own text, without that of its children.
    pub(super) text: String,
}

/// Reads a document to its root.
///
/// # Errors
///
/// A document type, an encoding other than UTF-8, or what is not well-formed or too large.
pub(super) fn parse(text: &str) -> Result<Element, NotUnderstood> {
    let mut reader = Reader::from_str(text);
    // The parents of the place reached, outermost first; the document itself is at 0.
    let mut open = vec![Element::default()];
    let mut elements = 0_usize;
    loop {
        match reader.read_event().map_err(|_| NotUnderstood::Malformed)? {
            Event::DocType(_) => return Err(NotUnderstood::Doctype),
            Event::Decl(declaration) => check_encoding(&declaration)?,
            Event::Start(start) => open.push(element(&start)?),
            Event::Empty(start) => {
                let inner = element(&start)?;
                adopt(&mut open, inner)?;
            }
            Event::End(_) => {
                let inner = open.pop().ok_or(NotUnderstood::Malformed)?;
                adopt(&mut open, inner)?;
            }
            Event::Text(text) => append(&mut open, &text.xml10_content()),
            Event::CData(text) => append(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                let letter = reference
                    .resolve_char_ref()
                    .map_err(|_| NotUnderstood::Malformed)?;
                match (letter, resolve_predefined_entity(&reference)) {
                    (Some(letter), _) => append(&mut open, letter.encode_utf8(&mut [0; 4])),
                    (None, Some(text)) => append(&mut open, text),
                    (None, None) => return Err(NotUnderstood::Malformed),
                }
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
        elements += 1;
        if open.len() > MAX_DEPTH + 1 || elements > 4 * MAX_ELEMENTS {
            return Err(NotUnderstood::Malformed);
        }
    }
    let document = open
        .pop()
        .filter(|_| open.is_empty())
        .ok_or(NotUnderstood::Malformed)?;
    let mut roots = document.children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        _ => Err(NotUnderstood::Malformed),
    }
}

/// ISO-2022-JP would pass as UTF-8, and say something else.
fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), NotUnderstood> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name))
            if ["utf-8", "utf8", "us-ascii"].contains(&name.to_ascii_lowercase().as_str()) =>
        {
            Ok(())
        }
        Some(_) => Err(NotUnderstood::NotUtf8),
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, NotUnderstood> {
    let mut attributes = Vec::new();
    // The reader's own check for duplicates compares each with each.
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|_| NotUnderstood::Malformed)?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| NotUnderstood::Malformed)?;
        let name = attribute.key.as_ref().to_owned();
        if attributes.len() == MAX_ATTRIBUTES || attributes.iter().any(|(known, _)| *known == name)
        {
            return Err(NotUnderstood::Malformed);
        }
        attributes.push((name, value.into_owned()));
    }
    let name = start.name();
    let (local, prefix) = name.decompose();
    Ok(Element {
        name: local.as_ref().to_owned(),
        prefix: prefix
            .map(|prefix| prefix.as_ref().to_owned())
            .unwrap_or_default(),
        attributes,
        ..Element::default()
    })
}

/// Puts a finished element under its parent, unless it is of another namespace than the root.
fn adopt(open: &mut [Element], inner: Element) -> Result<(), NotUnderstood> {
    let at_root = open.len() == 1;
    let of_root = open.get(1).is_none_or(|root| root.prefix == inner.prefix);
    let parent = open.last_mut().ok_or(NotUnderstood::Malformed)?;
    if at_root || of_root {
        parent.children.push(inner);
    }
    Ok(())
}

fn append(open: &mut [Element], text: &str) {
    // Text beside the root is none of the document's.
    if let [_, .., inner] = open {
        inner.text.push_str(text);
    }
}

impl Element {
    /// The attribute with this name, prefix included; empty if there is none.
    pub(super) fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The attribute with this local name, whatever its prefix (`xsi:type`).
    pub(super) fn attribute_local(&self, name: &str) -> &str {
        let local = |key: &str| key.rsplit(':').next() == Some(name);
        let found = self.attributes.iter().find(|(key, _)| local(key));
        found.map_or("", |(_, value)| value)
    }

    /// Whether the root is of the namespace `uri`.
    pub(super) fn is_of(&self, uri: &str) -> bool {
        let name = if self.prefix.is_empty() {
            "xmlns".to_owned()
        } else {
            format!("xmlns:{}", self.prefix)
        };
        self.attribute(&name) == uri
    }

    /// The children with this name.
    pub(super) fn all<'e>(&'e self, name: &'static str) -> impl Iterator<Item = &'e Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child with this name.
    pub(super) fn child(&self, name: &'static str) -> Option<&Self> {
        self.all(name).next()
    }

    /// The first element down this path.
    pub(super) fn down(&self, path: &[&'static str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |element, name| element.child(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_tree() {
        let root = parse("<?xml version='1.0' encoding='UTF-8'?><a x='1&lt;2'>t&amp;&#x41;<b/><z:b/><b y='2'>u</b></a>").unwrap();
        assert_eq!(root.text, "t&A");
        assert_eq!(root.attribute("x"), "1<2");
        assert_eq!(
            root.all("b").count(),
            2,
            "without the one of another namespace"
        );
        assert_eq!(root.all("b").nth(1).unwrap().attribute("y"), "2");
    }

    #[test]
    fn what_is_dangerous_is_refused() {
        for (bad, why) in [
            (
                "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
                NotUnderstood::Doctype,
            ),
            ("<a>&x;</a>", NotUnderstood::Malformed),
            ("<a b='&x;'/>", NotUnderstood::Malformed),
            ("<a x='1' x='2'/>", NotUnderstood::Malformed),
            ("<a><b></a></b>", NotUnderstood::Malformed),
            ("<a/><b/>", NotUnderstood::Malformed),
            ("<a>", NotUnderstood::Malformed),
            ("", NotUnderstood::Malformed),
            (
                "<?xml version='1.0' encoding='ISO-2022-JP'?><a/>",
                NotUnderstood::NotUtf8,
            ),
        ] {
            assert_eq!(parse(bad), Err(why), "{bad}");
        }
        let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        assert!(parse(&deep(64)).is_ok());
        assert_eq!(parse(&deep(65)), Err(NotUnderstood::Malformed));
        assert_eq!(parse(&"<a>".repeat(1 << 20)), Err(NotUnderstood::Malformed));
        let wide = format!(
            "<a {}/>",
            (0..100)
                .map(|at| format!("x{at}=''"))
                .collect::<Vec<_>>()
                .join(" ")
        );
        assert_eq!(parse(&wide), Err(NotUnderstood::Malformed));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[<>/&;'\"=!?a-c \\[\\]#x-]{0,40}") {
            drop(parse(&text));
        }
    }
}
