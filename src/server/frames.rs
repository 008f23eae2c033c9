//! The frames of HTTP/2 as they go by (RFC 9113 §4.1), without their content: enough to know in
//! which stage a connection is, and whether it does more than make work.

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// `END_STREAM` of DATA and HEADERS; ACK of SETTINGS and PING.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
/// `END_HEADERS` of HEADERS and CONTINUATION.
pub(super) const END_HEADERS: u8 = 4;

/// `ENHANCE_YOUR_CALM` (RFC 9113 §7).
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Octets of its content.
    pub(super) length: u32,
    /// Its type.
    pub(super) kind: u8,
    /// Its flags.
    pub(super) flags: u8,
    /// Its stream.
    pub(super) stream: u32,
    /// The first four octets of its content: the error code of `RST_STREAM`, the last stream of GOAWAY.
    pub(super) code: u32,
}

impl Frame {
    /// Whether a flag is set.
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The whole preface.
    Preface,
    /// The head of a frame; its content follows.
    Begun(Frame),
    /// A frame is complete.
    Ended(Frame),
}

/// Reads one direction of a connection.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Octets of the preface still to come.
    preface: usize,
    head: [u8; 9],
    head_length: usize,
    frame: Frame,
    /// Octets of the frame's content still to come.
    left: u32,
}

impl Scanner {
    /// Of what a client sends, from the preface on.
    pub(super) fn of_client() -> Self {
        Self {
            preface: PREFACE.len(),
            ..Self::of_server()
        }
    }

    /// Of what a server sends.
    pub(super) fn of_server() -> Self {
        Self {
            preface: 0,
            head: [0; 9],
            head_length: 0,
            frame: Frame::default(),
            left: 0,
        }
    }

    /// Whether a new frame may begin here.
    pub(super) fn at_boundary(&self) -> bool {
        self.preface == 0 && self.head_length == 0
    }

    /// Reads on.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut see: impl FnMut(Event)) {
        if self.preface > 0 {
            let taken = self.preface.min(bytes.len());
            bytes = bytes.get(taken..).unwrap_or_default();
            self.preface -= taken;
            if self.preface == 0 {
                see(Event::Preface);
            }
        }
        while !bytes.is_empty() {
            bytes = if self.head_length < self.head.len() {
                self.head(bytes, &mut see)
            } else {
                self.content(bytes)
            };
            if self.head_length == self.head.len() && self.left == 0 {
                self.head_length = 0;
                see(Event::Ended(self.frame));
            }
        }
    }

    fn head<'b>(&mut self, bytes: &'b [u8], see: &mut impl FnMut(Event)) -> &'b [u8] {
        let mut rest = bytes.iter();
        for (slot, byte) in self.head.iter_mut().skip(self.head_length).zip(&mut rest) {
            *slot = *byte;
            self.head_length += 1;
        }
        if self.head_length == self.head.len() {
            let number = |bytes: &[u8]| {
                let octets = bytes.iter();
                octets.fold(0, |sum: u32, octet| sum << 8 | u32::from(*octet))
            };
            let [length @ .., kind, flags, _, _, _, _] = &self.head;
            let [.., high, middle, low, lowest] = self.head;
            self.frame = Frame {
                length: number(length),
                kind: *kind,
                flags: *flags,
                stream: u32::from_be_bytes([high & 0x7f, middle, low, lowest]),
                code: 0,
            };
            self.left = self.frame.length;
            see(Event::Begun(self.frame));
        }
        rest.as_slice()
    }

    fn content<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let available = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let taken = available.min(self.left);
        if matches!(self.frame.kind, RST_STREAM | GOAWAY) {
            let passed = self.frame.length - self.left;
            for byte in bytes
                .iter()
                .take(taken.min(4_u32.saturating_sub(passed)) as usize)
            {
                self.frame.code = self.frame.code << 8 | u32::from(*byte);
            }
        }
        self.left -= taken;
        bytes.get(taken as usize..).unwrap_or_default()
    }
}

/// A GOAWAY that names no stream as processed for certain; the streams of a peer who floods are of
/// no concern.
pub(super) fn go_away(code: u32) -> [u8; 17] {
    let mut frame = [0; 17];
    let [a, b, c, d] = code.to_be_bytes();
    frame.copy_from_slice(&[
        0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, a, b, c, d,
    ]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(scanner: &mut Scanner, bytes: &[u8], step: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for part in bytes.chunks(step) {
            scanner.feed(part, |event| events.push(event));
        }
        events
    }

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 3, HEADERS, 5, 0, 0, 0, 1, 7, 7, 7]);
        bytes.extend([0, 0, 4, RST_STREAM, 0, 0x80, 0, 0, 1, 0, 0, 0, 8]);
        let frame = |length, kind, flags, stream, code| Frame {
            length,
            kind,
            flags,
            stream,
            code,
        };
        let settings = frame(0, SETTINGS, 0, 0, 0);
        let headers = frame(3, HEADERS, END_STREAM | END_HEADERS, 1, 0);
        let expected = [
            Event::Preface,
            Event::Begun(settings),
            Event::Ended(settings),
            Event::Begun(headers),
            Event::Ended(headers),
            Event::Begun(frame(4, RST_STREAM, 0, 1, 0)),
            Event::Ended(frame(4, RST_STREAM, 0, 1, 8)),
        ];
        for step in [1, 2, 3, 7, 9, 24, 1000] {
            let mut scanner = Scanner::of_client();
            assert_eq!(seen(&mut scanner, &bytes, step), expected, "{step}");
            assert!(scanner.at_boundary());
            assert!(seen(&mut scanner, &[0], 1).is_empty());
            assert!(!scanner.at_boundary());
        }
    }

    #[test]
    fn a_goodbye_is_a_frame() {
        let mut scanner = Scanner::of_server();
        let events = seen(&mut scanner, &go_away(ENHANCE_YOUR_CALM), 17);
        assert_eq!(events.len(), 2);
        assert!(scanner.at_boundary());
    }
}
