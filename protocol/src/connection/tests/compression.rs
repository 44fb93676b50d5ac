//! Compression, from the banners to the messages: who agrees on what, and what then goes over.

use std::mem;

use bytes::BytesMut;

use super::pair::{Chop, Pair};
use super::peers::{A, B, Peers};
use super::script::{
    End, Told, asks, banner, client_config, connector, feed, frame, numbered, raw_frame,
    server_config, server_ident, sound, transmitted,
};
use super::sessions::{LOSSLESS, cuts, heal, is_complete, send_one_more};
use crate::compression::{Algorithm, CompressionError, Compressor};
use crate::config::{CompressionConfig, Config, PerPeer};
use crate::connection::{Connection, Event, State};
use crate::error::{Cause, Malformed, PeerMisbehaved};
use crate::frame::{
    Assembler, FrameError, FrameWriter, HeapBlocks, Layout, Limits, PREAMBLE_LEN, Preamble,
    Revision, TxQueue,
};
use crate::message::Message;
use crate::payload::Payload;
use crate::wire::{
    AuthSignature, CompressionDone, CompressionRequest, EntityType, Features, Tag, features,
};

use Algorithm::{Lz4, Snappy, Zlib, Zstd};

const FLAGS: usize = 26;

fn compressing(mut config: Config, algorithms: &[Algorithm]) -> Config {
    config.compression.algorithms = PerPeer::new(algorithms.to_vec());
    config
}

fn pair(client: &[Algorithm], server: &[Algorithm]) -> Pair {
    Pair::ready(
        compressing(client_config(), client),
        compressing(server_config(), server),
    )
}

/// What both ends of a pair say that they agreed on.
fn agreed(pair: &Pair) -> Option<Algorithm> {
    let [client, server] =
        [&pair.client, &pair.server].map(|side| side.connection.peer().compression);
    assert_eq!(client, server);
    client
}

/// Text, as long as it is asked for.
fn message(len: usize) -> Message {
    let mut message = numbered(0);
    message.front = b"front"[..].into();
    let words = b"sheep ".iter().copied().cycle();
    message.data = words.take(len).collect::<Vec<u8>>().into();
    message
}

fn lengths(message: &Message) -> [usize; 3] {
    [&message.front, &message.middle, &message.data].map(Payload::len)
}

#[test]
fn messages_are_compressed_both_ways() {
    for algorithm in Algorithm::ALL {
        for chop in [Chop::WHOLE, Chop::Every(1), Chop::Every(1000)] {
            let mut pair = pair(&[algorithm], &[algorithm]);
            assert_eq!(agreed(&pair), Some(algorithm));
            let lens = [5000, 10, 977, 978, 0, 200_000, 1];
            for side in [&mut pair.client, &mut pair.server] {
                for len in lens {
                    side.connection.send(message(len)).unwrap();
                }
            }
            let sent = pair.settle(chop);
            assert!(sent.iter().all(|wire| wire.len() < 20_000));
            for side in [&mut pair.client, &mut pair.server] {
                let Told { events, messages } = mem::take(&mut side.events);
                assert_eq!(events, vec![Event::Message; lens.len()]);
                for (received, len) in messages.into_iter().zip(lens) {
                    assert_eq!(received.data, message(len).data);
                    assert_eq!(received.front, message(len).front);
                }
            }
        }
    }
}

#[test]
fn only_frames_of_the_least_size_are() {
    for (min_size, len, compressed) in [
        (1024, 1024 - 41 - 5, 1),
        (1024, 1024 - 41 - 5 - 1, 0),
        (5000, 4000, 0),
        (0, 100, 1),
    ] {
        let mut client = compressing(client_config(), &[Zstd]);
        client.compression.min_size = min_size;
        let mut pair = Pair::ready(client, compressing(server_config(), &[Zstd]));
        pair.client.connection.send(message(len)).unwrap();
        let wire = transmitted(&mut pair.client.connection);
        assert_eq!(wire[FLAGS], compressed, "{len} bytes of {min_size}");
    }
}

