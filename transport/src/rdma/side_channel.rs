//! The side channel: what two of Ceph's messengers tell each other over TCP to connect their queue
//! pairs (`ms_type=async+rdma`; `src/msg/async/rdma/Infiniband.cc`, `send_cm_meta`, `recv_cm_meta`).
//!
//! [`Message`] is the layout, [`Exchange`] the order: who connects says where its queue pair is, the
//! other one answers, and is told again. Nothing here touches a socket or a queue pair.

use std::ops::Range;

/// One end's queue pair, as the other end has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The port's local identifier; 0 over Ethernet.
    pub lid: u16,
    /// The queue pair's number, of 24 bits, not 0.
    pub queue_pair: u32,
    /// The number of the first packet that it sends, of 24 bits.
    pub psn: u32,
    /// The port's global identifier; over Ethernet an IPv6 address, or an IPv4 address mapped to one.
    pub gid: [u8; 16],
}

/// What one end tells the other: text of a fixed length, hexadecimal digits, which Ceph writes in
/// lower case, and a NUL.
///
/// | bytes | what |
/// |---|---|
/// | 4, `:` | the sender's LID |
/// | 8, `:` | the sender's queue pair |
/// | 8, `:` | the number of its first packet |
/// | 8, `:` | the receiver's queue pair, 0 as long as that is not known |
/// | 32, NUL | the sender's GID, its 16 bytes in order |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The sender's end.
    pub from: Endpoint,
    /// The receiver's queue pair; 0 is none.
    pub to: u32,
}

const LID: Range<usize> = 0..4;
const QUEUE_PAIR: Range<usize> = 5..13;
const PSN: Range<usize> = 14..22;
const TO: Range<usize> = 23..31;
const GID: Range<usize> = 32..64;
/// What ends each of them.
const ENDS: [(usize, u8); 5] = [
    (LID.end, b':'),
    (QUEUE_PAIR.end, b':'),
    (PSN.end, b':'),
    (TO.end, b':'),
    (GID.end, 0),
];
/// Numbers of queue pairs and packets have 24 bits.
const LARGEST: u32 = (1 << 24) - 1;

impl Message {
    /// Bytes of a message, the NUL at its end included.
    pub const LEN: usize = 65;

    /// As it is sent.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let Self { from, to } = self;
        let mut bytes = [0; Self::LEN];
        put(&mut bytes[LID], &from.lid.to_be_bytes());
        put(&mut bytes[QUEUE_PAIR], &from.queue_pair.to_be_bytes());
        put(&mut bytes[PSN], &from.psn.to_be_bytes());
        put(&mut bytes[TO], &to.to_be_bytes());
        put(&mut bytes[GID], &from.gid);
        for (at, end) in ENDS {
            bytes[at] = end;
        }
        bytes
    }

    /// Reads a message. Digits may be of either case.
    ///
    /// # Errors
    /// [`Malformed`], which says what is wrong.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, Malformed> {
        for (at, end) in ENDS {
            if bytes[at] != end {
                return Err(Malformed::Layout { at });
            }
        }
        let number = |range| Ok(u32::from_be_bytes(digits(bytes, range)?));
        let message = Self {
            from: Endpoint {
                lid: u16::from_be_bytes(digits(bytes, LID)?),
                queue_pair: number(QUEUE_PAIR)?,
                psn: number(PSN)?,
                gid: digits(bytes, GID)?,
            },
            to: number(TO)?,
        };
        if message.from.queue_pair == 0 {
            return Err(Malformed::NoQueuePair);
        }
        for number in [message.from.queue_pair, message.from.psn, message.to] {
            if number > LARGEST {
                return Err(Malformed::TooLarge(number));
            }
        }
        Ok(message)
    }
}

/// Writes two digits for each byte.
fn put(to: &mut [u8], bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for (pair, byte) in to.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Reads two digits for each byte.
fn digits<const N: usize>(
    bytes: &[u8; Message::LEN],
    range: Range<usize>,
) -> Result<[u8; N], Malformed> {
    let mut read = [0; N];
    for (at, byte) in range.step_by(2).zip(&mut read) {
        let digit = |at: usize| {
            let value = char::from(bytes[at]).to_digit(16);
            value.ok_or(Malformed::Layout { at })
        };
        *byte = (digit(at)? << 4 | digit(at + 1)?) as u8;
    }
    Ok(read)
}

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another character than there has to be.
    #[error("byte {at} is not what the layout has there")]
    Layout {
        /// Its place.
        at: usize,
    },
    /// A queue pair or a packet has a number that no device gives.
    #[error("{0:#x} has more than 24 bits")]
    TooLarge(u32),
    /// The sender has none.
    #[error("the peer names no queue pair")]
    NoQueuePair,
}

