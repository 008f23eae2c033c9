//! The limits of the edge against peers that do what no well-kept client does. Counts and times
//! are small here; `edge_full` runs the same with the counts and defaults of the bars.

use std::collections::BTreeSet;
use std::time::Duration;

use renkei::pki::NodeIdentity;
use renkei::wire::pb::common::Identifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_types::StatusExt as _;

use crate::support::calls::identifiers;
use crate::support::raw::{
    CALM, CONTINUATION, DATA, END_HEADERS, END_STREAM, Ended, GOAWAY, HEADERS, HEALTH, PING,
    PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, Raw, SETTINGS, WATCH, WINDOW_UPDATE, call, frame,
    institution, literal, whole,
};
use crate::support::{At, Network, Setup, eventually};

const HERE: At = At::Region(0);
/// A connection that is to be closed is closed by then.
const SOON: Duration = Duration::from_secs(10);

/// Frames for a stream.
pub(crate) type Frames = fn(u32) -> Vec<u8>;

/// A counter of the node.
pub(crate) fn counter(network: &Network, name: &str) -> u64 {
    let all = network.gateway(HERE).edge.counters.all();
    let found = all
        .into_iter()
        .find(|(known, _)| *known == format!("edge.{name}"));
    found.expect("a counter").1
}

/// Somebody else is still served.
async fn others_are_served(network: &Network) {
    let mut raw = Raw::institution(network, 1).await;
    raw.begin().await;
    raw.send(&whole(HEALTH, 1)).await.unwrap();
    assert!(raw.served(1).await);
}

/// Sends `bytes(stream)` again and again on one connection until it is closed; gives how often,
/// and how it ended. At most `most` times.
pub(crate) async fn flood(
    raw: &mut Raw,
    most: usize,
    bytes: impl Fn(u32) -> Vec<u8>,
) -> (usize, Ended) {
    let mut sent = 0;
    while sent < most {
        let batch: Vec<u8> = (sent..most.min(sent + 64))
            .flat_map(|number| bytes(u32::try_from(number).unwrap() * 2 + 3))
            .collect();
        if raw.send(&batch).await.is_err() {
            break;
        }
        sent += 64;
    }
    (sent.min(most), raw.until_closed(SOON).await)
}

/// A connection of the first institution on which a first call has been served.
pub(crate) async fn warm(network: &Network) -> Raw {
    let mut raw = Raw::institution(network, 0).await;
    raw.begin().await;
    raw.send(&whole(HEALTH, 1)).await.unwrap();
    assert!(raw.served(1).await);
    raw
}

/// HEADERS and `RST_STREAM`: the stream is reset as soon as it is opened.
pub(crate) fn opened_and_reset(stream: u32) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &call(HEALTH, &[]));
    bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    bytes
}

/// Frames that make the server reset a stream, by name.
pub(crate) fn provocations() -> Vec<(&'static str, Frames)> {
    vec![
        ("malformed headers", |stream| {
            let block = [call(HEALTH, &[]), literal("Upper", "case")].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
        }),
        ("no window", |stream| {
            let open = frame(HEADERS, END_HEADERS, stream, &call(HEALTH, &[]));
            [open, frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
        ("too much window", |stream| {
            let open = frame(HEADERS, END_HEADERS, stream, &call(HEALTH, &[]));
            let update = frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
            [open, update.clone(), update].concat()
        }),
        ("more than its length", |stream| {
            let block = call(HEALTH, &[("content-length", "1")]);
            let open = frame(HEADERS, END_HEADERS, stream, &block);
            [open, frame(DATA, END_STREAM, stream, &[0; 5])].concat()
        }),
        ("depends on itself", |stream| {
            let open = frame(HEADERS, END_HEADERS, stream, &call(HEALTH, &[]));
            let content = [stream.to_be_bytes().as_slice(), &[0]].concat();
            [open, frame(PRIORITY, 0, stream, &content)].concat()
        }),
        ("too many streams", |stream| {
            frame(HEADERS, END_HEADERS, stream, &call(WATCH, &[]))
        }),
    ]
}

/// Bars: N-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_opened_and_reset_close_the_connection() {
    let network = Setup::standalone().start().await;
    let mut raw = warm(&network).await;
    let (sent, ended) = flood(&mut raw, 20_000, opened_and_reset).await;
    assert!(ended.was_cut(sent, 20_000), "{sent} {ended:?}");
    assert!(matches!(ended.goaway, None | Some(CALM)), "{ended:?}");
    others_are_served(&network).await;
    network.stop().await;
}

/// Bars: N-02.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_make_the_server_reset_close_the_connection() {
    let network = Setup::standalone().start().await;
    for (name, provocation) in provocations() {
        let mut raw = warm(&network).await;
        let (sent, ended) = flood(&mut raw, 20_000, provocation).await;
        assert!(ended.was_cut(sent, 20_000), "{name}: {sent} {ended:?}");
        others_are_served(&network).await;
    }
    network.stop().await;
}

/// Frames that carry nothing, by name.
pub(crate) fn idle_frames() -> Vec<(&'static str, Frames)> {
    vec![
        ("SETTINGS", |_| frame(SETTINGS, 0, 0, &[])),
        ("PING", |_| frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY", |stream| {
            frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1])
        }),
        ("unknown", |_| frame(0x77, 0, 0, &[1])),
        ("empty DATA", |_| frame(DATA, 0, 3, &[])),
    ]
}

