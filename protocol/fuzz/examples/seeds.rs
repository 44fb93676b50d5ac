//! Writes the inputs that fuzzing starts from into `seeds/TARGET/` below the directory given:
//! real Ceph sessions, whole handshakes, and one of every value.
//!
//! `cargo +nightly run --example seeds -- DIRECTORY`

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use bytes::Bytes;
use msgr_protocol::compression::{Algorithm, Compressor};
use msgr_protocol::frame::{FrameReader, Layout, Limits, Revision};
use msgr_protocol::wire::Tag;

const BANNER_LEN: usize = 26;
/// First byte of `acceptor` and `connector`: frames that the input describes.
const DESCRIBED: u8 = 8;
/// A banner that offers revision 1 and requires nothing; the operations that follow.
const BANNER: u8 = 0;
const HANDSHAKE: u8 = 3;

#[derive(Default)]
struct Seeds(BTreeMap<&'static str, Vec<Vec<u8>>>);

impl Seeds {
    fn add(&mut self, target: &'static str, parts: &[&[u8]]) {
        self.0.entry(target).or_default().push(parts.concat());
    }
}

fn main() {
    let directory = env::args().nth(1).expect("where to write to");
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut seeds = Seeds::default();
    for entry in fs::read_dir(vectors).expect("the captures") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let digits = fs::read_to_string(&path).expect("readable");
            let is_client = path.to_string_lossy().contains(".client.");
            capture(&mut seeds, &unhex(&digits), is_client);
        }
    }
    texts(&mut seeds);
    values(&mut seeds);
    described(&mut seeds);
    compressed(&mut seeds);
    for (target, inputs) in seeds.0 {
        let directory = Path::new(&directory).join(target);
        fs::create_dir_all(&directory).expect("writable");
        for (i, input) in inputs.iter().enumerate() {
            fs::write(directory.join(format!("seed-{i:03}")), input).expect("writable");
        }
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits = digits.replace(char::is_whitespace, "");
    let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).expect("digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// One direction of a real session: whole, as frames, and each payload.
fn capture(seeds: &mut Seeds, stream: &[u8], is_client: bool) {
    let frames = &stream[BANNER_LEN..];
    if is_client {
        seeds.add("acceptor", &[&[0, 0], stream]);
        seeds.add("acceptor", &[&[16, 2, 9, 200], stream]);
    } else {
        seeds.add("connector", &[&[0, 0], stream]);
        seeds.add("connector", &[&[32, 1, 0], stream]);
    }
    seeds.add("frames", &[&[0, 2, 9, 200], frames]);
    let layout = Layout {
        revision: Revision::Rev1,
        data_crc: true,
    };
    let mut reader = FrameReader::new(layout, Limits::default());
    reader.push(Bytes::copy_from_slice(frames));
    // What is compressed is for the target `compression`.
    while let Ok(Some(frame)) = reader.next_frame() {
        let first = frame.segments[0].contiguous();
        seeds.add("wire", &[&[frame.tag as u8], &first]);
        match frame.tag {
            // Addresses begin behind the entity type.
            Tag::Hello => seeds.add("wire", &[&[24], &first[1..]]),
            Tag::ClientIdent | Tag::ServerIdent => seeds.add("wire", &[&[25], &first]),
            // A name lies between method, modes, length, auth mode, and the global id.
            Tag::AuthRequest if first.len() == 38 => {
                seeds.add("wire", &[&[27], &first[17..]]);
            }
            _ => {}
        }
    }
}

fn texts(seeds: &mut Seeds) {
    for text in [
        "-",
        "[]",
        "v2:127.0.0.1:6800/123",
        "127.0.0.1:3300",
        "v1:1.2.3.4:6789/0",
        "any:10.0.0.1:0/4294967295",
        "cidr:192.168.0.0:0/24",
        "v2:[::1]:6800/0",
        "[fe80::1%3]:6800/7",
        "v2:[fe80::1:2%4294967295]:65535/1",
        "v2:/5",
        "[v2:127.0.0.1:3300/0,v1:127.0.0.1:6789/0]",
        "[-,v2:[::]:1/1]",
        "[[::1]:1,[::2]:2/3]",
        "osd.0",
        "client.admin",
        "mon.?",
        "mgr.9223372036854775807",
        "client.a.b-c",
        "mds",
        "auth",
        "lossy-client",
        "stateless-server",
        // What must be refused.
        "none:1.2.3.4:5/6",
        "[-,-,-,-,-,-,-,-,-,-,-,-,-,-,-,-,-]",
        "osd.-1",
        "client.",
    ] {
        seeds.add("text", &[text.as_bytes()]);
    }
    for len in [256, 257] {
        seeds.add("text", &[b"client.", &b"x".repeat(len)]);
    }
}

/// What no capture has.
fn values(seeds: &mut Seeds) {
    let legacy = [
        &[0, 0, 0, 0, 5, 0, 0, 0, 0, 2, 0x1a, 0x85, 1, 2, 3, 4][..],
        &[0; 120],
    ]
    .concat();
    let v6 = [
        &b"\x01\x01\x01\x28\0\0\0\x02\0\0\0\x04\0\0\0\x1c\0\0\0\x0a\0\x1a\x90\0\x0a\xbc\xde"[..],
        &[
            0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 3, 0, 0, 0,
        ],
    ]
    .concat();
    for addr in [&legacy, &v6] {
        seeds.add("wire", &[&[24], addr]);
        seeds.add("wire", &[&[25], addr]);
        seeds.add("wire", &[&[25, 2, 2, 0, 0, 0], addr, addr]);
        seeds.add("wire", &[&[Tag::SessionReconnect as u8], addr, &[7; 40]]);
    }
    seeds.add("wire", &[&[25, 2, 0, 0, 0, 0]]);
    seeds.add("wire", &[&[26, 4, 3, 0, 0, 0, 0, 0, 0, 0]]);
    seeds.add("wire", &[&[27, 8, 0, 0, 0, 5, 0, 0, 0], b"admin"]);
    for tag in Tag::ALL {
        seeds.add("wire", &[&[*tag as u8], &[0; 64]]);
        seeds.add("wire", &[&[*tag as u8, 1], &[1, 0, 0, 0].repeat(24)]);
    }
}

fn described(seeds: &mut Seeds) {
    for layout in [0, 1, 2, 3, 4, 7] {
        for link in [0, 16, 32, 48] {
            // Sizes of pieces, then frames: all segments, some, a control frame, a forged preamble,
            // a damaged byte.
            let head = [8 | layout | link, 1, 12];
            seeds.add("frames", &[&head, &[0x03, 41, 10, 0, 30, 0x01, 41, 100]]);
            seeds.add("frames", &[&head, &[0x0c, 20, 8, 0x08, 41, 0x0c, 16, 0]]);
            seeds.add("frames", &[&head, &[0x13, 41, 10, 0, 30, 26, 1]]);
            seeds.add("frames", &[&head, &[0x23, 41, 255, 7, 30, 119, 0, 15]]);
        }
        for target in ["acceptor", "connector"] {
            let head = [DESCRIBED | layout, 1, 40, BANNER, HANDSHAKE];
            let message = [8, 10, 0, 30];
            let rest = [0, 1, 2, 3, 1, 7, 0, 9, 0, 10, 5, 0, 6, 9, 255, 1, 1, 1];
            seeds.add(target, &[&head, &message, &message, &rest, &[2, 100]]);
            seeds.add(
                target,
                &[&head, &[11, 10, 11, 11, 11, 12, 11, 15, 11, 16, 11, 17]],
            );
        }
    }
    // Every template in every state: as it is, then the one that would be right; with a wrong field.
    for target in ["acceptor", "connector"] {
        for (template, before) in (0..18).flat_map(|t| (0..4).map(move |before| (t, before))) {
            let head = [DESCRIBED, 1, 31, BANNER];
            let legal: Vec<_> = (0..before).flat_map(|i| [11, i]).collect();
            seeds.add(target, &[&head, &legal, &[11, template, 11, before]]);
            seeds.add(target, &[&head, &legal, &[5, template, 1, 0, 0x40]]);
        }
    }
    // A session that is not ours, features that are too few, and signs of life, of which the answers
    // stay unread.
    let head = [DESCRIBED | 16, 0, BANNER];
    for template in [9, 7] {
        let flood = [11, 0, 11, 1, 11, 2, 4, template, 255, 255];
        seeds.add("flood", &[&[0], &head, &flood]);
    }
    seeds.add("flood", &[&[0], &head, &[HANDSHAKE, 4, 10, 255, 255]]);
    seeds.add("flood", &[&[1], &head, &[HANDSHAKE, 4, 15, 255, 255]]);
    // The same when they are read.
    let head = [DESCRIBED, 0, BANNER];
    seeds.add("flood", &[&[0], &head, &[HANDSHAKE, 4, 10, 0, 96]]);
    for choices in [0, 1, 0x10, 0x11, 0xf0, 0xf1] {
        // The slices' size, the pieces', then frames: all segments, some, a control frame; a forged
        // preamble, a late status, a damaged byte, and bytes that nobody sealed.
        let head = [choices, 9, 1, 12];
        let sound = [0x03, 41, 10, 0, 30, 0x01, 60, 100, 0x0c, 8, 0x00, 0];
        seeds.add("secure", &[&head, &sound, &[0x03, 255, 255, 255, 255]]);
        seeds.add("secure", &[&head, &sound, &[0x23, 41, 10, 0, 30, 2, 40]]);
        seeds.add("secure", &[&head, &[0x43, 41, 10, 0, 30, 1], &sound]);
        seeds.add("secure", &[&head, &sound, &[0x63, 41, 10, 0, 30, 99, 0, 1]]);
        seeds.add("secure", &[&head, &sound, &[0x80, 0], &[7; 200]]);
    }
    for choices in 0..32 {
        let head = [choices, 1, 3, 2, 100, 5];
        // Before the handshake, in its middle, and when it is over.
        let send = [0, 10, 20, 30, 1, 1, 2, 255];
        let exchange = [4, 220, 6, 5, 220, 7];
        let keepalive = [2, 1, 0, 2, 0, 3, 3, 0, 4, 0];
        let parts: [&[u8]; 6] = [&head, &send, &exchange, &keepalive, &exchange, &send];
        seeds.add("pair", &parts);
        seeds.add(
            "pair",
            &[&head, &exchange.repeat(6), &send, &keepalive, &exchange],
        );
    }
}

/// First bytes of `compression`: the algorithm, the use, the limit or whether it is on.
fn compressed(seeds: &mut Seeds) {
    let text = b"osd.0 writes object 00031 of pool 7\n".repeat(20);
    for (choice, algorithm) in (0..).zip(Algorithm::ALL) {
        let mut out = Vec::new();
        let done = Compressor::new(algorithm).compress(&text, &mut out);
        done.expect("not that many");
        for limit in 0..4 {
            seeds.add("compression", &[&[choice | limit << 4], &out]);
        }
        seeds.add("compression", &[&[choice | 4, 30, 0, 4, 1, 5], &text]);
        let frames = [5, 40, 3, 1, 2, 3, 220, 90, 6, 40, 0, 0, 255];
        for on in [0, 0x40] {
            let head = [choice | 8 | on, on >> 6, 100, 2, 50, 200];
            seeds.add("compression", &[&head, &frames, &frames]);
        }
        let len = out.len() as u8;
        seeds.add(
            "compression",
            &[&[choice | 12, 0, 0x23, len], &out, &[1, 5, 9]],
        );
        seeds.add("compression", &[&[choice | 12, 1, 0x03, 60, 60, 60, 255]]);
    }
}