/// Why an exchange has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// What came is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The peer means another queue pair than ours.
    #[error("the peer answers to queue pair {0:#x}, which is not ours")]
    NotForUs(u32),
    /// The peer says something else than before.
    #[error("the peer confirms another end than it has named")]
    Changed,
    /// The peer has said all there is to say.
    #[error("the peer sends more than two messages")]
    Unasked,
}

/// What a message from the peer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Where its queue pair is. Ours can be connected to it; then the peer is to be told.
    Peer(Endpoint),
    /// It knows where ours is.
    Confirmed,
}

/// One end of an exchange, of whoever connects (who speaks first) or accepts (who listens first).
///
/// Two ends that connect to each other at the same time, by TCP's simultaneous open, both speak
/// first, and both confirm.
#[derive(Debug)]
pub struct Exchange {
    ours: Option<Endpoint>,
    peer: Option<Endpoint>,
    /// Whether the peer's next message is to repeat its first.
    unconfirmed: bool,
    bytes: [u8; Message::LEN],
    filled: usize,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            ours: None,
            peer: None,
            unconfirmed: false,
            bytes: [0; Message::LEN],
            filled: 0,
        }
    }
}

impl Exchange {
    /// The next message to the peer: where our queue pair is, and which one of the peer's we know.
    pub fn speak(&mut self, ours: Endpoint) -> [u8; Message::LEN] {
        self.ours = Some(ours);
        let to = self.peer.map_or(0, |peer| peer.queue_pair);
        Message { from: ours, to }.encode()
    }

