//! What two real OSDs compressed on its way to each other, by each algorithm, among frames that
//! were too small for it.

use bytes::Bytes;
use msgr_protocol::compression::Algorithm;
use msgr_protocol::frame::{Frame, FrameError, FrameReader, PREAMBLE_LEN, Preamble};
use msgr_protocol::wire::{CompressionDone, CompressionRequest, Tag};
use msgr_protocol::{Limits, Payload, State};

use super::replay::{Session, expected, play, transmitted};
use super::{BANNER, REV1, find, frames, stream};

/// The captured connections, and by what their frames may be compressed.
const CONNECTIONS: [(&str, Option<Algorithm>); 5] = [
    ("osd-crc-snappy.4", Some(Algorithm::Snappy)),
    ("osd-crc-zlib.4", Some(Algorithm::Zlib)),
    ("osd-crc-zstd.5", Some(Algorithm::Zstd)),
    ("osd-crc-lz4.2", Some(Algorithm::Lz4)),
    // A client, which OSDs do not compress for.
    ("osd-crc-snappy.6", None),
];

/// The names of all streams, and by what their frames may be compressed.
pub(super) fn streams() -> impl Iterator<Item = (String, Option<Algorithm>)> {
    CONNECTIONS.into_iter().flat_map(|(name, algorithm)| {
        ["client", "server"].map(|side| (format!("{name}.{side}"), algorithm))
    })
}

/// The preambles of a stream, in order, and where the frames begin.
fn preambles(stream: &[u8]) -> Vec<(usize, Preamble)> {
    let mut found = Vec::new();
    let mut at = BANNER.len();
    while at < stream.len() {
        let wire = stream[at..].first_chunk::<PREAMBLE_LEN>().unwrap();
        let preamble = Preamble::decode(wire, &Limits::default()).unwrap();
        found.push((at, preamble));
        at += preamble.frame_len(REV1.revision);
    }
    assert_eq!(at, stream.len());
    found
}

#[test]
fn what_ceph_compressed() {
    let mut counts = Vec::new();
    for (name, algorithm) in streams() {
        let stream = stream(&name);
        let (preambles, frames) = (preambles(&stream), frames(&stream));
        assert_eq!(preambles.len(), frames.len());
        let compressed = preambles.iter().zip(&frames);
        let compressed: Vec<_> = compressed.filter(|((_, p), _)| p.is_compressed()).collect();
        counts.push((frames.len(), compressed.len()));
        assert!(algorithm.is_some() || compressed.is_empty());
        for ((_, preamble), frame) in compressed {
            assert_eq!(frame.tag, Tag::Message);
            let lens = frame.segments.each_ref().map(Payload::len);
            // A message's header has one size; only frames of 1 KiB and more are compressed.
            assert_eq!(lens[0], 41, "{name}");
            let (len, wire) = (lens.iter().sum::<usize>(), preamble.segments());
            assert!(len >= 1024 && wire.iter().map(|s| s.len as usize).sum::<usize>() < len);
            // What is empty stays so.
            for (len, wire) in lens.iter().zip(wire) {
                assert_eq!(*len == 0, wire.len == 0);
            }
        }
    }
    let expected = [
        (20, 2),
        (22, 6),
        (21, 7),
        (17, 3),
        (20, 7),
        (16, 3),
        (22, 6),
        (18, 3),
        (6, 0),
        (6, 0),
    ];
    assert_eq!(counts, expected);
}

/// The same object, once as an OSD sent it to a client, uncompressed, and four times within what one
/// OSD sent to the other to have it written there.
#[test]
fn what_was_compressed_comes_back() {
    let plain = frames(&stream("osd-crc-snappy.6.server"));
    let object = plain.last().unwrap().segments[3].contiguous();
    assert_eq!(object.len(), 3001);
    for (name, algorithm) in CONNECTIONS {
        if algorithm.is_some() {
            let both = ["client", "server"].map(|side| frames(&stream(&format!("{name}.{side}"))));
            let holds = |frame: &&Frame| {
                let data = frame.segments[3].contiguous();
                data.windows(object.len()).any(|window| *window == *object)
            };
            assert_eq!(both.iter().flatten().filter(holds).count(), 1, "{name}");
        }
    }
}

#[test]
fn connections_agree_with_ceph_and_take_in_what_it_compressed() {
    for (name, algorithm) in CONNECTIONS {
        let session = Session::new(name);
        for size in [1, 41, 1000, usize::MAX] {
            let mut connector = session.connector();
            let told = play(&mut connector, &session.server, size).unwrap();
            assert_eq!(
                told,
                expected(&session.server),
                "{name} in pieces of {size}"
            );
            let mut acceptor = session.acceptor();
            let told = play(&mut acceptor, &session.client, size).unwrap();
            assert_eq!(
                told,
                expected(&session.client),
                "{name} in pieces of {size}"
            );
            for end in [&connector, &acceptor] {
                assert_eq!(end.state(), State::Ready);
                assert_eq!(end.peer().compression, algorithm);
            }
            let request: CompressionRequest = find(&transmitted(&mut connector));
            assert_eq!(request, find(&session.client));
            let done: CompressionDone = find(&transmitted(&mut acceptor));
            assert_eq!(done.is_compress, algorithm.is_some());
        }
    }
}

/// Who has not agreed to anything, or to another algorithm, takes nothing for what it is not.
#[test]
fn the_wrong_algorithm_decompresses_nothing() {
    for (name, algorithm) in streams() {
        let stream = stream(&name);
        let preambles = preambles(&stream);
        let first = preambles.iter().find(|(_, p)| p.is_compressed());
        let Some((at, _)) = first else {
            continue;
        };
        for other in [None].into_iter().chain(Algorithm::ALL.map(Some)) {
            if other == algorithm {
                continue;
            }
            let mut reader = FrameReader::new(REV1, Limits::default());
            if let Some(other) = other {
                reader.decompress(other);
            }
            reader.push(Bytes::copy_from_slice(&stream[*at..]));
            let error = reader.next_frame().unwrap_err();
            match other {
                None => assert_eq!(error, FrameError::Compressed),
                Some(_) => {
                    assert!(matches!(
                        error,
                        FrameError::Decompression { segment: 0, .. }
                    ));
                }
            }
        }
    }
}
