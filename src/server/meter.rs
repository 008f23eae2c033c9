//! What one connection may take: time in each stage, and frames that make work without carrying
//! any. hyper and h2 bound memory; they know no time for the preface and the headers, and bound
//! neither the rate of accepted and reset streams nor of control frames.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Event, Frame, GOAWAY, HEADERS, PING,
    RST_STREAM, SETTINGS, Scanner, WINDOW_UPDATE,
};
use super::pace::Pace;
use crate::config::Listen;
use crate::edge::{Counter, Counters};

/// Window updates are the work of a good reader, so many are allowed.
const WINDOW_UPDATES: u32 = 16_384;
/// For each call refused beyond the allowance a connection is not read for so long, and for all of them
/// together no longer than that: whoever goes on all the same costs a few refusals a second.
const REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How often a connection is looked at when nothing else is due.
const LOOK: Duration = Duration::from_secs(5);

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// No preface in time.
    Preface,
    /// No complete headers in time.
    Headers,
    /// No call for long.
    Idle,
    /// The peer takes nothing.
    Write,
    /// Answers given are not taken.
    Reader,
    /// Too many streams reset.
    Resets,
    /// Too many frames that carry nothing.
    Frames,
}

impl Cut {
    /// The rule, for the log.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Preface => "preface-timeout",
            Self::Headers => "headers-timeout",
            Self::Idle => "idle",
            Self::Write => "write-timeout",
            Self::Reader => "reader-timeout",
            Self::Resets => "reset-flood",
            Self::Frames => "frame-flood",
        }
    }

    /// Its counter.
    pub(super) fn counter(self, counters: &Counters) -> &Counter {
        match self {
            Self::Preface => &counters.preface_timeouts,
            Self::Headers => &counters.headers_timeouts,
            Self::Idle => &counters.idle_closed,
            Self::Write => &counters.write_timeouts,
            Self::Reader => &counters.reader_timeouts,
            Self::Resets => &counters.reset_floods,
            Self::Frames => &counters.frame_floods,
        }
    }
}

/// An allowance that fills up again.
#[derive(Debug)]
struct Bucket {
    most: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new(most: u32, per_second: u32, now: Instant) -> Self {
        Self {
            most: f64::from(most),
            per_second: f64::from(per_second),
            left: f64::from(most),
            at: now,
        }
    }

    /// Takes one; whether there was one.
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.most);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// Gives one back.
    fn give(&mut self) {
        self.left = (self.left + 1.0).min(self.most);
    }
}

/// Limits of time.
#[derive(Clone, Copy, Debug)]
struct Times {
    preface: Duration,
    headers: Duration,
    progress: Duration,
    idle: Duration,
}

/// The meter of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    times: Times,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    inbound: Scanner,
    outbound: Scanner,
    began: Instant,
    /// When the preface was complete.
    preface: Option<Instant>,
    /// When the header block that is under way began.
    block: Option<Instant>,
    /// Whether a request has come.
    asked: bool,
    /// When the connection last had a call.
    busy: Instant,
    resets: Bucket,
    control: Bucket,
    updates: Bucket,
    refusals: Bucket,
    /// Until when nothing is read.
    rest: Option<Instant>,
    /// Streams whose answer is not wholly on its way.
    open: HashSet<u32>,
    /// The highest stream the peer has begun, and the highest it may.
    newest: u32,
    last: u32,
    /// Streams some task here works on.
    running: usize,
    /// Since when answers wait for their reader though no task works on them any more.
    tail: Option<Instant>,
    writing: Pace,
    cut: Option<(Cut, Instant)>,
}