#[test]
fn the_connectors_preference_counts() {
    for (client, server, expected) in [
        (&[Zlib, Snappy][..], &[Snappy, Zlib][..], Some(Zlib)),
        (&[Lz4, Zstd, Snappy], &[Snappy, Zstd], Some(Zstd)),
        (&[Lz4], &[Snappy, Zstd], None),
        (&[Lz4], &[], None),
        (&[], &[Lz4], None),
        (&[], &[], None),
    ] {
        let mut pair = pair(client, server);
        assert_eq!(agreed(&pair), expected, "{client:?} {server:?}");
        pair.client.connection.send(message(5000)).unwrap();
        let [wire, _] = pair.settle(Chop::WHOLE);
        assert_eq!(wire[FLAGS], u8::from(expected.is_some()));
        let [received] = &pair.server.events.messages[..] else {
            panic!("{:?}", pair.server.events);
        };
        assert_eq!(lengths(received), [5, 0, 5000]);
    }
}

#[test]
fn it_depends_on_what_the_peer_is() {
    let osds = |mut config: Config| {
        let algorithms = PerPeer::new(vec![]).with(EntityType::Osd, vec![Snappy]);
        config.compression.algorithms = algorithms;
        config
    };
    // The client's peer is an OSD, the server's is not: one of them does not want to.
    let pair = Pair::ready(osds(client_config()), osds(server_config()));
    assert_eq!(agreed(&pair), None);
    let mut client = osds(client_config());
    client.name.kind = EntityType::Osd;
    let pair = Pair::ready(client, osds(server_config()));
    assert_eq!(agreed(&pair), Some(Snappy));
}

/// One round trip more, which both are spared unless both banners offer it.
#[test]
fn the_exchange_takes_place_if_both_banners_offer_it() {
    for (client, server, flights) in [
        (&[Snappy][..], &[Lz4][..], 8),
        (&[], &[Lz4], 6),
        (&[Snappy], &[], 6),
        (&[], &[], 6),
    ] {
        let mut pair = Pair::new(
            compressing(client_config(), client),
            compressing(server_config(), server),
        );
        let mut count = 0;
        while pair.flight(Chop::WHOLE).iter().any(|sent| !sent.is_empty()) {
            count += 1;
        }
        for side in [&pair.client, &pair.server] {
            assert_eq!(side.connection.state(), State::Ready);
        }
        assert_eq!(count, flights, "{client:?} {server:?}");
    }
}

#[test]
fn banners_offer_what_is_configured() {
    for (algorithms, offered) in [(&[][..], 1), (&[Zlib], 3)] {
        let mut connection = connector(compressing(client_config(), algorithms));
        let expected = banner(Features(offered), Features(0));
        assert_eq!(transmitted(&mut connection), expected);
    }
}

/// A connection that waits for the peer's word on compression.
fn asking(end: End, algorithms: &[Algorithm]) -> Connection {
    let mut connection = end.connection(compressing(end.config(), algorithms));
    let both = Features(features::REVISION_1.0 | features::COMPRESSION.0);
    let answer = match end {
        End::Connector => Tag::AuthDone,
        End::Acceptor => Tag::AuthRequest,
    };
    let mut script = banner(both, Features(0));
    for tag in [Tag::Hello, answer, Tag::AuthSignature] {
        script.extend(raw_frame(Revision::Rev1, tag, &end.sound(tag)));
    }
    feed(&mut connection, &script).unwrap();
    connection
}

#[test]
fn what_a_connector_asks_for() {
    // Even who does not want to at the moment says so.
    let mut unwilling = compressing(client_config(), &[]);
    let elsewhere = PerPeer::new(vec![]).with(EntityType::Mds, vec![Lz4]);
    unwilling.compression.algorithms = elsewhere;
    for (config, is_compress, preferred_methods) in [
        (
            compressing(client_config(), &[Zstd, Snappy]),
            true,
            vec![3, 1],
        ),
        (unwilling, false, vec![]),
    ] {
        let mut connection = connector(config);
        let both = Features(features::REVISION_1.0 | features::COMPRESSION.0);
        let mut script = banner(both, Features(0));
        for tag in [Tag::Hello, Tag::AuthDone] {
            let segment = End::Connector.sound(tag);
            script.extend(raw_frame(Revision::Rev1, tag, &segment));
        }
        feed(&mut connection, &script).unwrap();
        transmitted(&mut connection);
        feed(&mut connection, &frame(&AuthSignature([0; 32]))).unwrap();
        assert_eq!(connection.state(), State::CompressionConnecting);
        let request = CompressionRequest {
            is_compress,
            preferred_methods,
        };
        assert_eq!(transmitted(&mut connection), frame(&request));
    }
}

