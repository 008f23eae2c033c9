//! Checkpoints as signed notes: C2SP `signed-note`, `tlog-checkpoint`, `tlog-cosignature`.
//!
//! The text of a checkpoint has the origin, the size, and the root hash, and one extension line of
//! our own, `patients <count> <root>`: the root of the [map of patients](super::map) at that size.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::{BASE64, HEXLOWER};

use crate::error::{Error, Reason, Result};

use super::merkle::{Hash, sha256};

/// A signature of a log: Ed25519 over the text.
const LOG_SIGNATURE: u8 = 1;
/// A signature of a witness, `cosignature/v1`: Ed25519 over a time and the text.
const COSIGNATURE: u8 = 4;
/// What a signature line begins with.
const DASH: &str = "\u{2014} ";
/// A note is small; more is not looked at.
const MAX_NOTE: usize = 64 << 10;

fn malformed(what: &'static str) -> Error {
    Error::field(Reason::InvalidField, "checkpoint", what)
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// The root of the tree.
    pub root: Hash,
    /// Patients in the map, and its root. `None` in the checkpoint of another kind of log.
    pub patients: Option<(u64, Hash)>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let patients = self.patients.as_ref().map(|(count, root)| {
            let root = BASE64.encode(root);
            format!("patients {count} {root}\n")
        });
        let (root, patients) = (BASE64.encode(&self.root), patients.unwrap_or_default());
        format!("{}\n{}\n{root}\n{patients}", self.origin, self.size)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let origin = lines.next().filter(|line| !line.is_empty());
        let origin = origin.ok_or_else(|| malformed("has no origin"))?.to_owned();
        let size = lines.next().and_then(decimal);
        let size = size.ok_or_else(|| malformed("has no size"))?;
        let root = lines.next().and_then(hash);
        let root = root.ok_or_else(|| malformed("has no root hash"))?;
        let mut patients = None;
        for line in lines {
            let mut words = line.split(' ');
            if words.next() == Some("patients") {
                let count = words.next().and_then(decimal);
                let map = words.next().and_then(hash);
                let (Some(count), Some(map), None, None) = (count, map, words.next(), patients)
                else {
                    return Err(malformed("has a malformed line on patients"));
                };
                patients = Some((count, map));
            }
        }
        Ok(Self {
            origin,
            size,
            root,
            patients,
        })
    }
}

/// A number as C2SP writes it: decimal, no sign, no leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading = text.len() > 1 && text.starts_with('0');
    (plain && !leading).then(|| text.parse().ok()).flatten()
}

fn hash(text: &str) -> Option<Hash> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// One signature line: who, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The key's name.
    pub name: String,
    /// Which key of that name.
    pub key_id: [u8; 4],
    /// The signature; of a witness, with its time before it.
    pub signature: Vec<u8>,
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_vec();
        bytes.extend_from_slice(&self.signature);
        write!(f, "{DASH}{} {}", self.name, BASE64.encode(&bytes))
    }
}

/// A text and its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text, its last newline included.
    pub text: String,
    /// The signatures.
    pub signatures: Vec<SignatureLine>,
}