impl Meter {
    /// The meter of a connection whose handshake is done `now`.
    pub(super) fn new(limits: &Listen, now: Instant) -> Self {
        let progress = Duration::from_millis(limits.progress_timeout_ms);
        Self {
            times: Times {
                preface: Duration::from_millis(limits.preface_timeout_ms),
                headers: Duration::from_millis(limits.headers_timeout_ms),
                progress,
                idle: Duration::from_millis(limits.idle_timeout_ms),
            },
            state: Mutex::new(State {
                inbound: Scanner::of_client(),
                outbound: Scanner::of_server(),
                began: now,
                preface: None,
                block: None,
                asked: false,
                busy: now,
                resets: Bucket::new(limits.max_resets, limits.resets_per_second, now),
                control: Bucket::new(
                    limits.max_control_frames,
                    limits.control_frames_per_second,
                    now,
                ),
                updates: Bucket::new(WINDOW_UPDATES, WINDOW_UPDATES, now),
                refusals: Bucket::new(
                    limits.max_refused_calls,
                    limits.refused_calls_per_second,
                    now,
                ),
                rest: None,
                open: HashSet::new(),
                newest: 0,
                last: u32::MAX,
                running: 0,
                tail: None,
                writing: Pace::new(progress),
                cut: None,
            }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that came; a reason if the connection is to be closed for them.
    pub(super) fn received(&self, bytes: &[u8], now: Instant) -> Option<Cut> {
        let state = &mut *self.lock();
        let mut scanner = std::mem::replace(&mut state.inbound, Scanner::of_server());
        scanner.feed(bytes, |event| state.inbound_event(event, now));
        state.inbound = scanner;
        state.cut.map(|(cut, _)| cut)
    }

    /// Bytes that were sent.
    pub(super) fn sent(&self, bytes: &[u8], now: Instant) {
        let state = &mut *self.lock();
        state.writing.moved(bytes.len(), now);
        let mut scanner = std::mem::replace(&mut state.outbound, Scanner::of_server());
        scanner.feed(bytes, |event| state.outbound_event(event, now));
        state.outbound = scanner;
    }

    /// The peer takes no bytes at the moment.
    pub(super) fn blocked(&self, now: Instant) {
        self.lock().writing.waits(now);
    }

    /// Everything was taken.
    pub(super) fn flushed(&self, now: Instant) {
        self.lock().writing.goes_on(now);
    }

    /// Whether a frame may be sent here.
    pub(super) fn between_frames(&self) -> bool {
        self.lock().outbound.at_boundary()
    }

    /// A task works on a stream.
    pub(super) fn begun(&self) {
        self.lock().running += 1;
    }

    /// It does no more.
    pub(super) fn done(&self, now: Instant) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        state.busy = now;
    }

    /// A call was refused because its institution has as many as it may.
    pub(super) fn refused(&self, now: Instant) {
        let state = &mut *self.lock();
        if !state.refusals.take(now) {
            let from = state.rest.map_or(now, |rest| rest.max(now));
            state.rest = Some((from + REST).min(now + LONGEST_REST));
        }
    }

    /// Until when the connection is not to be read; nothing if it may be.
    pub(super) fn rests(&self, now: Instant) -> Option<Instant> {
        let rest = &mut self.lock().rest;
        *rest = rest.filter(|until| *until > now);
        *rest
    }

    /// Why the connection was to be closed for what came, if it was.
    pub(super) fn verdict(&self) -> Option<Cut> {
        self.lock().cut.map(|(cut, _)| cut)
    }

    /// Whether the connection is to be closed at `now`, and if not, when to look again.
    pub(super) fn look(&self, now: Instant) -> Result<Instant, Cut> {
        self.lock().look(&self.times, now)
    }
}

impl State {
    fn inbound_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Preface => self.preface = Some(now),
            Event::Begun(frame) if frame.kind == HEADERS => self.block = Some(now),
            Event::Begun(_) => {}
            Event::Ended(frame) => self.inbound_frame(frame, now),
        }
    }

    fn inbound_frame(&mut self, frame: Frame, now: Instant) {
        let fine = match frame.kind {
            HEADERS | CONTINUATION => {
                if frame.has(END_HEADERS) {
                    self.block = None;
                    self.asked = true;
                    self.busy = now;
                    self.opened(frame.stream);
                }
                frame.kind == HEADERS || self.control.take(now)
            }
            DATA if frame.length > 0 || frame.has(END_STREAM) => true,
            RST_STREAM => {
                self.closed(frame.stream, now);
                self.resets.take(now)
            }
            WINDOW_UPDATE => self.updates.take(now),
            SETTINGS | PING if frame.has(ACK) => true,
            _ => self.control.take(now),
        };
        if !fine && self.cut.is_none() {
            let cut = match frame.kind {
                RST_STREAM => Cut::Resets,
                _ => Cut::Frames,
            };
            self.cut = Some((cut, now));
        }
    }

