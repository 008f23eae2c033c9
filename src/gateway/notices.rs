//! Notices that go out: who has to look at an access is told within a minute, by reference (`spec`
//! security-bars §3). A notice names an institution, a time and the reference under which an officer
//! finds the rest over the interface; never a patient, a person or a reason.
//!
//! Each channel has durable cursors and gets every notice at least once: what is taken is the ledger's
//! frames, so a notice is there exactly if its grant is. What cannot be delivered is kept and tried
//! again, with an alarm; one that a receiver refuses does not hold up the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::config::{Config, NoticeChannel, NoticeKind};
use crate::edge::Severity;
use crate::emergency::Grants;
use crate::error::{Error, Reason, Result};
use crate::store::disk::{Disk, write_small};
use crate::store::{Frames, Sequence};
use crate::types::{CertificatePin, HttpsUrl, InstitutionCode};
use crate::wire::from_timestamp;
use crate::wire::pb::emergency::AccessNotice;

use super::Gateway;
use super::cursor::Cursor;
use super::http::{Destination, Post};
use super::sinks::blocking;

/// Alarm: a notice did not get to where it should.
const UNDELIVERED: &str = "NOTICE_UNDELIVERED";
/// Frames looked at in one go.
const STEP_FRAMES: usize = 4_096;
/// Notices that wait at most; then no more are taken from the ledger until some are gone.
const MAX_OWED: usize = 1_000;
/// Frames that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(250);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is looked whether a review is overdue, at least.
const LOOK: Duration = Duration::from_secs(30);
/// No more often than this, by the node's clock: it goes through all grants.
const LOOK_AT_MOST: SignedDuration = SignedDuration::from_mins(1);
/// Octets of a receiver's answer that are read, and dropped.
const MAX_ANSWER: usize = 64 * 1024;

/// Where a channel leads.
#[derive(Clone, Debug)]
enum Place {
    /// A JSON object posted for each notice.
    Https(HttpsUrl, Vec<CertificatePin>),
    /// A file for each notice.
    Folder(PathBuf),
}

/// One channel.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    name: String,
    kinds: Vec<NoticeKind>,
    /// Only of these institutions; empty: of all.
    institutions: BTreeSet<String>,
    place: Place,
}

/// A node's channels.
#[derive(Debug)]
pub struct Notices {
    all: Vec<Channel>,
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    again: SignedDuration,
    failing: std::sync::Mutex<BTreeSet<String>>,
}

impl Channel {
    fn new(settings: &NoticeChannel) -> Result<Self> {
        let wrong = |what| Error::internal(format!("notice channel {:?}: {what}", settings.name));
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if settings.name.is_empty() || settings.name.len() > 32 || !settings.name.chars().all(fit) {
            return Err(wrong("a name is 1 to 32 letters, digits and hyphens"));
        }
        for code in &settings.institutions {
            code.parse::<InstitutionCode>()
                .map_err(|_| wrong("institutions are codes of 10 digits"))?;
        }
        if settings.kinds.is_empty() {
            return Err(wrong("kinds says nothing"));
        }
        let pins = settings.certificate_pin.iter().map(|pin| pin.parse());
        let pins: Vec<CertificatePin> = pins
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("certificate_pin is 64 hex digits"))?;
        let place = match (&settings.https, &settings.folder) {
            (Some(url), None) => {
                let url = url
                    .parse()
                    .map_err(|_| wrong("https is https://host/path"))?;
                Place::Https(url, pins)
            }
            (None, Some(folder)) if pins.is_empty() => Place::Folder(folder.clone()),
            (None, Some(_)) => return Err(wrong("a folder has no certificate")),
            _ => return Err(wrong("exactly one of https and folder")),
        };
        Ok(Self {
            name: settings.name.clone(),
            kinds: settings.kinds.clone(),
            institutions: settings.institutions.iter().cloned().collect(),
            place,
        })
    }

    fn takes(&self, notice: &AccessNotice) -> bool {
        let institution = notice.institution.as_ref();
        let code = institution.map_or("", |one| one.institution_id.as_str());
        self.institutions.is_empty() || self.institutions.contains(code)
    }
}

