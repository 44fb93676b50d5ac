//! What somebody sees who listens: `msgr serve` and `msgr ping` with cephx, captured by tcpdump.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use common::{Server, assert_exactly_once, json, msgr, text};
use msgr_protocol::auth::ConnectionSecret;
use msgr_protocol::frame::{End, FrameReader, Layout, Limits, Revision, secure};
use msgr_protocol::wire::Tag;
use rustix::process::{Pid, Signal, kill_process};

const KEY: &str = "AQA4CwFrLILmIBAAM2WcZrp2Dpfv7a3K55w4Og==";
/// The key itself: what is in the text behind its type, its time and its length.
const RAW_KEY: [u8; 16] = [
    0x33, 0x65, 0x9c, 0x66, 0xba, 0x76, 0x0e, 0x97, 0xef, 0xed, 0xad, 0xca, 0xe7, 0x9c, 0x38, 0x3a,
];
/// As client.ID it logs in, as TYPE.ID it is known to the messenger.
const NAME: &str = "client.48104";
const COUNT: u64 = 20;
const LAYOUT: Layout = Layout {
    revision: Revision::Rev1,
    data_crc: true,
};

/// A directory that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("msgr-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A tcpdump on the loopback.
struct Capture {
    tcpdump: Child,
    file: String,
}

impl Capture {
    fn start(port: u16, file: String) -> Self {
        let mut tcpdump = Command::new("tcpdump")
            // Room (in KiB) for all of it, should it not have its turn for a while.
            .args(["-i", "lo", "-B", "65536", "-U", "--immediate-mode"])
            .args(["-s0", "-w", &file])
            .args(["tcp", "port", &port.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says so when it has begun.
        let said = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut lines = said.lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("listening on lo")));
        Self { tcpdump, file }
    }