#[test]
fn what_an_acceptor_answers() {
    for (is_compress, preferred_methods, method) in [
        (true, vec![4, 2, 1], 2),
        (true, vec![1, 2], 1),
        (true, vec![5, 77, 1], 1),
        (true, vec![3, 4, 0], 0),
        (true, vec![], 0),
        (false, vec![1, 2, 3, 4], 0),
    ] {
        let mut connection = asking(End::Acceptor, &[Snappy, Zlib]);
        assert_eq!(connection.state(), State::CompressionAccepting);
        transmitted(&mut connection);
        let request = CompressionRequest {
            is_compress,
            preferred_methods,
        };
        feed(&mut connection, &frame(&request)).unwrap();
        let done = CompressionDone {
            is_compress: method > 0,
            method,
        };
        assert_eq!(transmitted(&mut connection), frame(&done));
        assert_eq!(connection.state(), State::SessionAccepting);
        assert_eq!(
            connection.peer().compression,
            Algorithm::from_id(method),
            "{request:?}"
        );
    }
}

#[test]
fn an_answer_that_was_not_asked_for() {
    for method in [0, 1, 5, 77] {
        let wire = frame(&CompressionDone {
            is_compress: true,
            method,
        });
        End::Connector.refuses(
            || asking(End::Connector, &[Zstd, Lz4]),
            &wire,
            PeerMisbehaved::UnofferedCompression(method),
            &format!("compression algorithm {method}, which was not offered"),
        );
    }
}

#[test]
fn ends_of_different_minds_do_not_compress() {
    let mut config = client_config();
    let elsewhere = PerPeer::new(vec![]).with(EntityType::Mds, vec![Lz4]);
    config.compression.algorithms = elsewhere;
    for (config, is_compress) in [
        (config, true),
        (compressing(client_config(), &[Lz4]), false),
    ] {
        let mut connection = connector(config);
        let both = Features(features::REVISION_1.0 | features::COMPRESSION.0);
        let mut script = banner(both, Features(0));
        for tag in [Tag::Hello, Tag::AuthDone, Tag::AuthSignature] {
            let segment = End::Connector.sound(tag);
            script.extend(raw_frame(Revision::Rev1, tag, &segment));
        }
        feed(&mut connection, &script).unwrap();
        let method = Lz4 as u32;
        let done = CompressionDone {
            is_compress,
            method,
        };
        feed(&mut connection, &frame(&done)).unwrap();
        feed(&mut connection, &frame(&server_ident())).unwrap();
        assert_eq!(connection.state(), State::Ready);
        assert_eq!(connection.peer().compression, None);
    }
}

#[test]
fn nothing_else_may_come_instead() {
    for (end, state, legal) in [
        (
            End::Connector,
            State::CompressionConnecting,
            Tag::CompressionDone,
        ),
        (
            End::Acceptor,
            State::CompressionAccepting,
            Tag::CompressionRequest,
        ),
    ] {
        assert_eq!(state.expects(), [legal]);
        for tag in Tag::ALL.iter().filter(|tag| **tag != legal) {
            let wire = raw_frame(Revision::Rev1, *tag, &sound(*tag));
            let unexpected = PeerMisbehaved::UnexpectedFrame(*tag);
            let text = format!("unexpected {tag} frame");
            end.refuses(|| asking(end, &[Lz4]), &wire, unexpected, &text);
        }
    }
}

/// The message's frame as if its segments were these, compressed already.
fn claimed(segments: [Vec<u8>; 4]) -> Vec<u8> {
    let [first, rest @ ..] = segments;
    let [front, middle, data] = &rest.map(Into::into);
    let layout = Layout {
        revision: Revision::Rev1,
        data_crc: true,
    };
    let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
    let mut writer = FrameWriter::new(usize::MAX, &mut block, &mut blocks, &mut queue);
    let assembler = &mut Assembler::from(layout);
    writer.frame(assembler, Tag::Message, &first, [front, middle, data]);
    writer.finish();
    let mut wire = queue.make_contiguous().concat();
    wire[FLAGS] = 1;
    let crc = crate::crc::crc32c(crate::crc::PREAMBLE, &wire[..28]);
    wire[28..PREAMBLE_LEN].copy_from_slice(&crc.to_le_bytes());
    wire
}

fn compressed(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(algorithm)
        .compress(bytes, &mut out)
        .unwrap();
    out
}

#[test]
fn a_compressed_frame_that_was_not_agreed_on() {
    let header = compressed(Snappy, &sound(Tag::Message));
    let wire = claimed([header, vec![], vec![], vec![]]);
    for end in End::BOTH {
        let cause = Malformed::from(FrameError::Compressed);
        let text = "bad frame: compressed, though compression was not negotiated";
        end.refuses(
            || end.reach(State::Ready),
            &wire[..PREAMBLE_LEN],
            cause,
            text,
        );
    }
}