/// Bars: N-04, N-05, N-06.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_carry_nothing_close_the_connection() {
    let network = Setup::standalone().start().await;
    for (name, idle) in idle_frames() {
        let mut raw = warm(&network).await;
        let open = frame(HEADERS, END_HEADERS, 3, &call(WATCH, &[]));
        raw.send(&open).await.unwrap();
        let (sent, ended) = flood(&mut raw, 50_000, idle).await;
        assert!(ended.was_cut(sent, 50_000), "{name}: {sent} {ended:?}");
    }
    assert!(counter(&network, "frame_floods") >= 4);
    others_are_served(&network).await;
    network.stop().await;
}

/// Bars: N-03.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_block_without_end_closes_the_connection() {
    let network = Setup::standalone().start().await;
    let mut raw = warm(&network).await;
    raw.send(&frame(HEADERS, 0, 3, &call(HEALTH, &[])))
        .await
        .unwrap();
    let (sent, ended) = flood(&mut raw, 50_000, |_| {
        frame(CONTINUATION, 0, 3, &literal("x", "y"))
    })
    .await;
    assert!(ended.was_cut(sent, 50_000), "{sent} {ended:?}");
    others_are_served(&network).await;
    network.stop().await;
}

/// Bars: N-06 (header list, HPACK bomb).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_list_over_the_limit_is_refused() {
    let network = Setup::standalone().start().await;
    for (name, frames) in large_header_lists() {
        let mut raw = warm(&network).await;
        raw.send(&frames).await.unwrap();
        let answer = raw
            .find(|frame| frame.stream == 3 || frame.kind == GOAWAY)
            .await;
        let answer = answer.expect("an answer");
        // 431 Request Header Fields Too Large, as a literal, a reset, or the end of everything.
        let refused = answer.kind != HEADERS || answer.content.windows(3).any(|w| w == b"431");
        let huffman_431 = answer.kind == HEADERS && answer.flags & END_STREAM != 0;
        assert!(refused || huffman_431, "{name}: {answer:?}");
    }
    others_are_served(&network).await;
    network.stop().await;
}

/// Header lists over the limit, as frames of stream 3, by name.
pub(crate) fn large_header_lists() -> Vec<(&'static str, Vec<u8>)> {
    // 200 headers of 100 octets, in the open.
    let large: Vec<u8> = (0..200)
        .flat_map(|_| literal("x", &"y".repeat(100)))
        .collect();
    // One header of 4,000 octets in the dynamic table, then named 3,000 times in an octet each.
    let long = [
        &[0x40, 1, b'z', 0x7f, 0xa1, 0x1e],
        "v".repeat(4_000).as_bytes(),
    ]
    .concat();
    let bomb = [long, vec![0xbe; 3_000]].concat();
    let mut all = Vec::new();
    for (name, block) in [("large", large), ("bomb", bomb)] {
        let block = [call(HEALTH, &[]), block].concat();
        let mut frames = Vec::new();
        let mut parts = block.chunks(16_000).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            frames.extend(frame(kind, end | u8::from(kind == HEADERS), 3, part));
            kind = CONTINUATION;
        }
        all.push((name, frames));
    }
    all
}