    fn outbound_event(&mut self, event: Event, now: Instant) {
        let Event::Ended(frame) = event else { return };
        match frame.kind {
            RST_STREAM => {
                self.closed(frame.stream, now);
                // NO_ERROR and CANCEL are ours; the rest answers faults of the peer.
                if !matches!(frame.code, 0 | 8) && !self.resets.take(now) && self.cut.is_none() {
                    self.cut = Some((Cut::Resets, now));
                }
            }
            HEADERS | DATA => {
                // Who is sent something may ping to measure how fast.
                self.control.give();
                if frame.has(END_STREAM) {
                    self.closed(frame.stream, now);
                }
            }
            GOAWAY => {
                self.last = frame.code & 0x7fff_ffff;
                self.open.retain(|stream| *stream <= self.last);
            }
            _ => {}
        }
    }

    /// A stream begins, unless these are trailers or it comes after the goodbye. The set is
    /// bounded by what h2 lets be open: what it refuses it resets.
    fn opened(&mut self, stream: u32) {
        if stream > self.newest && stream <= self.last {
            self.newest = stream;
            self.open.insert(stream);
        }
    }

    fn closed(&mut self, stream: u32, now: Instant) {
        self.open.remove(&stream);
        self.busy = now;
        self.tail = None;
    }