impl Note {
    /// The checkpoint that the text is.
    ///
    /// # Errors
    /// If it is none.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        Checkpoint::parse(&self.text)
    }

    /// Whether `key` signed it, as a log or as a witness.
    pub fn is_signed_by(&self, key: &VerifierKey) -> bool {
        self.signed_at(key).is_some()
    }

    /// When `key` signed it, in seconds since 1970 (UTC): 0 for a log's signature, which has no time.
    pub fn signed_at(&self, key: &VerifierKey) -> Option<u64> {
        let lines = self.signatures.iter();
        let mut named = lines.filter(|line| line.name == key.name && line.key_id == key.id());
        named.find_map(|line| key.verify(&self.text, &line.signature))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl FromStr for Note {
    type Err = Error;

    fn from_str(note: &str) -> Result<Self> {
        let wrong = || malformed("is not a signed note");
        if note.len() > MAX_NOTE || note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(wrong());
        }
        let end = note.rfind("\n\n").ok_or_else(wrong)?;
        let (text, lines) = note.split_at_checked(end + 1).ok_or_else(wrong)?;
        let mut signatures = Vec::new();
        let lines = lines.strip_prefix('\n').and_then(|l| l.strip_suffix('\n'));
        for line in lines.ok_or_else(wrong)?.split('\n') {
            let (name, bytes) = line
                .strip_prefix(DASH)
                .and_then(|line| line.split_once(' '))
                .ok_or_else(wrong)?;
            let bytes = BASE64.decode(bytes.as_bytes()).map_err(|_| wrong())?;
            let (key_id, signature) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
            signatures.push(SignatureLine {
                name: name.to_owned(),
                key_id: *key_id,
                signature: signature.to_vec(),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }
}

/// What a signature line of a key may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Of a log.
    Log,
    /// Of a witness.
    Witness,
}

impl KeyKind {
    fn code(self) -> u8 {
        match self {
            Self::Log => LOG_SIGNATURE,
            Self::Witness => COSIGNATURE,
        }
    }
}

/// A public key, as C2SP writes it: `name+key id+base64(kind ‖ key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// Its name: for a log its origin.
    pub name: String,
    /// What it signs.
    pub kind: KeyKind,
    /// The Ed25519 public key.
    pub key: [u8; 32],
}

impl VerifierKey {
    /// The key id: the first four octets of SHA-256(name ‖ 0x0A ‖ kind ‖ key).
    pub fn id(&self) -> [u8; 4] {
        let hash = sha256(&[self.name.as_bytes(), b"\n", &[self.kind.code()], &self.key]);
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    }

    /// The time of a signature that verifies; 0 for a log's.
    fn verify(&self, text: &str, signature: &[u8]) -> Option<u64> {
        let key = UnparsedPublicKey::new(&ED25519, self.key);
        match self.kind {
            KeyKind::Log => key.verify(text.as_bytes(), signature).ok().map(|()| 0),
            KeyKind::Witness => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                let message = cosigned(time, text);
                key.verify(message.as_bytes(), signature).ok()?;
                Some(time)
            }
        }
    }
}

/// What a witness signs.
fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind.code()];
        key.extend_from_slice(&self.key);
        let (id, key) = (HEXLOWER.encode(&self.id()), BASE64.encode(&key));
        write!(f, "{}+{id}+{key}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::field(Reason::InvalidField, "key", "is not a verifier key");
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let bytes = BASE64.decode(key.as_bytes()).map_err(|_| wrong())?;
        let kind = match bytes.first() {
            Some(&LOG_SIGNATURE) => KeyKind::Log,
            Some(&COSIGNATURE) => KeyKind::Witness,
            _ => return Err(wrong()),
        };
        let key = bytes.get(1..).and_then(|key| key.try_into().ok());
        let made = Self {
            name: name.to_owned(),
            kind,
            key: key.ok_or_else(wrong)?,
        };
        if is_name(name) && HEXLOWER.encode(&made.id()) == id {
            Ok(made)
        } else {
            Err(wrong())
        }
    }
}

/// A name may not be empty, nor have spaces or plus signs.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

/// A private key and its name.
#[derive(Debug)]
pub struct SigningKey {
    name: String,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key with this seed of 32 octets.
    ///
    /// # Errors
    /// If the name has spaces or plus signs, or the seed is not 32 octets.
    pub fn new(name: &str, seed: &[u8]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(Error::internal)?;
        if !is_name(name) {
            return Err(Error::internal(
                "the name of a log has spaces or plus signs",
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            pair,
        })
    }

    /// Its public key.
    pub fn verifier(&self, kind: KeyKind) -> VerifierKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        VerifierKey {
            name: self.name.clone(),
            kind,
            key,
        }
    }

