//! A write by a call: rows, audit event and receipt in one ledger frame (INV-1, INV-2).

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use tokio::sync::watch;

use crate::audit::Receipt;
use crate::error::{Error, Reason, Result};
use crate::store::{Commit, Idempotency, Outcome, Store, Write};

use super::{Call, is_served_on_a_full_disk};

/// Bytes of a client's idempotency key.
const MAX_KEY: usize = 200;

impl Call {
    /// The idempotency record of a request: scoped to institution (or gateway) and method, bound to
    /// the request's content. `None` if the client gave no key.
    ///
    /// # Errors
    /// If the key is longer than 200 bytes.
    pub fn idempotency(
        &self,
        store: &Store,
        key: &str,
        request: &impl Message,
        now: Timestamp,
    ) -> Result<Option<Idempotency>> {
        if key.is_empty() {
            return Ok(None);
        }
        if key.len() > MAX_KEY {
            let message = format!("is longer than {MAX_KEY} bytes");
            return Err(Error::field(
                Reason::InvalidField,
                "idempotency_key",
                message,
            ));
        }
        let caller = self.caller();
        let institution = caller.participant.code.as_ref().map(ToString::to_string);
        let subject = caller.person.as_ref().map(|person| person.subject.as_str());
        let scope = format!(
            "{}\0{}\0{}\0{}\0{key}",
            caller.pin,
            institution.unwrap_or_default(),
            subject.unwrap_or_default(),
            self.method()
        );
        let mut body_hash = [0; 32];
        let hash = digest::digest(&digest::SHA256, &request.encode_to_vec());
        body_hash.copy_from_slice(hash.as_ref());
        Ok(Some(Idempotency {
            key: store.keys().tag("idempotency", scope.as_bytes()),
            body_hash,
            receipt: Bytes::new(),
            expires_unix_seconds: now.as_second().saturating_add(store.remembers_for()),
        }))
    }

    /// The first answer to a request that was committed before under the same key: looked for before
    /// a state is judged that the first commit has changed.
    ///
    /// # Errors
    /// [`Reason::IdempotencyMismatch`]; the store.
    pub fn repeated<R: Message + Default>(
        &self,
        store: &Store,
        idempotency: Option<&Idempotency>,
        now: Timestamp,
    ) -> Result<Option<R>> {
        let Some(idempotency) = idempotency else {
            return Ok(None);
        };
        let receipt = store.receipt(idempotency, now.as_second())?;
        receipt
            .map(|receipt| R::decode(receipt).map_err(Error::internal))
            .transpose()
    }

    /// Commits `writes` with this call's success event, and gives the response to answer with: the
    /// one given, or, for a repeat, the first one.
    ///
    /// # Errors
    /// [`Reason::ConcurrentChange`] if a precondition failed (nothing was written);
    /// [`Reason::IdempotencyMismatch`]; [`Reason::StoreUnavailable`].
    pub async fn commit<R: Message + Default>(
        &self,
        store: &Arc<Store>,
        now: Timestamp,
        writes: Vec<Write>,
        idempotency: Option<Idempotency>,
        response: R,
    ) -> Result<R> {
        self.commit_holding(store, now, writes, idempotency, response, ())
            .await
    }

    /// As [`Call::commit`], letting go of `held` (a lock, a reservation) only when the frame is applied
    /// or refused, also if this call is dropped before.
    ///
    /// # Errors
    /// As [`Call::commit`].
    pub async fn commit_holding<R: Message + Default>(
        &self,
        store: &Arc<Store>,
        now: Timestamp,
        writes: Vec<Write>,
        idempotency: Option<Idempotency>,
        response: R,
        held: impl Send + 'static,
    ) -> Result<R> {
        let idempotency = idempotency.map(|idempotency| Idempotency {
            receipt: response.encode_to_vec().into(),
            ..idempotency
        });
        let audit = vec![self.success_event(now)];
        let commit = Commit {
            writes,
            audit: audit.clone(),
            idempotency,
            emergency: is_served_on_a_full_disk(self.method()),
        };
        // From here on the event becomes durable even if this call is dropped: the commit runs in a
        // task of its own.
        self.set_written(true);
        let (settle, settled) = watch::channel(None);
        self.set_committing(settled);
        let committing = Arc::clone(store);
        let committed = tokio::spawn(async move {
            let outcome = committing.commit(commit).await;
            drop(held);
            let is_new = matches!(outcome, Ok(Outcome::Committed { .. }));
            settle.send_replace(Some(is_new));
            outcome
        });
        match committed.await.map_err(Error::internal)? {
            Ok(Outcome::Committed { sequence, hash }) => {
                self.set_receipt(Receipt::new(store.keys(), sequence, &hash, &audit));
                Ok(response)
            }
            Ok(Outcome::Replayed { receipt }) => {
                self.set_written(false);
                R::decode(receipt).map_err(Error::internal)
            }
            Err(error) => {
                self.set_written(false);
                Err(error.into())
            }
        }
    }
}