/// One byte at a time until the node closes the connection.
async fn drip(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, bytes: &[u8]) {
    let mut byte = [0; 1024];
    let dripping = async {
        for sent in bytes.iter().cycle() {
            tokio::select! {
                read = stream.read(&mut byte) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                () = tokio::time::sleep(Duration::from_millis(40)) => {}
            }
            if stream.write_all(&[*sent]).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, dripping)
        .await
        .expect("closed in time");
}

/// A network whose stages are short.
fn impatient() -> Setup {
    Setup::standalone()
        .set("listen.handshake_timeout_ms", "2000")
        .set("listen.preface_timeout_ms", "700")
        .set("listen.headers_timeout_ms", "900")
        .set("listen.progress_timeout_ms", "1000")
}

/// Bars: N-07.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_now_and_then_does_not_hold_a_connection() {
    let network = impatient().start().await;
    let before = |name: &str| counter(&network, name);

    let mut silent = TcpStream::connect(network.address(HERE)).await.unwrap();
    let closed = tokio::time::timeout(SOON, silent.read(&mut [0])).await;
    assert!(matches!(closed.expect("closed in time"), Ok(0) | Err(_)));
    let tls = TcpStream::connect(network.address(HERE)).await.unwrap();
    // A record of a ClientHello that never comes to its end.
    let hello = [&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3], [7; 200].as_slice()].concat();
    drip(tls, &hello).await;
    assert_eq!(before("handshake_timeouts"), 2);

    let preface = Raw::institution(&network, 0).await;
    drip(preface.tls, PREFACE).await;
    assert_eq!(before("preface_timeouts"), 1);

    let mut headers = Raw::institution(&network, 0).await;
    headers.begin().await;
    let block = frame(
        HEADERS,
        END_HEADERS,
        1,
        &call(HEALTH, &[("x", &"y".repeat(120))]),
    );
    drip(headers.tls, &block).await;
    assert_eq!(before("headers_timeouts"), 1);

    // The body: the call is refused, and the connection goes on.
    let mut body = warm(&network).await;
    let open = frame(HEADERS, END_HEADERS, 3, &call(HEALTH, &[]));
    body.send(&open).await.unwrap();
    for _ in 0..5 {
        body.send(&frame(DATA, 0, 3, &[0])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert!(body.served(3).await, "refused with a status");
    assert_eq!(before("body_timeouts"), 1);
    body.send(&whole(HEALTH, 5)).await.unwrap();
    assert!(body.served(5).await);
    others_are_served(&network).await;
    network.stop().await;
}

/// Bars: N-09.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_gives_no_window_loses_its_stream_only() {
    let network = impatient().start().await;
    let mut raw = Raw::institution(&network, 0).await;
    // INITIAL_WINDOW_SIZE 0: no answer can be sent.
    raw.begin_with(&[(4, 0)]).await;
    raw.send(&whole(HEALTH, 1)).await.unwrap();
    let reset = raw.find(|frame| frame.kind == RST_STREAM).await;
    assert_eq!(reset.expect("a reset").stream, 1);
    assert_eq!(counter(&network, "reader_timeouts"), 1);
    // With a window the same connection is served.
    let window = [[0, 4].as_slice(), &65_535_u32.to_be_bytes()].concat();
    raw.send(&frame(SETTINGS, 0, 0, &window)).await.unwrap();
    raw.send(&whole(HEALTH, 3)).await.unwrap();
    assert!(raw.served(3).await);
    network.stop().await;
}

/// Bars: N-09.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_whose_answer_cannot_end_loses_its_connection() {
    let network = impatient().start().await;
    let mut raw = Raw::institution(&network, 0).await;
    // One octet of window: the answer is given to HTTP/2 whole, and its end never leaves.
    raw.begin_with(&[(4, 1)]).await;
    raw.send(&whole(HEALTH, 1)).await.unwrap();
    let ended = raw.until_closed(SOON).await;
    assert!(ended.closed, "{ended:?}");
    assert!(counter(&network, "reader_timeouts") >= 1);
    network.stop().await;
}

/// A call that answers much: reflection, with a file for each message.
fn descriptors(stream: u32, files: usize) -> Vec<u8> {
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let name = "renkei/identity/v1/identity.proto";
    let mut message = vec![0x1a, u8::try_from(name.len()).unwrap()];
    message.extend(name.as_bytes());
    let mut part = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    part.extend(message);
    let open = frame(HEADERS, END_HEADERS, stream, &call(path, &[]));
    let parts = part.repeat(files);
    let asks = parts
        .chunks(16_000)
        .flat_map(|some| frame(DATA, 0, stream, some));
    [open, asks.collect()].concat()
}

