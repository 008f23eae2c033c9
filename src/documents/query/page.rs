//! The order of results, and pages of it. A page token says where a page ended, not how many results
//! came before, so pages stay whole whatever is registered between them and over restarts.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Reason, Result};
use crate::store::Keys;
use crate::types::Dtm;
use crate::wire::pb::common as cpb;
use crate::wire::pb::documents as pb;

use super::item::Item;
use super::text::fold;

/// Results on a page at most.
pub const MAX_PAGE: usize = 500;
/// Results on a page if none are wanted in particular.
const PAGE_DEFAULT: usize = 100;
/// Bytes of a title that decide its order.
const MAX_TITLE: usize = 256;
/// Bytes of the keyed hash in a token.
const SEAL: usize = 16;

/// The order in which results come: kind by kind, then by the key, then by entryUUID.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    key: pb::SortKey,
    ascending: bool,
}

impl Order {
    /// The order a request asks for; the newest first if it asks for none.
    pub(crate) fn new(key: pb::SortKey, ascending: bool) -> Self {
        Self { key, ascending }
    }

    /// Where a result comes in it: results sort as these bytes do.
    pub(crate) fn position(self, item: &Item) -> Vec<u8> {
        let mut position = item.kind().number().to_be_bytes().to_vec();
        let mut key = Vec::new();
        for byte in self.key_of(item) {
            key.push(byte);
            if byte == 0 {
                key.push(0xFF);
            }
        }
        key.extend_from_slice(&[0, 0]);
        if !self.ascending {
            for byte in &mut key {
                *byte = !*byte;
            }
        }
        position.extend_from_slice(&key);
        position.extend_from_slice(item.uuid());
        position
    }

    fn key_of(self, item: &Item) -> Vec<u8> {
        let time = |text: &str| {
            let time = text.parse::<Dtm>();
            time.map_or_else(|_| Vec::new(), |time| time.earliest().into_bytes())
        };
        let title = |title: Option<&cpb::InternationalString>| {
            let first = title.and_then(|title| title.values.first());
            let mut key = fold(first.map_or("", |text| &text.value)).into_bytes();
            key.truncate(MAX_TITLE);
            key
        };
        let registered = || item.registered_ms().to_be_bytes().to_vec();
        match (self.key, item) {
            (pb::SortKey::Registered, _) | (_, Item::Association(_)) => registered(),
            (pb::SortKey::Title, Item::Entry(found)) => title(found.entry.title.as_ref()),
            (pb::SortKey::Title, Item::Set(set)) => title(set.set.title.as_ref()),
            (pb::SortKey::Title, Item::Folder(folder)) => title(folder.folder.title.as_ref()),
            (pb::SortKey::ServiceStartTime, Item::Entry(found)) => {
                time(&found.entry.service_start_time)
            }
            (_, Item::Entry(found)) => time(&found.entry.creation_time),
            (_, Item::Set(set)) => time(&set.set.submission_time),
            (_, Item::Folder(folder)) => time(&folder.folder.last_update_time),
        }
    }
}

/// Which page is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) order: Order,
    pub(crate) size: usize,
    /// Where the page before ended.
    pub(crate) after: Option<Vec<u8>>,
}

impl Wanted {
    /// A page of `size` results (0: as the registry likes) after the place of `token`.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`] if it is not this node's, or another query's.
    pub(crate) fn new(order: Order, size: usize, token: &str, tokens: &Tokens<'_>) -> Result<Self> {
        Ok(Self {
            order,
            size: if size == 0 {
                PAGE_DEFAULT
            } else {
                size.min(MAX_PAGE)
            },
            after: tokens.open(token)?,
        })
    }
}

/// The page tokens of one query: a place in its results and a keyed hash over place and query.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    keys: &'a Keys,
    query: Vec<u8>,
}

impl<'a> Tokens<'a> {
    /// The tokens of the query (and order) that these bytes are of.
    pub(crate) fn new(keys: &'a Keys, query: Vec<u8>) -> Self {
        Self { keys, query }
    }

    fn seal(&self, place: &[u8]) -> Vec<u8> {
        let length = u64::try_from(self.query.len()).unwrap_or(u64::MAX);
        let sealed = [&length.to_be_bytes(), self.query.as_slice(), place].concat();
        self.keys.tag("page-token", &sealed).as_bytes().to_vec()
    }

    /// The token for the results after `place`.
    pub(crate) fn token(&self, place: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.seal(place), place].concat())
    }

    /// The place a token stands for; none if it is empty.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`].
    pub(crate) fn open(&self, token: &str) -> Result<Option<Vec<u8>>> {
        if token.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            let message = "is not a token of this query";
            Error::field(Reason::InvalidToken, "page_token", message)
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
        let (seal, place) = bytes.split_at_checked(SEAL).ok_or_else(wrong)?;
        if seal != self.seal(place) {
            return Err(wrong());
        }
        Ok(Some(place.to_vec()))
    }
}

/// Takes every result, counts it, and keeps those of one page: memory is that of a page.
#[derive(Debug)]
pub(crate) struct Collector {
    wanted: Wanted,
    kept: BTreeMap<Vec<u8>, Item>,
    more: bool,
    newest: u64,
    counts: pb::ObjectCounts,
}

impl Collector {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            kept: BTreeMap::new(),
            more: false,
            newest: 0,
            counts: pb::ObjectCounts::default(),
        }
    }

    /// Takes a result; each is given once.
    pub(crate) fn push(&mut self, item: Item) {
        *item.count(&mut self.counts) += 1;
        if let Item::Entry(found) = &item {
            self.newest = self.newest.max(found.sequence);
        }
        let position = self.wanted.order.position(&item);
        if self
            .wanted
            .after
            .as_ref()
            .is_some_and(|after| position <= *after)
        {
            return;
        }
        if self.kept.len() == self.wanted.size {
            self.more = true;
            let last = self.kept.last_key_value();
            if last.is_some_and(|(last, _)| position >= *last) {
                return;
            }
            self.kept.pop_last();
        }
        self.kept.insert(position, item);
    }

    /// The newest change of an entry among the results of all pages, a ledger sequence.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// The page, the place where it ended if there are more, and the counts of all pages.
    pub(crate) fn finish(self) -> (Vec<Item>, Option<Vec<u8>>, pb::ObjectCounts) {
        let last = self.kept.last_key_value().map(|(place, _)| place.clone());
        let next = last.filter(|_| self.more);
        (self.kept.into_values().collect(), next, self.counts)
    }
}