#[test]
fn bombs_end_the_connection() {
    for algorithm in Algorithm::ALL {
        let header = compressed(algorithm, &sound(Tag::Message));
        let mut config = compressing(server_config(), &[algorithm]);
        config.limits.data = 1 << 20;
        let mut pair = Pair::ready(compressing(client_config(), &[algorithm]), config);
        let fits = compressed(algorithm, &vec![0; 1 << 20]);
        let bomb = compressed(algorithm, &vec![0; (1 << 20) + 1]);
        let server = &mut pair.server.connection;
        let told = feed(server, &claimed([header.clone(), vec![], vec![], fits])).unwrap();
        assert_eq!(told.len(), 1);
        let error = feed(server, &claimed([header, vec![], vec![], bomb])).unwrap_err();
        let too_long = FrameError::Decompression {
            segment: 3,
            error: CompressionError::TooLong { limit: 1 << 20 },
        };
        assert_eq!(error.cause, Cause::from(Malformed::from(too_long)));
    }
}

/// Once for the bytes that are to be received, and once for those that they become.
#[test]
fn a_compressed_message_is_admitted_twice() {
    for algorithm in Algorithm::ALL {
        let mut pair = pair(&[algorithm], &[algorithm]);
        let client = &mut pair.client.connection;
        client.send(message(50_000)).unwrap();
        client.send(message(10)).unwrap();
        let wire = transmitted(client);
        let preamble = Preamble::decode(wire.first_chunk().unwrap(), &Limits::default()).unwrap();
        let received: u32 = preamble.segments()[1..].iter().map(|s| s.len).sum();
        let len = preamble.frame_len(Revision::Rev1);

        let server = &mut pair.server.connection;
        server.receive(wire[..100].to_vec().into());
        for _ in 0..2 {
            assert_eq!(asks(server, 0), (vec![received as usize], None));
        }
        assert_eq!(asks(server, 1), (vec![received as usize], None));
        server.receive(wire[100..len - 1].to_vec().into());
        assert_eq!(asks(server, 0), (vec![], None));
        server.receive(wire[len - 1..].to_vec().into());
        for _ in 0..2 {
            assert_eq!(asks(server, 0), (vec![50_005], None));
        }
        let told = Some(Event::Message);
        assert_eq!(asks(server, 1), (vec![50_005], told.clone()));
        assert_eq!(lengths(&server.take_message()), [5, 0, 50_000]);
        // A plain one behind it is asked for once again.
        assert_eq!(asks(server, 1), (vec![15], told));
        assert_eq!(asks(server, 0), (vec![], None));
    }
}

/// Both nodes have these, and compress whatever gets smaller.
fn peers(policies: [crate::policy::Policy; 2], algorithms: &[Algorithm]) -> Peers {
    let mut peers = Peers::new(policies);
    for node in &mut peers.nodes {
        node.config.compression = CompressionConfig {
            algorithms: PerPeer::new(algorithms.to_vec()),
            min_size: 0,
            under_secure: false,
        };
    }
    peers
}

#[test]
fn compressed_streams_are_cut_anywhere() {
    cuts(
        |policies| {
            let mut peers = peers(policies, &[Lz4]);
            let stream = peers.dial(A);
            (peers, stream)
        },
        7,
    );
}

#[test]
fn each_stream_of_a_session_agrees_anew() {
    for policies in LOSSLESS {
        let mut peers = peers(policies, &[Snappy, Zstd]);
        peers.nodes[B].config.compression.algorithms = PerPeer::new(vec![Snappy]);
        let stream = peers.dial(A);
        peers.settle();
        let chosen = |peers: &Peers| [A, B].map(|at| peers.nodes[at].session().peer().compression);
        assert_eq!(chosen(&peers), [Some(Snappy); 2]);
        send_one_more(&mut peers);
        for algorithms in [vec![Zstd], vec![]] {
            let expected = algorithms.first().copied();
            peers.nodes[B].config.compression.algorithms = PerPeer::new(algorithms);
            let stream = peers.nodes[A].on.unwrap_or(stream);
            peers.cut(stream);
            heal(&mut peers, A);
            assert_eq!(chosen(&peers), [expected; 2]);
            is_complete(&peers, "another stream");
        }
    }
}