    fn look(&mut self, times: &Times, now: Instant) -> Result<Instant, Cut> {
        if let Some((cut, at)) = self.cut {
            // The goodbye has had its time.
            return if now.saturating_duration_since(at) >= Duration::from_secs(1) {
                Err(cut)
            } else {
                Ok(at + Duration::from_secs(1))
            };
        }
        let mut next = now + LOOK;
        let mut due = |at: Instant, cut| {
            if at <= now {
                return Err(cut);
            }
            next = next.min(at);
            Ok(())
        };
        match self.preface {
            None => due(self.began + times.preface, Cut::Preface)?,
            Some(at) if !self.asked => due(at + times.headers, Cut::Headers)?,
            Some(_) => {}
        }
        if let Some(at) = self.block {
            due(at + times.headers, Cut::Headers)?;
        }
        if let Some(at) = self.writing.until() {
            due(at, Cut::Write)?;
        }
        if self.open.len() > self.running {
            let since = *self.tail.get_or_insert(now);
            due(since + times.progress, Cut::Reader)?;
        } else {
            self.tail = None;
        }
        if self.running == 0 && self.open.is_empty() {
            due(self.busy + times.idle, Cut::Idle)?;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::go_away;
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        bytes.extend(content);
        bytes
    }

    fn meter() -> (Meter, Instant) {
        let now = Instant::now();
        let limits = Listen {
            max_resets: 3,
            resets_per_second: 1,
            max_control_frames: 4,
            control_frames_per_second: 1,
            max_refused_calls: 2,
            refused_calls_per_second: 1,
            ..Listen::default()
        };
        (Meter::new(&limits, now), now)
    }

    /// Bars: N-08.
    #[test]
    fn who_goes_on_over_the_quota_is_read_slowly() {
        let (meter, now) = meter();
        meter.refused(now);
        meter.refused(now);
        assert_eq!(meter.rests(now), None, "a burst");
        meter.refused(now);
        assert_eq!(meter.rests(now), Some(now + REST));
        meter.refused(now);
        assert_eq!(meter.rests(now), Some(now + REST * 2));
        assert_eq!(meter.rests(now + REST * 2), None, "it is over");
        for _ in 0..1_000 {
            meter.refused(now);
        }
        assert_eq!(meter.rests(now), Some(now + LONGEST_REST));
        // Whoever keeps to it is not held up.
        let later = now + seconds(10);
        assert_eq!(meter.rests(later), None);
        meter.refused(later);
        assert_eq!(meter.rests(later), None);
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn ask(meter: &Meter, now: Instant) {
        assert_eq!(meter.received(PREFACE, now), None);
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[1]);
        assert_eq!(meter.received(&headers, now), None);
    }

    /// Bars: N-07.
    #[test]
    fn each_stage_has_its_time() {
        let (meter, now) = meter();
        assert_eq!(meter.look(now), Ok(now + seconds(5)));
        assert_eq!(meter.look(now + seconds(5)), Err(Cut::Preface));
        meter.received(PREFACE, now + seconds(4));
        assert!(meter.look(now + seconds(13)).is_ok());
        assert_eq!(meter.look(now + seconds(14)), Err(Cut::Headers));
        // A block that has begun does not have for ever either, nor does a later one.
        meter.received(&frame(HEADERS, 0, 1, &[1]), now + seconds(6));
        assert_eq!(meter.look(now + seconds(16)), Err(Cut::Headers));
        meter.received(&frame(CONTINUATION, END_HEADERS, 1, &[1]), now + seconds(7));
        assert!(meter.look(now + seconds(20)).is_ok());
        meter.received(&[0, 0, 9, HEADERS, 4, 0, 0, 0, 3, 1], now + seconds(21));
        assert_eq!(meter.look(now + seconds(31)), Err(Cut::Headers));
    }

    #[test]
    fn a_connection_without_calls_ends() {
        let (meter, now) = meter();
        ask(&meter, now);
        meter.begun();
        assert!(meter.look(now + seconds(2_000)).is_ok(), "a call runs");
        meter.sent(
            &frame(HEADERS, END_HEADERS | END_STREAM, 1, &[1]),
            now + seconds(2_000),
        );
        meter.done(now + seconds(2_000));
        assert!(meter.look(now + seconds(2_899)).is_ok());
        assert_eq!(meter.look(now + seconds(2_900)), Err(Cut::Idle));
    }

    /// Bars: N-01, N-02.
    #[test]
    fn too_many_resets_close_the_connection() {
        let (meter, now) = meter();
        ask(&meter, now);
        let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        for second in 0..6 {
            assert_eq!(
                meter.received(&reset, now + seconds(second)),
                None,
                "one a second"
            );
        }
        assert_eq!(
            meter.received(&reset.repeat(4), now + seconds(6)),
            Some(Cut::Resets)
        );
        assert_eq!(meter.look(now + seconds(7)), Err(Cut::Resets));
        // Resets for the peer's faults count as well; our own do not.
        let (meter, now) = super::tests::meter();
        ask(&meter, now);
        meter.sent(&reset.repeat(9), now);
        meter.sent(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 0]).repeat(9), now);
        assert_eq!(meter.received(&[], now), None);
        meter.sent(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]).repeat(4), now);
        assert_eq!(meter.received(&[], now), Some(Cut::Resets));
    }

    /// Bars: N-03, N-04, N-05.
    #[test]
    fn frames_that_carry_nothing_are_counted() {
        for idle in [
            frame(SETTINGS, 0, 0, &[]),
            frame(PING, 0, 0, &[0; 8]),
            frame(DATA, 0, 1, &[]),
            frame(2, 0, 1, &[0; 5]),
            frame(CONTINUATION, 0, 1, &[]),
            frame(99, 0, 1, &[]),
        ] {
            let (meter, now) = meter();
            ask(&meter, now);
            assert_eq!(meter.received(&idle.repeat(4), now), None, "{idle:?}");
            assert_eq!(meter.received(&idle, now), Some(Cut::Frames), "{idle:?}");
        }
        let (meter, now) = meter();
        ask(&meter, now);
        let paid = [
            frame(SETTINGS, ACK, 0, &[]),
            frame(PING, ACK, 0, &[0; 8]),
            frame(DATA, 0, 1, &[1]),
            frame(DATA, END_STREAM, 1, &[]),
        ];
        assert_eq!(meter.received(&paid.concat().repeat(100), now), None);
        // A ping for each part that is sent is how clients measure a path.
        for _ in 0..100 {
            meter.sent(&frame(DATA, 0, 1, &[1]), now);
            assert_eq!(meter.received(&frame(PING, 0, 0, &[0; 8]), now), None);
        }
    }

    /// Bars: N-07, N-09.
    #[test]
    fn a_peer_that_takes_nothing_is_given_up() {
        let (meter, now) = meter();
        ask(&meter, now);
        meter.begun();
        meter.blocked(now);
        assert!(meter.look(now + seconds(29)).is_ok());
        assert_eq!(meter.look(now + seconds(30)), Err(Cut::Write));
        meter.sent(&vec![0; 70_000], now + seconds(29));
        meter.flushed(now + seconds(29));
        assert!(meter.look(now + seconds(100)).is_ok());
        // The answer's task is done, but its end cannot leave.
        meter.done(now + seconds(100));
        assert!(meter.look(now + seconds(101)).is_ok());
        assert_eq!(meter.look(now + seconds(131)), Err(Cut::Reader));
    }

    #[test]
    fn a_goodbye_fits_only_between_frames() {
        let (meter, now) = meter();
        meter.sent(&go_away(0), now);
        assert!(meter.between_frames());
        meter.sent(&[0, 0], now);
        assert!(!meter.between_frames());
    }
}
