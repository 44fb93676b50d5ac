//! Ceph's side channel: whatever a peer sends and in whatever pieces, it is read as the layout says,
//! and not for ever; and two ends understand each other however their bytes are cut.

use msgr_transport::rdma::side_channel::{Endpoint, Exchange, Heard, Message};

use super::input::Input;

/// Bytes to one end, then two ends with each other.
pub fn side_channel(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 3 {
        0 => decode(input.bytes(Message::LEN)),
        1 => listen(&mut input),
        _ => meet(&mut input),
    }
}

/// What is read is what is written, but for the case of digits.
fn decode(bytes: &[u8]) {
    let mut whole = [0; Message::LEN];
    whole[..bytes.len()].copy_from_slice(bytes);
    if let Ok(message) = Message::decode(&whole) {
        assert_eq!(
            message.encode(),
            whole.map(|byte| byte.to_ascii_lowercase())
        );
    }
}

/// One end hears anything at all, among it what makes sense.
fn listen(input: &mut Input<'_>) {
    let ours = endpoint(input);
    let mut end = Exchange::default();
    if input.u8() & 1 == 1 {
        end.speak(ours);
    }
    let (mut peer, mut confirmed) = (None, false);
    while !input.is_empty() {
        let message = Message {
            from: peer.unwrap_or_else(|| endpoint(input)),
            to: [0, ours.queue_pair, input.u32()][usize::from(input.u8() % 3)],
        };
        let bytes = match input.u8() % 2 {
            0 => input.string().to_vec(),
            _ => message.encode().to_vec(),
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let room = end.room();
            assert!((1..=Message::LEN).contains(&room.len()));
            let (some, more) = rest.split_at(rest.len().min(room.len()));
            room[..some.len()].copy_from_slice(some);
            rest = more;
            match end.fill(some.len()) {
                Ok(None) => {}
                Ok(Some(Heard::Peer(endpoint))) => {
                    assert!(peer.replace(endpoint).is_none() && !confirmed);
                    end.speak(ours);
                }
                Ok(Some(Heard::Confirmed)) => {
                    assert!(peer.is_some() && !confirmed);
                    confirmed = true;
                }
                Err(_) => return,
            }
        }
    }
}

/// Two ends, of which one or both connect, with their bytes cut anywhere.
fn meet(input: &mut Input<'_>) {
    let both = input.u8() & 1 == 1;
    let ours = [endpoint(input), endpoint(input)];
    let mut ends = [Exchange::default(), Exchange::default()];
    let mut sent = [Vec::new(), Vec::new()];
    sent[0].extend(ends[0].speak(ours[0]));
    if both {
        sent[1].extend(ends[1].speak(ours[1]));
    }
    let (mut known, mut confirmed) = ([false; 2], [false; 2]);
    while !(sent[0].is_empty() && sent[1].is_empty()) {
        let mut at = usize::from(input.u8() & 1);
        if sent[1 - at].is_empty() {
            at = 1 - at;
        }
        let room = ends[at].room();
        let some = (1 + usize::from(input.u8())).min(room.len());
        let some = some.min(sent[1 - at].len());
        let bytes: Vec<u8> = sent[1 - at].drain(..some).collect();
        room[..some].copy_from_slice(&bytes);
        match ends[at].fill(some).expect("the other end keeps to it") {
            None => {}
            Some(Heard::Peer(peer)) => {
                assert_eq!(peer, ours[1 - at]);
                known[at] = true;
                let message = ends[at].speak(ours[at]);
                sent[at].extend(message);
            }
            Some(Heard::Confirmed) => confirmed[at] = true,
        }
    }
    assert_eq!(known, [true; 2]);
    assert!(confirmed[1], "who accepts is told");
    assert!(!both || confirmed[0]);
}

/// An end that a device may have.
fn endpoint(input: &mut Input<'_>) -> Endpoint {
    let mut gid = [0; 16];
    for (to, from) in gid.iter_mut().zip(input.bytes(16)) {
        *to = *from;
    }
    Endpoint {
        lid: input.u16(),
        queue_pair: 1 + input.u32() % 0xff_ffff,
        psn: input.u32() & 0xff_ffff,
        gid,
    }
}