/// Bars: N-09.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_at_all_loses_its_connection() {
    let network = impatient().start().await;
    let mut raw = Raw::institution(&network, 0).await;
    let most = 0x7fff_ffff;
    raw.begin_with(&[(4, most)]).await;
    let window = (most - 65_535).to_be_bytes();
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &window))
        .await
        .unwrap();
    raw.send(&descriptors(1, 1_500)).await.unwrap();
    eventually("the connection is given up", || async {
        let given_up = counter(&network, "write_timeouts") + counter(&network, "reader_timeouts");
        (given_up > 0).then_some(())
    })
    .await;
    others_are_served(&network).await;
    network.stop().await;
}

/// Bars: N-14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_certificate_has_so_many_connections() {
    let network = Setup::standalone().start().await;
    let identity = institution(&network, 0);
    let open = hold(&network, &identity, 48).await;
    assert_eq!(open.len(), 32);
    assert_eq!(counter(&network, "refused_certificate"), 16);
    others_are_served(&network).await;
    drop(open);
    let again = eventually("the places are free again", || async {
        let mut raw = Raw::connect(&network, &identity).await.ok()?;
        raw.begin().await;
        raw.send(&whole(HEALTH, 1)).await.ok()?;
        raw.served(1).await.then_some(raw)
    });
    drop(again.await);
    network.stop().await;
}

/// Opens `count` connections with one certificate; gives those that were served a call.
pub(crate) async fn hold(network: &Network, identity: &NodeIdentity, count: usize) -> Vec<Raw> {
    let mut open = Vec::new();
    for _ in 0..count {
        let Ok(mut raw) = Raw::connect(network, identity).await else {
            continue;
        };
        let asked = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &whole(HEALTH, 1)].concat();
        if raw.send(&asked).await.is_ok() && raw.served(1).await {
            open.push(raw);
        }
    }
    open
}

/// Bars: N-08.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_institution_has_so_many_calls() {
    let network = Setup::standalone()
        .set("listen.max_in_flight_per_institution", "5")
        .start()
        .await;
    let mut greedy = warm(&network).await;
    for stream in 1..=20 {
        greedy.send(&whole(WATCH, stream * 2 + 1)).await.unwrap();
    }
    let mut refused = BTreeSet::new();
    while refused.len() < 15 {
        let ended = |frame: &crate::support::raw::Frame| frame.flags & END_STREAM != 0;
        let end = greedy.find(ended).await.expect("a refusal");
        refused.insert(end.stream);
    }
    assert_eq!(counter(&network, "shed_quota"), 15);
    // A refusal says when to come again, and others notice nothing.
    let caller = network.system(HERE, &network.sample.regions[0].institutions[0]);
    let status = identifiers(&caller, Identifier::default())
        .await
        .unwrap_err();
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    for _ in 0..20 {
        others_are_served(&network).await;
    }
    // What ends makes room.
    let one = (3..=41).find(|stream| stream % 2 == 1 && !refused.contains(stream));
    let reset = frame(RST_STREAM, 0, one.unwrap(), &8_u32.to_be_bytes());
    greedy.send(&reset).await.unwrap();
    eventually("there is room again", || async {
        let status = identifiers(&caller, Identifier::default()).await;
        let full = status.is_err_and(|status| status.code() == tonic::Code::ResourceExhausted);
        (!full).then_some(())
    })
    .await;
    network.stop().await;
}

/// Bars: N-10. RFC 9113: each of these is a connection error, so the connection is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_errors_close_the_connection() {
    let network = Setup::standalone().start().await;
    for (name, bytes) in connection_errors() {
        let mut raw = warm(&network).await;
        // The node may close before all of it is read.
        drop(raw.send(&bytes).await);
        let ended = raw.until_closed(SOON).await;
        assert!(ended.closed, "{name}: {ended:?}");
        assert!(
            ended.goaway.is_none_or(|code| code != 0),
            "{name}: {ended:?}"
        );
    }
    let mut wrong = Raw::institution(&network, 0).await;
    wrong
        .send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n..........")
        .await
        .unwrap();
    assert!(wrong.until_closed(SOON).await.closed, "no preface (§3.4)");
    others_are_served(&network).await;
    network.stop().await;
}

