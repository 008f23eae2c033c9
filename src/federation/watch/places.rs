//! The place a subscriber goes on from: one in each community, as that community sealed it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use crate::error::{Error, Reason, Result};
use crate::store::Tag;

/// Bytes of the keyed hash in a token.
const SEAL: usize = 16;
/// Characters of a token: the places of more communities than hold something for anybody.
const MAX_TOKEN: usize = 128 * 1024;

/// Places by homeCommunityId.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places(BTreeMap<String, String>);

/// As they are in a token.
#[derive(Clone, PartialEq, prost::Message)]
struct Written {
    #[prost(message, repeated, tag = "1")]
    places: Vec<Place>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Place {
    /// homeCommunityId.
    #[prost(string, tag = "1")]
    home_community_id: String,
    /// The community's own token.
    #[prost(string, tag = "2")]
    token: String,
}

impl Places {
    /// The places of a token that was sealed so; none for an empty one.
    ///
    /// # Errors
    /// [`Reason::InvalidToken`].
    pub(super) fn open(token: &str, seal: &dyn Fn(&[u8]) -> Tag) -> Result<Option<Self>> {
        if token.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            let message = "is not a token of this subscription";
            Error::field(Reason::InvalidToken, "resume_token", message)
        };
        if token.len() > MAX_TOKEN {
            return Err(wrong());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
        let (sealed, places) = bytes.split_at_checked(SEAL).ok_or_else(wrong)?;
        if sealed != seal(places).as_bytes() {
            return Err(wrong());
        }
        let written = Written::decode(places).map_err(|_| wrong())?;
        let places = written.places.into_iter();
        let places = places.map(|place| (place.home_community_id, place.token));
        Ok(Some(Self(places.collect())))
    }

    /// The token of these places.
    pub(super) fn token(&self, seal: &dyn Fn(&[u8]) -> Tag) -> String {
        let places = self.0.iter().map(|(home, token)| Place {
            home_community_id: home.clone(),
            token: token.clone(),
        });
        let places = Written {
            places: places.collect(),
        };
        let places = places.encode_to_vec();
        let sealed = [seal(&places).as_bytes().as_slice(), &places].concat();
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The place in a community; empty if there is none yet.
    pub(super) fn of(&self, home: &str) -> &str {
        self.0.get(home).map_or("", String::as_str)
    }

    /// Goes on to a place; whether it is the first there.
    pub(super) fn put(&mut self, home: String, token: String) -> bool {
        self.0.insert(home, token).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seal that another number does not make.
    fn seal(number: u8) -> impl Fn(&[u8]) -> Tag {
        move |places: &[u8]| {
            let sum = places
                .iter()
                .fold(number, |sum, one| sum.rotate_left(1) ^ one);
            Tag::from_bytes([sum; SEAL])
        }
    }

    #[test]
    fn a_token_is_places_this_node_has_sealed_for_this_question() {
        let (own, other) = (seal(1), seal(2));
        assert_eq!(Places::open("", &own).unwrap(), None);
        let mut places = Places::default();
        let none = places.token(&own);
        assert_eq!(Places::open(&none, &own).unwrap(), Some(places.clone()));
        assert!(places.put("urn:oid:1.2".to_owned(), "a".to_owned()));
        assert!(places.put("urn:oid:1.3".to_owned(), "b".to_owned()));
        assert!(!places.put("urn:oid:1.2".to_owned(), "c".to_owned()));
        let token = places.token(&own);
        let read = Places::open(&token, &own).unwrap().unwrap();
        assert_eq!(read, places);
        assert_eq!(read.of("urn:oid:1.2"), "c");
        assert_eq!(read.of("urn:oid:1.4"), "");
        let long = "A".repeat(MAX_TOKEN + 1);
        let forged = places.token(&other);
        for bad in ["1", "AAAA", &token[1..], &forged, &long] {
            let error = Places::open(bad, &own).unwrap_err();
            assert_eq!(error.reason(), Reason::InvalidToken, "{bad}");
        }
    }
}
