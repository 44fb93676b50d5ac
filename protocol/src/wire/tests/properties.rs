//! What holds for any value and any bytes.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use bytes::Bytes;
use proptest::prelude::*;

use super::{again, recorded, written};
use crate::wire::*;

pub(in crate::wire) fn any_socket() -> impl Strategy<Value = Option<SocketAddr>> {
    let scoped = |(ip, port, flowinfo, scope): (IpAddr, u16, u32, u32)| match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, flowinfo, scope).into(),
    };
    proptest::option::of(any::<(IpAddr, u16, u32, u32)>().prop_map(scoped))
}

pub(in crate::wire) fn any_addr() -> impl Strategy<Value = EntityAddr> {
    let kind = prop::sample::select(vec![
        AddrType::None,
        AddrType::Legacy,
        AddrType::Msgr2,
        AddrType::Any,
        AddrType::Cidr,
    ]);
    (kind, any::<u32>(), any_socket()).prop_map(|(kind, nonce, socket)| EntityAddr {
        kind,
        nonce,
        socket,
    })
}

fn any_addrs(least: usize) -> impl Strategy<Value = EntityAddrVec> {
    prop::collection::vec(any_addr(), least..=16).prop_map(EntityAddrVec::from_iter)
}

fn any_entity_type() -> impl Strategy<Value = EntityType> {
    prop::sample::select(vec![
        EntityType::Mon,
        EntityType::Mds,
        EntityType::Osd,
        EntityType::Client,
        EntityType::Mgr,
        EntityType::Auth,
    ])
}

fn any_list() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..=64)
}

fn any_blob() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1000)
}

fn any_tag() -> impl Strategy<Value = Tag> {
    let control = |tag: &Tag| *tag != Tag::Message;
    prop::sample::select(Tag::ALL.iter().copied().filter(control).collect::<Vec<_>>())
}

/// What can be parsed has one encoding, which means the same.
fn parses_soundly(tag: Tag, payload: &[u8]) {
    if let Ok(encoded) = again(tag, payload) {
        assert_eq!(again(tag, &encoded).as_ref(), Ok(&encoded), "{tag}");
    }
}

fn survives<C: Control + PartialEq + Debug>(value: &C) {
    let encoded = written(|out| value.encode(out));
    assert_eq!(C::decode(&encoded).as_ref(), Ok(value));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(
        tag in any_tag(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        parses_soundly(tag, &payload);
    }

    #[test]
    fn real_frames_with_wrong_bytes_are_parsed_or_refused(
        (tag, mut payload) in prop::sample::select(recorded()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        parses_soundly(tag, &payload);
    }

    #[test]
    fn idents_survive(
        addrs in any_addrs(1),
        target in any_addr(),
        gid: i64,
        [global_seq, supported, required, flags, cookie]: [u64; 5],
    ) {
        let (supported, required) = (Features(supported), Features(required));
        let server = ServerIdent {
            addrs: addrs.clone(), gid, global_seq, supported, required, flags, cookie,
        };
        survives(&server);
        survives(&ClientIdent {
            addrs, target, gid, global_seq, supported, required, flags, cookie,
        });
    }

    #[test]
    fn reconnects_survive(
        addrs in any_addrs(1),
        [client_cookie, server_cookie, global_seq, connect_seq, msg_seq]: [u64; 5],
    ) {
        survives(&SessionReconnect {
            addrs, client_cookie, server_cookie, global_seq, connect_seq, msg_seq,
        });
    }

    #[test]
    fn hellos_survive(entity_type in any_entity_type(), peer_addr in any_addr()) {
        survives(&Hello { entity_type, peer_addr });
    }

    #[test]
    fn auth_frames_survive(
        [method, con_mode]: [u32; 2],
        result: i32,
        global_id: u64,
        (allowed_methods, allowed_modes) in (any_list(), any_list()),
        payload in any_blob(),
        signature: [u8; 32],
    ) {
        let payload = Bytes::from(payload);
        survives(&AuthRequest {
            method, preferred_modes: allowed_modes.clone(), payload: payload.clone(),
        });
        survives(&AuthBadMethod { method, result, allowed_methods, allowed_modes });
        survives(&AuthReplyMore(payload.clone()));
        survives(&AuthRequestMore(payload.clone()));
        survives(&AuthDone { global_id, con_mode, payload });
        survives(&AuthSignature(signature));
    }

    #[test]
    fn small_frames_survive(number: u64, full: bool, sec: u32, nsec: u32) {
        let stamp = Timestamp { sec, nsec };
        survives(&IdentMissingFeatures { features: Features(number) });
        survives(&SessionReset { full });
        survives(&SessionRetry { connect_seq: number });
        survives(&SessionRetryGlobal { global_seq: number });
        survives(&SessionReconnectOk { msg_seq: number });
        survives(&Wait);
        survives(&Keepalive2 { stamp });
        survives(&Keepalive2Ack { stamp });
        survives(&Ack { seq: number });
    }

    #[test]
    fn compression_frames_survive(
        is_compress: bool,
        method: u32,
        preferred_methods in any_list(),
    ) {
        survives(&CompressionRequest { is_compress, preferred_methods });
        survives(&CompressionDone { is_compress, method });
    }
}