impl Notices {
    /// The channels of a configuration, whose cursors are in `folder`.
    ///
    /// # Errors
    /// If a channel is none, or two have one name.
    pub(super) fn new(config: &Config, folder: PathBuf, disk: Arc<dyn Disk>) -> Result<Self> {
        let all = config.notices.channels.iter().map(Channel::new);
        let all: Vec<Channel> = all.collect::<Result<_>>()?;
        let names: BTreeSet<_> = all.iter().map(|channel| &channel.name).collect();
        if names.len() < all.len() {
            return Err(Error::internal("two notice channels have the same name"));
        }
        let days = i64::from(config.notices.overdue_every_days.max(1));
        Ok(Self {
            all,
            folder,
            disk,
            again: SignedDuration::from_hours(days * 24),
            failing: std::sync::Mutex::default(),
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Channel> {
        self.all.iter().cloned()
    }
}

/// A notice as it goes out: by reference only.
fn written(id: &str, kind: NoticeKind, notice: &AccessNotice) -> Value {
    let institution = notice.institution.clone().unwrap_or_default();
    let time = |time: Option<&prost_types::Timestamp>| {
        let time = time.and_then(from_timestamp);
        time.map(|time| time.to_string())
    };
    json!({
        "id": id,
        "kind": kind.code(),
        "reference": notice.notice_id,
        "institution": institution.institution_id,
        "community": institution.home_community_id,
        "opened": time(notice.opened.as_ref()),
        "review_due": time(notice.review_due.as_ref()),
        "look_up": "renkei.emergency.v1.EmergencyService/ListAccessNotices",
    })
}

/// A notice that has not been delivered yet.
#[derive(Debug)]
struct Owed {
    /// The frame it comes of; none if time made it.
    frame: Option<Sequence>,
    content: Value,
}

/// How far a channel has got.
struct Progress {
    frames: Frames,
    /// Reviews that were overdue by then were noticed, or are owed.
    looked: Timestamp,
    owed: BTreeMap<String, Owed>,
    /// Something was delivered since the cursors were kept.
    delivered: bool,
    /// What the cursors say.
    kept: (Sequence, Timestamp),
}

/// What was read, and where to go on.
struct Opened {
    frames: Frames,
    /// Each with its frame, and whether it has been judged already.
    notices: Vec<(Sequence, AccessNotice, bool)>,
    more: bool,
}

/// Reads what is durable, some thousands of frames at most: the grants opened in them.
fn opened(grants: &Grants, mut frames: Frames) -> Result<Opened> {
    let mut notices = Vec::new();
    for _ in 0..STEP_FRAMES {
        let Some(frame) = frames.try_next()? else {
            let more = false;
            return Ok(Opened {
                frames,
                notices,
                more,
            });
        };
        for notice in Grants::opened_in(&frame)? {
            let judged = grants.is_judged(&notice.notice_id)?;
            notices.push((frame.sequence, notice, judged));
        }
        if notices.len() >= MAX_OWED {
            break;
        }
    }
    let more = true;
    Ok(Opened {
        frames,
        notices,
        more,
    })
}

fn milliseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

impl Gateway {
    /// Takes notices to one channel until the node stops.
    pub(super) async fn keep_notices(self: Arc<Self>, channel: Channel) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                failed = self.notify(&channel) => self.notice_fails(&channel, &failed),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        let failing = self.notices.failing.lock();
        failing.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn notice_fails(&self, channel: &Channel, error: &Error) {
        self.failing().insert(channel.name.clone());
        let (alarms, now) = (&self.edge.alarms, self.clock.now());
        let message = format!("notices wait: {error}");
        alarms.raise(UNDELIVERED, &channel.name, Severity::Error, message, now);
    }

    fn notices_work(&self, channel: &Channel) {
        let mut failing = self.failing();
        if failing.remove(&channel.name) {
            let left: Vec<String> = failing.iter().cloned().collect();
            self.edge.alarms.keep_only(UNDELIVERED, &left);
        }
    }

    /// The cursors of a channel: the frame that comes next, and until when reviews were looked at,
    /// Unix milliseconds.
    fn notice_cursors(&self, channel: &Channel) -> (Cursor, Cursor) {
        let folder = self.notices.folder.join(&channel.name);
        let cursor = |name: &str| {
            let disk = Arc::clone(&self.notices.disk);
            Cursor::new(disk, folder.join(name), self.store.keys())
        };
        (cursor("frames"), cursor("reviews"))
    }

    /// Delivers until the store or a cursor fails. What a receiver does not take is tried again here.
    async fn notify(&self, channel: &Channel) -> Error {
        match self.deliver_notices(channel).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn deliver_notices(&self, channel: &Channel) -> Result<std::convert::Infallible> {
        let cursors = self.notice_cursors(channel);
        let mut progress = self.begin_notices(&cursors).await?;
        let mut durable = self.store.watch();
        let mut destination = match &channel.place {
            Place::Https(url, pins) => Some(Destination::new(url.clone(), pins.clone())),
            Place::Folder(_) => None,
        };
        loop {
            let (read, more) = self.take_notices(channel, progress).await?;
            progress = self.look_at_reviews(channel, read).await?;
            let failed = self
                .send_owed(channel, destination.as_mut(), &mut progress)
                .await;
            self.keep_progress(&cursors, &mut progress).await?;
            match failed {
                Some(error) => {
                    self.notice_fails(channel, &error);
                    tokio::time::sleep(RETRY).await;
                }
                None if more => self.notices_work(channel),
                None => {
                    self.notices_work(channel);
                    let next = progress.frames.position();
                    let coming = durable.wait_for(|last| *last >= next);
                    let coming = async { coming.await.map(|_| ()) };
                    if let Ok(there) = tokio::time::timeout(LOOK, coming).await {
                        there.map_err(Error::internal)?;
                        tokio::time::sleep(GATHER).await;
                    }
                }
            }
        }
    }

    async fn begin_notices(&self, cursors: &(Cursor, Cursor)) -> Result<Progress> {
        let (frames, reviews) = cursors.clone();
        let (next, looked) = blocking(move || Ok((frames.read()?, reviews.read()?))).await?;
        // A ledger that was restored to an earlier state goes on from there, also after the next start.
        let kept = next;
        let next = Sequence(next.unwrap_or(1)).min(self.store.last_sequence().next());
        if kept.is_some_and(|kept| kept > next.0) {
            let frames = cursors.0.clone();
            blocking(move || frames.keep(next.0)).await?;
        }
        let looked = i64::try_from(looked.unwrap_or(0)).unwrap_or(i64::MAX);
        let looked = Timestamp::from_millisecond(looked).unwrap_or(Timestamp::MAX);
        Ok(Progress {
            frames: self.store.frames(next),
            looked,
            owed: BTreeMap::new(),
            delivered: false,
            kept: (next, looked),
        })
    }

    /// Takes what has been opened from the ledger; whether there is more.
    async fn take_notices(
        &self,
        channel: &Channel,
        mut progress: Progress,
    ) -> Result<(Progress, bool)> {
        // Those that time made do not count: there is one for each review at most.
        let of_frames = progress.owed.values().filter(|owed| owed.frame.is_some());
        if of_frames.count() >= MAX_OWED {
            return Ok((progress, false));
        }
        let (frames, emergency) = (progress.frames, Arc::clone(&self.emergency));
        let read = blocking(move || opened(&emergency.grants, frames)).await?;
        progress.frames = read.frames;
        for (frame, notice, judged) in read.notices {
            for kind in [NoticeKind::BreakGlass, NoticeKind::Patient] {
                // Who has judged it knows of it; the patient may not.
                let known = judged && kind == NoticeKind::BreakGlass;
                if known || !channel.kinds.contains(&kind) || !channel.takes(&notice) {
                    continue;
                }
                let id = format!("{}-{}", kind.code(), notice.notice_id);
                let content = written(&id, kind, &notice);
                let frame = Some(frame);
                progress.owed.insert(id, Owed { frame, content });
            }
        }
        let more = read.more;
        Ok((progress, more))
    }

    /// Adds the reviews that have become overdue, or are so for another while.
    async fn look_at_reviews(&self, channel: &Channel, mut progress: Progress) -> Result<Progress> {
        let now = self.clock.now();
        // A clock that was ahead hides nothing.
        progress.looked = progress.looked.min(now);
        progress.kept.1 = progress.kept.1.min(now);
        let since = now.duration_since(progress.looked);
        if !channel.kinds.contains(&NoticeKind::ReviewOverdue) || since < LOOK_AT_MOST {
            return Ok(progress);
        }
        let (emergency, again) = (Arc::clone(&self.emergency), self.notices.again);
        let from = progress.looked;
        let overdue = move || emergency.grants.overdue(from, now, again);
        for (time, notice) in blocking(overdue).await? {
            if !channel.takes(&notice) {
                continue;
            }
            let kind = NoticeKind::ReviewOverdue;
            // The latest time takes the place of one that was not taken.
            let of_review = format!("-{}", notice.notice_id);
            progress
                .owed
                .retain(|id, owed| owed.frame.is_some() || !id.ends_with(&of_review));
            let id = format!("{}-{time}-{}", kind.code(), notice.notice_id);
            let content = written(&id, kind, &notice);
            let frame = None;
            progress.owed.insert(id, Owed { frame, content });
        }
        progress.looked = now;
        Ok(progress)
    }

    /// Sends all that is owed; what went wrong last, if anything did.
    async fn send_owed(
        &self,
        channel: &Channel,
        mut destination: Option<&mut Destination>,
        progress: &mut Progress,
    ) -> Option<Error> {
        let mut failed = None;
        let ids: Vec<String> = progress.owed.keys().cloned().collect();
        for id in ids {
            let Some(owed) = progress.owed.get(&id) else {
                continue;
            };
            let sent = match (&channel.place, destination.as_deref_mut()) {
                (Place::Https(..), Some(to)) => self.post_notice(to, &owed.content).await,
                (Place::Folder(folder), _) => self.drop_notice(folder, &id, &owed.content).await,
                (Place::Https(..), None) => Err(Error::internal("a channel without destination")),
            };
            match sent {
                Ok(true) => {
                    progress.owed.remove(&id);
                    progress.delivered = true;
                }
                Ok(false) => {
                    let message = format!("notice {id} was refused");
                    failed = Some(Error::new(Reason::CommunityUnavailable, message));
                }
                // Nobody is there: the others would not get there either.
                Err(error) => return Some(error),
            }
        }
        failed
    }

    /// Whether the receiver took it.
    async fn post_notice(&self, to: &mut Destination, content: &Value) -> Result<bool> {
        let content = serde_json::to_vec(content).map_err(Error::internal)?;
        let post = Post {
            media_type: "application/json",
            accept: "*/*",
            content: content.into(),
            answer_limit: MAX_ANSWER,
        };
        let (status, _) = to.post(&self.federation.peers, &post).await?;
        // Only these say that nobody else would get there either.
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let message = format!("the receiver answered {}", status.as_u16());
            return Err(Error::new(Reason::CommunityUnavailable, message));
        }
        Ok(status.is_success())
    }

    /// A file for the notice, whole or not at all, durable.
    async fn drop_notice(&self, folder: &Path, id: &str, content: &Value) -> Result<bool> {
        let content = serde_json::to_vec(content).map_err(Error::internal)?;
        let (disk, file) = (
            Arc::clone(&self.notices.disk),
            folder.join(format!("{id}.json")),
        );
        let write = move || {
            write_small(disk.as_ref(), &file, &content).map_err(|error| {
                let message = "the folder of notices cannot be written";
                Error::new(Reason::StoreUnavailable, message).caused_by(error)
            })
        };
        blocking(write).await?;
        Ok(true)
    }

    /// Moves the cursors to before what is owed.
    async fn keep_progress(
        &self,
        cursors: &(Cursor, Cursor),
        progress: &mut Progress,
    ) -> Result<()> {
        let next = progress.frames.position();
        let oldest = progress.owed.values().filter_map(|owed| owed.frame).min();
        let next = oldest.map_or(next, |oldest| oldest.min(next));
        let by_time = progress.owed.values().any(|owed| owed.frame.is_none());
        let looked = match by_time {
            true => progress.kept.1,
            false => progress.looked,
        };
        // Frames without notices need no cursor for each: they are read again after a restart.
        let far = next.0.saturating_sub(progress.kept.0.0) >= STEP_FRAMES as u64;
        if !progress.delivered && !far && looked == progress.kept.1 {
            return Ok(());
        }
        let (frames, reviews) = cursors.clone();
        let before = progress.kept;
        blocking(move || {
            if next != before.0 {
                frames.keep(next.0)?;
            }
            match looked == before.1 {
                true => Ok(()),
                false => reviews.keep(milliseconds(looked)),
            }
        })
        .await?;
        progress.kept = (next, looked);
        progress.delivered = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::common as cpb;
    use crate::wire::pb::emergency::BreakGlassReason;

    fn settings() -> NoticeChannel {
        NoticeChannel {
            name: "officer".to_owned(),
            kinds: vec![NoticeKind::BreakGlass],
            institutions: Vec::new(),
            https: Some("https://notices.example.jp/in".to_owned()),
            certificate_pin: None,
            folder: None,
        }
    }

    #[test]
    fn a_channel_has_a_name_kinds_and_one_place() {
        Channel::new(&settings()).unwrap();
        let folder = NoticeChannel {
            https: None,
            folder: Some("/x".into()),
            ..settings()
        };
        Channel::new(&folder).unwrap();
        for wrong in [
            NoticeChannel {
                name: "../x".to_owned(),
                ..settings()
            },
            NoticeChannel {
                kinds: Vec::new(),
                ..settings()
            },
            NoticeChannel {
                institutions: vec!["131234567".to_owned()],
                ..settings()
            },
            NoticeChannel {
                https: Some("http://notices.example.jp".to_owned()),
                ..settings()
            },
            NoticeChannel {
                folder: Some("/x".into()),
                ..settings()
            },
            NoticeChannel {
                certificate_pin: Some("00".repeat(32)),
                ..folder
            },
            NoticeChannel {
                https: None,
                ..settings()
            },
        ] {
            assert!(Channel::new(&wrong).is_err(), "{wrong:?}");
        }
    }

    /// Z-07: what goes out says where to look, and nothing else.
    #[test]
    fn a_notice_names_nobody() {
        let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        let notice = AccessNotice {
            notice_id: "n-1".to_owned(),
            grant_id: "n-1".to_owned(),
            patient_id: Some(cpb::Identifier {
                value: "CANARY-PATIENT".to_owned(),
                ..Default::default()
            }),
            institution: Some(cpb::InstitutionRef {
                institution_id: "1312345678".to_owned(),
                home_community_id: "urn:oid:2.999.1".to_owned(),
                name: "CANARY-NAME".to_owned(),
                ..Default::default()
            }),
            person: Some(cpb::PersonRef {
                subject: "CANARY-SUBJECT".to_owned(),
                ..Default::default()
            }),
            reason: BreakGlassReason::Unconscious.into(),
            reason_text: "CANARY-REASON".to_owned(),
            opened: Some(at(1_767_225_600)),
            review_due: Some(at(1_767_830_400)),
            explanation: "CANARY-TOLD".to_owned(),
            review_comment: "CANARY-COMMENT".to_owned(),
            ..Default::default()
        };
        let content = written("patient-n-1", NoticeKind::Patient, &notice);
        assert!(!content.to_string().contains("CANARY"), "{content}");
        let expected = json!({
            "id": "patient-n-1",
            "kind": "patient",
            "reference": "n-1",
            "institution": "1312345678",
            "community": "urn:oid:2.999.1",
            "opened": "2026-01-01T00:00:00Z",
            "review_due": "2026-01-08T00:00:00Z",
            "look_up": "renkei.emergency.v1.EmergencyService/ListAccessNotices",
        });
        assert_eq!(content, expected);
    }
}
