//! Who changes one bit on its way, anywhere in the handshake or behind it, in either direction.

use std::collections::BTreeSet;
use std::ops::Range;

use msgr_protocol::wire::Tag;
use msgr_protocol::{Message, Mode, Timestamp};

use crate::cast::{Cast, osd_addr};
use crate::link::{ACCEPTOR, BANNER, CONNECTOR, Flip, Link, segment};
use crate::services::with_ticket;

fn message(n: u8) -> Message {
    let mut message = Message::new(9);
    message.header.tid = n.into();
    message.front = vec![n; 20 * usize::from(n)].into();
    message.middle = vec![n; 3 * usize::from(n / 2)].into();
    message.data = vec![n; 90].into();
    message
}

/// A connection to a service, three messages each way, and a question. Everything that is drawn by
/// chance is the same each time.
fn play(mode: Mode, flip: Option<Flip>) -> Link {
    let cast = Cast::new();
    let (client, osd) = with_ticket(&cast, mode);
    let mut link = Link::new(client, osd, osd_addr());
    link.flip = flip;
    link.run();
    if link.are_ready() {
        for n in 1..=3 {
            for end in &mut link.ends {
                end.connection.send(message(n)).unwrap();
            }
        }
        let stamp = Timestamp { sec: 7, nsec: 8 };
        link.ends[CONNECTOR].connection.keepalive(stamp);
        link.run();
    }
    link
}

/// Nothing but what was sent has arrived, in order, and nobody is let in who is not.
fn check(link: &Link, flip: Flip) {
    for end in &link.ends {
        for (received, n) in end.messages.iter().zip(1..) {
            let sent = message(n);
            assert_eq!(received.header.tid, sent.header.tid, "{flip:?}");
            for (received, sent) in [
                (&received.front, &sent.front),
                (&received.middle, &sent.middle),
                (&received.data, &sent.data),
            ] {
                assert_eq!(received.contiguous(), sent.contiguous(), "{flip:?}");
            }
        }
    }
}

/// Whether somebody has noticed: there is an error, or the peer was not let in. Where the banner
/// claims to be longer, both ends wait for what never comes, until their time is up.
fn is_noticed(link: &Link, flip: Flip) -> bool {
    let in_banner_length = (8..10).contains(&flip.at);
    let waits = in_banner_length && link.ends.iter().all(|end| !end.ready);
    let mut ends = link.ends.iter();
    waits || ends.any(|end| end.error.is_some() || !end.refused.is_empty())
}

/// Flips every bit of the first bytes, and one of each byte behind them; returns the bits that made
/// no difference to anybody, as the offset behind the start of the stream and a mask.
fn unnoticed(mode: Mode, from: usize) -> BTreeSet<(usize, u8)> {
    const HANDSHAKE: usize = 900;
    let whole = play(mode, None);
    assert!(whole.are_ready() && whole.ends.iter().all(|end| end.messages.len() == 3));
    let mut unnoticed = BTreeSet::new();
    for at in 0..whole.ends[from].sent.len() {
        let bits = if at < HANDSHAKE { 0..8 } else { 0..0 };
        for bit in bits.chain([(at % 8) as u8]) {
            let flip = Flip::new(from, at, bit);
            let link = play(mode, Some(flip));
            check(&link, flip);
            if !is_noticed(&link, flip) {
                assert!(
                    link.ends.iter().all(|end| end.messages.len() == 3),
                    "{flip:?}"
                );
                unnoticed.insert((at, bit));
            }
        }
    }
    unnoticed
}

#[test]
fn in_secure_mode_every_bit_counts() {
    for from in [CONNECTOR, ACCEPTOR] {
        assert_eq!(unnoticed(Mode::Secure, from), BTreeSet::new());
    }
}

/// The high half of the late status of a frame with several segments is reserved, and outside of
/// its checksums.
#[test]
fn in_crc_mode_every_bit_counts_but_four() {
    for from in [CONNECTOR, ACCEPTOR] {
        let whole = play(Mode::Crc, None);
        let sent = &whole.ends[from].sent;
        let unnoticed = unnoticed(Mode::Crc, from);
        assert!(!unnoticed.is_empty());
        for (at, bit) in unnoticed {
            assert!(bit >= 4, "{at} {bit}");
            // The epilogue: the status and three checksums, of which the last is that of the data.
            assert_eq!(sent[at], 0x0e, "{at}");
        }
    }
}

/// Who knows how to make a checksum right again gets past it, and not past the signatures.
#[test]
fn a_handshake_with_mended_checksums_is_noticed() {
    for mode in [Mode::Crc, Mode::Secure] {
        for from in [CONNECTOR, ACCEPTOR] {
            let whole = play(mode, None);
            let mut tried = 0;
            for frame in control_frames(&whole.ends[from].sent[BANNER..]) {
                for at in frame {
                    let at = BANNER + at;
                    let bit = (at % 8) as u8;
                    let flip = Flip {
                        mended: true,
                        ..Flip::new(from, at, bit)
                    };
                    let link = play(mode, Some(flip));
                    check(&link, flip);
                    assert!(is_noticed(&link, flip), "{mode} {flip:?}");
                    tried += 1;
                }
            }
            assert!(tried > 100, "{tried}");
        }
    }
}

/// Where the segments of the frames are until the one by which authentication ends.
fn control_frames(stream: &[u8]) -> Vec<Range<usize>> {
    const LAST: [u8; 2] = [Tag::AuthRequestMore as u8, Tag::AuthDone as u8];
    let mut frames = Vec::new();
    let mut at = 0;
    loop {
        let segment = segment(&stream[at..]);
        frames.push(at + segment.start..at + segment.end);
        if LAST.contains(&stream[at]) {
            return frames;
        }
        at += segment.end + 4;
    }
}