/// Frames, and the section of RFC 9113 by which they are connection errors.
#[allow(clippy::too_many_lines, reason = "one table")]
fn connection_errors() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("DATA on stream 0 (§6.1)", frame(DATA, 0, 0, &[0])),
        ("DATA on an idle stream (§5.1)", frame(DATA, 0, 3, &[0])),
        (
            "HEADERS on stream 0 (§6.2)",
            frame(HEADERS, 4, 0, &call(HEALTH, &[])),
        ),
        (
            "HEADERS on an even stream (§5.1.1)",
            frame(HEADERS, 4, 2, &call(HEALTH, &[])),
        ),
        (
            "RST_STREAM on stream 0 (§6.4)",
            frame(RST_STREAM, 0, 0, &[0; 4]),
        ),
        (
            "RST_STREAM on an idle stream (§6.4)",
            frame(RST_STREAM, 0, 9, &[0; 4]),
        ),
        (
            "RST_STREAM of 3 octets (§6.4)",
            frame(RST_STREAM, 0, 1, &[0; 3]),
        ),
        ("SETTINGS on a stream (§6.5)", frame(SETTINGS, 0, 1, &[])),
        (
            "SETTINGS of 5 octets (§6.5)",
            frame(SETTINGS, 0, 0, &[0; 5]),
        ),
        (
            "SETTINGS ACK with content (§6.5)",
            frame(SETTINGS, 1, 0, &[0; 6]),
        ),
        (
            "window beyond 2^31-1 (§6.5.2)",
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "frame size below 16,384 (§6.5.2)",
            frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        ),
        (
            "PUSH_PROMISE by a client (§8.4)",
            frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
        ),
        ("PING on a stream (§6.7)", frame(PING, 0, 1, &[0; 8])),
        ("PING of 7 octets (§6.7)", frame(PING, 0, 0, &[0; 7])),
        ("GOAWAY on a stream (§6.8)", frame(GOAWAY, 0, 1, &[0; 8])),
        (
            "WINDOW_UPDATE of 0 (§6.9)",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        ),
        (
            "WINDOW_UPDATE of 3 octets (§6.9)",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
        ),
        (
            "window overflow (§6.9.1)",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "CONTINUATION out of place (§6.10)",
            frame(CONTINUATION, 4, 1, &[]),
        ),
        (
            "a frame larger than allowed (§4.2)",
            frame(DATA, 0, 0, &vec![0; 70_000]),
        ),
        (
            "HPACK beyond its table (§4.3)",
            frame(HEADERS, 5, 3, &[0xff, 0xff, 0xff, 0x0f]),
        ),
        (
            "a frame inside of a header block (§4.3)",
            [
                frame(HEADERS, 0, 3, &call(HEALTH, &[])),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
        ),
    ]
}

/// Bars: N-10. RFC 9113 §8.1.1: a malformed request is an error of its stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_end_their_stream_only() {
    let network = Setup::standalone().start().await;
    let late = [literal("x", "y"), call(HEALTH, &[])].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "upper case (§8.2.1)",
            [call(HEALTH, &[]), literal("Ab", "c")].concat(),
        ),
        (
            "connection header (§8.2.2)",
            call(HEALTH, &[("connection", "close")]),
        ),
        ("te other than trailers (§8.2.2)", {
            let mut block = vec![0x83, 0x87];
            block.extend(literal(":path", HEALTH));
            block.extend(literal("te", "gzip"));
            block
        }),
        (
            "no method (§8.3.1)",
            [vec![0x87], literal(":path", HEALTH)].concat(),
        ),
        (
            "two paths (§8.3.1)",
            [call(HEALTH, &[]), literal(":path", "/x")].concat(),
        ),
        (
            "unknown pseudo-header (§8.3)",
            [literal(":x", "y"), call(HEALTH, &[])].concat(),
        ),
        ("pseudo-header late (§8.3)", late),
        (
            "empty path (§8.3.1)",
            [vec![0x83, 0x87], literal(":path", "")].concat(),
        ),
    ];
    let mut gone_on = 0;
    for (name, block) in cases {
        let stream = 3;
        let mut raw = warm(&network).await;
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block))
            .await
            .unwrap();
        let answer = raw
            .find(|frame| frame.kind == GOAWAY || frame.stream == stream)
            .await
            .unwrap_or_else(|| panic!("{name}: the connection is closed"));
        // §5.4: it may also be treated as a connection error.
        if answer.kind == GOAWAY {
            assert_ne!(answer.code(), 0, "{name}");
            continue;
        }
        assert!(
            answer.kind == RST_STREAM || answer.flags & END_STREAM != 0,
            "{name}: {answer:?}"
        );
        raw.send(&whole(HEALTH, 5)).await.unwrap();
        assert!(raw.served(5).await, "{name}");
        gone_on += 1;
    }
    assert!(gone_on >= 5, "{gone_on}");
    network.stop().await;
}