    /// The bytes of both directions, by the port that they come from, once their end has been seen.
    fn stop(mut self) -> BTreeMap<u16, Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let pcap = loop {
            let pcap = fs::read(&self.file).unwrap();
            let segments = segments(&pcap);
            let ended = |segment: &&Segment<'_>| segment.flags & FIN != 0;
            let ended: BTreeSet<_> = segments.iter().filter(ended).map(|s| s.port).collect();
            if ended.len() == 2 || segments.iter().any(|segment| segment.flags & RST != 0) {
                break pcap;
            }
            assert!(Instant::now() < deadline, "of the end only {ended:?}");
            thread::sleep(Duration::from_millis(10));
        };
        kill_process(Pid::from_child(&self.tcpdump), Signal::INT).unwrap();
        self.tcpdump.wait().unwrap();
        streams(&segments(&pcap))
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// Of TCP (RFC 9293).
struct Segment<'a> {
    /// Where it comes from.
    port: u16,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

/// What a capture of Ethernet and IPv4 (pcap-savefile(5), RFC 791) has come to.
fn segments(pcap: &[u8]) -> Vec<Segment<'_>> {
    let le32 = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(
        (le32(0), le32(20)),
        (0xa1b2_c3d4, 1),
        "microseconds, Ethernet"
    );
    let mut segments = Vec::new();
    let mut at = 24;
    while at + 16 <= pcap.len() {
        let (captured, len) = (le32(at + 8), le32(at + 12));
        assert_eq!(captured, len);
        if at + 16 + len > pcap.len() {
            break;
        }
        let ip = &pcap[at + 16 + 14..at + 16 + len];
        at += 16 + len;
        let ip = &ip[..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
        let tcp = &ip[usize::from(ip[0] & 0xf) * 4..];
        segments.push(Segment {
            port: u16::from_be_bytes([tcp[0], tcp[1]]),
            sequence: u32::from_be_bytes(tcp[4..8].try_into().unwrap()),
            flags: tcp[13],
            payload: &tcp[usize::from(tcp[12] >> 4) * 4..],
        });
    }
    segments
}

/// Puts their payloads together, by source port.
fn streams(segments: &[Segment<'_>]) -> BTreeMap<u16, Vec<u8>> {
    let mut streams = BTreeMap::<u16, (u32, Vec<u8>)>::new();
    for &Segment {
        port,
        sequence,
        flags,
        payload,
    } in segments
    {
        if flags & SYN != 0 {
            assert!(
                streams
                    .insert(port, (sequence.wrapping_add(1), Vec::new()))
                    .is_none()
            );
        } else if let Some((start, stream)) = streams.get_mut(&port) {
            let offset = sequence.wrapping_sub(*start) as usize;
            if offset < stream.len() {
                assert!(payload.len() <= 1 || stream[offset..].starts_with(payload));
            } else if !payload.is_empty() {
                assert_eq!(offset, stream.len(), "nothing is missing");
                stream.extend_from_slice(payload);
            }
        }
    }
    streams
        .into_iter()
        .map(|(port, (_, stream))| (port, stream))
        .collect()
}

/// What a ping in `mode` left in a capture: the client's bytes and the server's.
fn captured(scratch: &Scratch, mode: &str) -> [Vec<u8>; 2] {
    let keyring = scratch.file("keyring");
    fs::write(&keyring, format!("[{NAME}]\n\tkey = {KEY}\n")).unwrap();
    let key_log = scratch.file("secrets");
    let security = [
        "--transport",
        "posix",
        "--auth",
        "cephx",
        "--keyring",
        &keyring,
        "--mode",
        mode,
    ];
    let server = Server::start(&[&security[..], &["--key-log", &key_log]].concat());
    let port = server.addr.socket.unwrap().port();
    let capture = Capture::start(port, scratch.file("pcap"));
    let (addr, count) = (server.addr.to_string(), COUNT.to_string());
    let ping = ["ping", &addr, "--entity", NAME, "--count", &count, "--json"];
    let output = msgr(&[&ping[..], &security].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_exactly_once(&json(&output.stdout), COUNT);
    server.stop();
    let mut streams = capture.stop();
    assert_eq!(streams.len(), 2);
    let theirs = streams.remove(&port).unwrap();
    [streams.pop_first().unwrap().1, theirs]
}

/// The frames of a stream up to `last`, in plain text, and the bytes behind them.
fn frames_until(stream: &[u8], last: Tag) -> (Vec<Tag>, Vec<u8>) {
    const BANNER: usize = 26;
    let mut reader = FrameReader::new(LAYOUT, Limits::default());
    let mut tags = Vec::new();
    for (at, byte) in stream.iter().enumerate().skip(BANNER) {
        reader.push(Bytes::copy_from_slice(&[*byte]));
        if let Some(frame) = reader.next_frame().unwrap() {
            tags.push(frame.tag);
            if frame.tag == last {
                return (tags, stream[at + 1..].to_vec());
            }
        }
    }
    panic!("no {last} behind {tags:?}");
}

fn contains(stream: &[u8], what: &[u8]) -> bool {
    stream.windows(what.len()).any(|window| window == what)
}

/// The payloads of the first message of a stream that is opened with the secret of the key log.
fn first_payload(stream: &[u8], secrets: &str, end: End) -> Vec<u8> {
    let secret: Vec<u8> = (0..secrets.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&secrets[at..at + 2], 16).unwrap())
        .collect();
    let secret = ConnectionSecret::from_slice(&secret).unwrap();
    let mut reader = FrameReader::new(LAYOUT, Limits::default());
    // What one end opens, the other has sealed.
    let (_, opener) = secure(&secret, end, Revision::Rev1);
    reader.secure(opener);
    reader.push(Bytes::copy_from_slice(stream));
    let mut frames = std::iter::from_fn(|| reader.next_frame().unwrap());
    assert_eq!(frames.next().unwrap().tag, Tag::AuthSignature);
    let message = frames.find(|frame| frame.tag == Tag::Message).unwrap();
    let mut payload = BytesMut::new();
    for segment in &message.segments[1..] {
        payload.extend_from_slice(&segment.contiguous());
    }
    payload.to_vec()
}

#[test]
#[ignore = "needs tcpdump, and root"]
fn who_listens_learns_nothing() {
    let scratch = Scratch::new("secure");
    let key_log = scratch.file("secrets");

    // In crc mode everything can be seen, so that what follows is worth something.
    let [plain, _] = captured(&scratch, "crc");
    let (_, plain_rest) = frames_until(&plain, Tag::AuthRequestMore);
    let line = fs::read_to_string(&key_log).unwrap();
    assert!(line.split(' ').nth(3) == Some("crc") && line.trim_end().ends_with(" -"));
    let entity = 48_104_u64.to_le_bytes();
    assert!(contains(&plain_rest, &entity), "CLIENT_IDENT names us");
    fs::remove_file(&key_log).unwrap();

    let [from_client, from_server] = captured(&scratch, "secure");
    let line = fs::read_to_string(&key_log).unwrap();
    assert_eq!(line.lines().count(), 1, "one connection");
    let mode = fs::metadata(Path::new(&key_log)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let fields: Vec<_> = line.trim_end().split(' ').collect();
    assert_eq!((fields[0], fields[3]), ("MSGR2_SECRETS", "secure"));

    // The handshake: the name is in the request to log in, as cephx has it, and nowhere else.
    let (tags, behind_request) = frames_until(&from_client, Tag::AuthRequest);
    assert_eq!(tags, [Tag::Hello, Tag::AuthRequest]);
    let (tags, sealed) = frames_until(&from_client, Tag::AuthRequestMore);
    assert_eq!(tags, [Tag::Hello, Tag::AuthRequest, Tag::AuthRequestMore]);
    let (tags, answers) = frames_until(&from_server, Tag::AuthDone);
    assert_eq!(tags, [Tag::Hello, Tag::AuthReplyMore, Tag::AuthDone]);

    // With the secret, everything is there.
    let payload = first_payload(&sealed, fields[5], End::Acceptor);
    assert_eq!(payload.len(), 100 + 4096);
    let echoed = first_payload(&answers, fields[5], End::Connector);
    assert_eq!(payload, echoed);
    assert!(sealed.len() as u64 > COUNT * 4196 && answers.len() as u64 > COUNT * 4196);
    assert!(
        contains(&plain, &payload[100..132]),
        "the same as in crc mode"
    );

    // Without, nothing is.
    let secrets = [fields[4], fields[5]];
    for stream in [&behind_request, &from_server] {
        assert!(!contains(stream, b"48104"), "the name");
        assert!(!contains(stream, &RAW_KEY), "the key");
        for secret in secrets {
            let start = u64::from_str_radix(&secret[..16], 16).unwrap();
            assert!(!contains(stream, &start.to_be_bytes()), "a secret");
        }
    }
    for stream in [&sealed, &answers] {
        assert!(!contains(stream, &entity), "the entity");
        // Any eight bytes of the payload.
        for piece in payload.windows(8) {
            assert!(!contains(stream, piece), "payload");
        }
    }
}