    /// Where the peer's next bytes belong: the rest of a message, never nothing.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Takes note that so many bytes of [`room`](Self::room) were filled. Says what a message
    /// means, once it is there.
    ///
    /// # Errors
    /// [`ExchangeError`]: there is nothing more to say to this peer.
    pub fn fill(&mut self, count: usize) -> Result<Option<Heard>, ExchangeError> {
        if count > 0 && self.peer.is_some() && !self.unconfirmed {
            return Err(ExchangeError::Unasked);
        }
        self.filled = (self.filled + count).min(Message::LEN);
        if self.filled < Message::LEN {
            return Ok(None);
        }
        self.filled = 0;
        let Message { from, to } = Message::decode(&self.bytes)?;
        let ours = self.ours.map(|ours| ours.queue_pair);
        match self.peer {
            None if to == 0 || Some(to) == ours => {
                self.peer = Some(from);
                // One that knows of ours has nothing more to learn.
                self.unconfirmed = to == 0;
                Ok(Some(Heard::Peer(from)))
            }
            Some(peer) if Some(to) == ours => {
                if peer != from {
                    return Err(ExchangeError::Changed);
                }
                self.unconfirmed = false;
                Ok(Some(Heard::Confirmed))
            }
            _ => Err(ExchangeError::NotForUs(to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Ceph 16.2.15 has sent them: a monitor's client, the monitor, and the client again.
    const CEPH: [&[u8; Message::LEN]; 3] = [
        b"0000:00000013:00204a16:00000000:00000000000000000000ffff0a090001\0",
        b"0000:00000014:00204a16:00000013:00000000000000000000ffff0a090001\0",
        b"0000:00000013:00204a16:00000014:00000000000000000000ffff0a090001\0",
    ];
    const CLIENT: Endpoint = Endpoint {
        lid: 0,
        queue_pair: 0x13,
        psn: 0x20_4a16,
        gid: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 9, 0, 1],
    };
    const SERVER: Endpoint = Endpoint {
        queue_pair: 0x14,
        ..CLIENT
    };

    fn hear(exchange: &mut Exchange, bytes: &[u8]) -> Result<Option<Heard>, ExchangeError> {
        exchange.room()[..bytes.len()].copy_from_slice(bytes);
        exchange.fill(bytes.len())
    }

    #[test]
    fn messages_are_laid_out_as_ceph_does() {
        let messages = [(CLIENT, 0), (SERVER, 0x13), (CLIENT, 0x14)];
        for ((from, to), bytes) in messages.into_iter().zip(CEPH) {
            let message = Message { from, to };
            assert_eq!(message.encode(), *bytes);
            assert_eq!(Message::decode(bytes), Ok(message));
        }
        let every_field = Message {
            from: Endpoint {
                lid: 0x1a2b,
                queue_pair: 0xab_cdef,
                psn: 0x12_3456,
                gid: *b"\xfe\x80\x01\x23\x45\x67\x89\xab\xcd\xef\x10\x20\x30\x40\x50\x60",
            },
            to: 0x0f_0001,
        };
        let bytes = b"1a2b:00abcdef:00123456:000f0001:fe800123456789abcdef102030405060\0";
        assert_eq!(every_field.encode(), *bytes);
        assert_eq!(Message::decode(bytes), Ok(every_field));
        let upper = bytes.map(|byte| byte.to_ascii_uppercase());
        assert_eq!(Message::decode(&upper), Ok(every_field));
    }

    #[test]
    fn any_other_character_anywhere_is_malformed() {
        for at in 0..Message::LEN {
            for other in [b'g', b' ', b'-', b'+', b'x', 0xff] {
                let mut bytes = *CEPH[1];
                bytes[at] = other;
                assert_eq!(Message::decode(&bytes), Err(Malformed::Layout { at }));
            }
        }
    }

    #[test]
    fn numbers_that_no_device_gives_are_malformed() {
        for at in [QUEUE_PAIR, PSN, TO] {
            let mut bytes = *CEPH[1];
            bytes[at].copy_from_slice(b"01000000");
            let expected = Err(Malformed::TooLarge(0x100_0000));
            assert_eq!(Message::decode(&bytes), expected);
        }
        let mut bytes = *CEPH[1];
        bytes[QUEUE_PAIR].copy_from_slice(b"00000000");
        assert_eq!(Message::decode(&bytes), Err(Malformed::NoQueuePair));
    }

    #[test]
    fn either_end_says_what_ceph_says() {
        let (mut client, mut server) = (Exchange::default(), Exchange::default());
        assert_eq!(client.speak(CLIENT), *CEPH[0]);
        assert_eq!(hear(&mut server, CEPH[0]), Ok(Some(Heard::Peer(CLIENT))));
        assert_eq!(server.speak(SERVER), *CEPH[1]);
        assert_eq!(hear(&mut client, CEPH[1]), Ok(Some(Heard::Peer(SERVER))));
        assert_eq!(client.speak(CLIENT), *CEPH[2]);
        assert_eq!(hear(&mut server, CEPH[2]), Ok(Some(Heard::Confirmed)));
        for end in [&mut client, &mut server] {
            assert_eq!(hear(end, b"0"), Err(ExchangeError::Unasked));
        }
    }

    #[test]
    fn messages_may_come_in_pieces() {
        for at in 1..Message::LEN {
            let mut server = Exchange::default();
            let (head, tail) = CEPH[0].split_at(at);
            assert_eq!(hear(&mut server, head), Ok(None));
            assert_eq!(server.room().len(), tail.len());
            assert_eq!(hear(&mut server, tail), Ok(Some(Heard::Peer(CLIENT))));
        }
    }

    #[test]
    fn ends_that_connect_to_each_other_both_confirm() {
        let mut ends = [CLIENT, SERVER].map(|ours| (Exchange::default(), ours));
        let first = ends.each_mut().map(|(end, ours)| end.speak(*ours));
        for (at, (end, _)) in ends.iter_mut().enumerate() {
            let other = [SERVER, CLIENT][at];
            assert_eq!(hear(end, &first[1 - at]), Ok(Some(Heard::Peer(other))));
        }
        let again = ends.each_mut().map(|(end, ours)| end.speak(*ours));
        for (at, (end, _)) in ends.iter_mut().enumerate() {
            assert_eq!(hear(end, &again[1 - at]), Ok(Some(Heard::Confirmed)));
            assert_eq!(hear(end, b"0"), Err(ExchangeError::Unasked));
        }
    }

    #[test]
    fn what_is_not_meant_for_us_is_refused() {
        // An answer without a question, and one to another.
        let not_for_us = Err(ExchangeError::NotForUs(0x13));
        assert_eq!(hear(&mut Exchange::default(), CEPH[1]), not_for_us);
        let mut client = Exchange::default();
        client.speak(SERVER);
        assert_eq!(hear(&mut client, CEPH[1]), not_for_us);

        let accepted = || {
            let mut server = Exchange::default();
            hear(&mut server, CEPH[0]).expect("a request");
            server.speak(SERVER);
            server
        };
        assert_eq!(
            hear(&mut accepted(), CEPH[0]),
            Err(ExchangeError::NotForUs(0))
        );
        let mut changed = *CEPH[2];
        changed[PSN].copy_from_slice(b"00000001");
        assert_eq!(hear(&mut accepted(), &changed), Err(ExchangeError::Changed));
    }
}