    /// Signs a text as a log.
    pub fn sign(&self, text: &str) -> SignatureLine {
        SignatureLine {
            name: self.name.clone(),
            key_id: self.verifier(KeyKind::Log).id(),
            signature: self.pair.sign(text.as_bytes()).as_ref().to_vec(),
        }
    }

    /// Signs a text as a witness, at `time` seconds since 1970 (UTC).
    pub fn cosign(&self, text: &str, time: u64) -> SignatureLine {
        let mut signature = time.to_be_bytes().to_vec();
        let made = self.pair.sign(cosigned(time, text).as_bytes());
        signature.extend_from_slice(made.as_ref());
        SignatureLine {
            name: self.name.clone(),
            key_id: self.verifier(KeyKind::Witness).id(),
            signature,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `signed-note`: a key and a signature made by the Go implementation.
    #[test]
    fn the_example_of_the_specification_verifies() {
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let note = format!(
            "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        );
        let key: VerifierKey = key.parse().unwrap();
        let mut note: Note = note.parse().unwrap();
        assert_eq!(note.text, text);
        assert!(note.is_signed_by(&key));
        note.text.push('\n');
        assert!(!note.is_signed_by(&key));
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "renkei/1.2.3".into(),
            size: 17,
            root: [7; 32],
            patients: Some((3, [8; 32])),
        }
    }

    #[test]
    fn a_checkpoint_round_trips_with_both_kinds_of_signatures() {
        let log = SigningKey::new("renkei/1.2.3", &[1; 32]).unwrap();
        let witness = SigningKey::new("witness/9", &[2; 32]).unwrap();
        let text = checkpoint().text();
        let note = Note {
            signatures: vec![log.sign(&text), witness.cosign(&text, 1_700_000_000)],
            text,
        };
        let read: Note = note.to_string().parse().unwrap();
        assert_eq!(read, note);
        assert_eq!(read.checkpoint().unwrap(), checkpoint());
        let (by_log, by_witness) = (
            log.verifier(KeyKind::Log),
            witness.verifier(KeyKind::Witness),
        );
        assert!(read.is_signed_by(&by_log));
        assert_eq!(read.signed_at(&by_witness), Some(1_700_000_000));
        assert!(!read.is_signed_by(&log.verifier(KeyKind::Witness)));
        for key in [by_log, by_witness] {
            assert_eq!(key.to_string().parse::<VerifierKey>().unwrap(), key);
        }
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused() {
        let key = SigningKey::new("x", &[1; 32]).unwrap();
        let root = BASE64.encode(&[7; 32]);
        for text in [
            String::new(),
            "origin\n".into(),
            format!("origin\n01\n{root}\n"),
            format!("origin\n+1\n{root}\n"),
            "origin\n1\nAAAA\n".into(),
            format!("origin\n1\n{root}\npatients 1\n"),
            format!("origin\n1\n{root}\npatients 1 {root}\npatients 1 {root}\n"),
        ] {
            let note = Note {
                signatures: vec![key.sign(&text)],
                text,
            };
            note.checkpoint().unwrap_err();
        }
        for note in ["", "a\n", "a\n\n", "a\n\n\u{2014} x\n", "a\n\nx AAAAAAAA\n"] {
            note.parse::<Note>().unwrap_err();
        }
    }

    #[test]
    fn every_changed_octet_of_a_note_is_noticed() {
        let key = SigningKey::new("renkei/1.2.3", &[1; 32]).unwrap();
        let text = checkpoint().text();
        let note = Note {
            signatures: vec![key.sign(&text)],
            text,
        };
        let good = note.to_string().into_bytes();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let read = std::str::from_utf8(&bad).ok().and_then(|n| n.parse().ok());
            let fine =
                read.is_some_and(|note: Note| note.is_signed_by(&key.verifier(KeyKind::Log)));
            assert!(!fine, "octet {at}");
        }
    }
}