/// Bars: N-12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_deadline_a_caller_writes_is_survived() {
    let network = Setup::standalone().start().await;
    let path = "/renkei.federation.v1.RespondingGatewayService/Ping";
    let mut raw = warm(&network).await;
    let mut stream = 3;
    for text in [
        "",
        "0n",
        "1n",
        "99999999H",
        "100000000S",
        "-1S",
        "+1S",
        "S",
        "1",
        "1x",
        "soon",
    ] {
        let block = call(path, &[("grpc-timeout", text)]);
        let open = frame(HEADERS, END_HEADERS, stream, &block);
        let bytes = [open, frame(DATA, END_STREAM, stream, &[0; 5])].concat();
        raw.send(&bytes).await.unwrap();
        assert!(raw.served(stream).await, "{text:?}");
        stream += 2;
    }
    network.stop().await;
}

/// Bars: N-13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_certificate_sees_an_alert_only() {
    let network = Setup::standalone().start().await;
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let prior = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for bytes in [get, prior, vec![0; 64], vec![22, 3, 1, 0, 5, 1, 0, 0, 1, 0]] {
        let mut tcp = TcpStream::connect(network.address(HERE)).await.unwrap();
        tcp.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(SOON, tcp.read_to_end(&mut answer)).await;
        assert!(reading.is_ok(), "closed");
        // Nothing, or one alert record of two octets (RFC 8446 §5.1, §6).
        assert!(
            answer.is_empty() || (answer.len() == 7 && answer[0] == 21),
            "{answer:?}"
        );
    }
    let anonymous = network.anonymous(HERE);
    for path in [
        HEALTH,
        "/renkei.admin.v1.AdminService/GetNodeInfo",
        "/nonsense",
    ] {
        let mut client = tonic::client::Grpc::new(anonymous.channel.clone());
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let ready = client.ready().await;
        let status = match ready {
            Ok(()) => client
                .unary(tonic::Request::new(()), path, codec)
                .await
                .unwrap_err(),
            Err(error) => tonic::Status::from_error(error.into()),
        };
        assert!(
            std::error::Error::source(&status).is_some(),
            "transport: {status}"
        );
        assert!(status.metadata().is_empty(), "{status:?}");
    }
    network.stop().await;
}

/// Bars: T-35.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_handshakes_hold_nobody_up() {
    let network = Setup::standalone()
        .set("listen.max_half_open", "64")
        .set("listen.handshake_timeout_ms", "1000")
        .start()
        .await;
    let mut stalled = Vec::new();
    for number in 0..200_usize {
        let mut tcp = TcpStream::connect(network.address(HERE)).await.unwrap();
        // Stalled before, in, and after the first record.
        let hello = [22, 3, 1, 0, 200, 1, 0];
        tcp.write_all(&hello[..number % hello.len()]).await.unwrap();
        stalled.push(tcp);
    }
    for _ in 0..10 {
        others_are_served(&network).await;
    }
    assert!(counter(&network, "evicted_half_open") > 0);
    for mut tcp in stalled {
        let mut byte = [0];
        let closed = tokio::time::timeout(SOON, tcp.read(&mut byte)).await;
        assert!(matches!(closed.expect("closed in time"), Ok(0) | Err(_)));
    }
    network.stop().await;
}

/// An old connection is told to go, and its calls end well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_or_idle_connection_is_told_to_go() {
    let network = Setup::standalone()
        .set("listen.max_connection_age_ms", "500")
        .set("listen.idle_timeout_ms", "60000")
        .start()
        .await;
    let mut raw = warm(&network).await;
    let ended = raw.until_closed(SOON).await;
    assert_eq!((ended.closed, ended.goaway), (true, Some(0)), "{ended:?}");
    assert!(counter(&network, "aged") >= 1);
    network.stop().await;

    let idle = Setup::standalone()
        .set("listen.idle_timeout_ms", "300")
        .start()
        .await;
    let mut raw = warm(&idle).await;
    let ended = raw.until_closed(SOON).await;
    assert_eq!((ended.closed, ended.goaway), (true, Some(0)), "{ended:?}");
    assert!(counter(&idle, "idle_closed") >= 1);
    idle.stop().await;
}
