//! [`Tcb`] in virtual time, without devices: against another, and against peers made by hand. Here: what
//! takes the place of an endpoint, and such a peer.

mod arriving;
mod ending;
mod expected;
mod hostile;
mod opening;
mod receiving;
mod sending;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::super::config::TcpConfig;
use super::super::segment::{Ends, Header, Options, Segment, flags};
use super::super::time::Time;
use super::{Ended, Tcb};
use crate::TxQueue;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A segment as it is between two ends, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packet {
    segment: Segment,
    options: Options,
    bytes: Vec<u8>,
}

impl Packet {
    /// As the peer gets it.
    fn new(header: &Header, bytes: &[u8]) -> Self {
        let headers = header.write(bytes.len());
        let packet = [headers.bytes(), bytes].concat();
        let segment = Segment::peek(&packet).expect("a segment");
        Self {
            segment,
            options: segment.options(&packet),
            bytes: packet[segment.payload(0..packet.len())].to_vec(),
        }
    }

    /// The same header in front of only some of the bytes.
    fn part(&self, from: usize, up_to: usize) -> Self {
        let is_last = up_to == self.bytes.len();
        let Segment {
            ends,
            seq,
            ack,
            window,
            flags,
            ..
        } = self.segment;
        let header = Header {
            ends: swapped(ends),
            flags: if is_last { flags } else { flags & !flags::FIN },
            seq: seq.wrapping_add(from as u32),
            ack,
            window,
            options: self.options,
        };
        Self::new(&header, &self.bytes[from..up_to])
    }
}

fn swapped(ends: Ends) -> Ends {
    Ends {
        local: ends.remote,
        remote: ends.local,
    }
}

/// The two ends of a connection, as the one with this number sees them.
fn ends_of(index: usize) -> Ends {
    let ends = Ends {
        local: SocketAddr::from(([10, 0, 0, 1], 1000)),
        remote: SocketAddr::from(([10, 0, 0, 2], 2000)),
    };
    if index == 0 { ends } else { swapped(ends) }
}

/// A connection, and what an endpoint would do for it.
struct End {
    tcb: Tcb,
    config: TcpConfig,
    /// How many bytes a device would cut into segments.
    most: u32,
    /// What has arrived, and how much of it nobody has looked at.
    received: Vec<u8>,
    unread: usize,
    /// Whether what arrives is looked at by itself.
    reads: bool,
}

impl End {
    fn new(tcb: Tcb) -> Self {
        let mut config = TcpConfig::new(tcb.ends.local.ip(), 24);
        config.window = tcb.window;
        Self {
            tcb,
            config,
            most: 0,
            received: Vec::new(),
            unread: 0,
            reads: true,
        }
    }

    /// Queues bytes, as many as there is room for; they may leave. Returns how many.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut queue = TxQueue::from([Bytes::copy_from_slice(bytes)]);
        let ours = self.tcb.queue().expect("the peer's SYN has come");
        let taken = ours.take(&mut queue);
        ours.flush();
        taken
    }

    /// Looks at so many of the bytes that have arrived.
    fn read(&mut self, bytes: usize) {
        self.unread -= bytes;
        self.tcb.on_read(bytes);
    }

    /// Takes a segment in. Returns what is answered at once.
    fn take(&mut self, packet: &Packet, now: Time) -> Option<Packet> {
        let Packet {
            segment,
            options,
            bytes,
        } = packet;
        let (received, unread) = (&mut self.received, &mut self.unread);
        let deliver = |bytes: &[u8]| {
            received.extend_from_slice(bytes);
            *unread += bytes.len();
        };
        let answer = self
            .tcb
            .on_segment(segment, (options, bytes), &self.config, now, deliver);
        if self.reads && self.unread > 0 {
            self.read(self.unread);
        }
        answer.map(|header| Packet::new(&header, &[]))
    }

    /// Ends a turn: what is due is done, and what may leave leaves.
    fn turn(&mut self, now: Time) -> Vec<Packet> {
        let reset = self.tcb.on_timer(&self.config, now);
        let mut packets: Vec<Packet> = reset
            .map(|header| Packet::new(&header, &[]))
            .into_iter()
            .collect();
        packets.extend(self.send(now));
        self.tcb.arm(now);
        packets
    }

    /// What may leave.
    fn send(&mut self, now: Time) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(output) = self.tcb.output(self.most, now) {
            let header = self.tcb.header(&output);
            let mut bytes = Vec::new();
            if output.len > 0 {
                let queue = self.tcb.queue().expect("there are bytes");
                queue.read(output.offset, output.len, |piece| {
                    bytes.extend_from_slice(piece);
                });
            }
            let whole = Packet::new(&header, &bytes);
            let mss = usize::from(self.tcb.mss());
            let cuts = (0..bytes.len().max(1)).step_by(mss);
            packets.extend(cuts.map(|from| whole.part(from, bytes.len().min(from + mss))));
            self.tcb.on_sent(&output, now);
            assert!(packets.len() < 100_000, "it never stops");
        }
        packets
    }

    fn due(&self) -> Option<Time> {
        self.tcb.due(&self.config)
    }

    fn is_over(&self) -> bool {
        self.tcb.ended().is_some()
    }
}

/// The numbers of our SYN and of the peer's. Tests count from there.
const OURS: u32 = 5000;
const THEIRS: u32 = 9000;
const MSS: u16 = 1000;
/// So much that windows are scaled, by 2.
const WINDOW: usize = 100_000;
const SYN_OPTIONS: Options = Options {
    mss: Some(MSS),
    window_scale: Some(0),
    sack_permitted: true,
    sacks: [None; 4],
};

/// What a peer made by hand says. Its bytes are those of `pattern`.
#[derive(Debug, Clone, Copy)]
struct Says {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    len: usize,
    options: Options,
}

/// Nothing, after a handshake.
const SAYS: Says = Says {
    seq: 1,
    ack: 1,
    flags: flags::ACK,
    window: 60_000,
    len: 0,
    options: Options {
        mss: None,
        window_scale: None,
        sack_permitted: false,
        sacks: [None; 4],
    },
};

/// Bytes that are known by where they are: the first has the number 1.
fn pattern(from: u32, len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (from.wrapping_add(at) % 1_000_000 * 7 / 5) as u8)
        .collect()
}

fn says_syn(options: Options) -> Says {
    Says {
        seq: 0,
        ack: 0,
        flags: flags::SYN,
        options,
        ..SAYS
    }
}

fn says_syn_ack(options: Options) -> Says {
    Says {
        seq: 0,
        flags: flags::SYN | flags::ACK,
        options,
        ..SAYS
    }
}

/// An acknowledgement with such ranges.
fn acks(ack: u32, sacks: &[(u32, u32)]) -> Says {
    let mut says = Says { ack, ..SAYS };
    for (sack, (from, up_to)) in says.options.sacks.iter_mut().zip(sacks) {
        *sack = Some((OURS.wrapping_add(*from), OURS.wrapping_add(*up_to)));
    }
    says
}

/// Bytes.
fn sends(seq: u32, len: usize) -> Says {
    Says { seq, len, ..SAYS }
}

impl Says {
    fn packet(&self) -> Packet {
        let header = Header {
            ends: ends_of(1),
            flags: self.flags,
            seq: THEIRS.wrapping_add(self.seq),
            ack: if self.flags & flags::ACK == 0 {
                0
            } else {
                OURS.wrapping_add(self.ack)
            },
            window: self.window,
            options: self.options,
        };
        Packet::new(&header, &pattern(self.seq, self.len))
    }
}

/// A segment of ours: its flags, SEQ, ACK and length.
type Heard = (u8, u32, u32, usize);

fn heard(packet: &Packet) -> Heard {
    let Segment {
        flags, seq, ack, ..
    } = packet.segment;
    let has_ack = flags & flags::ACK != 0;
    let ack = if has_ack {
        ack.wrapping_sub(THEIRS)
    } else {
        ack
    };
    (flags, seq.wrapping_sub(OURS), ack, packet.bytes.len())
}

/// What of it says which bytes it has.
fn ranges(packets: &[Packet]) -> Vec<(u32, usize)> {
    let bytes = packets.iter().filter(|packet| !packet.bytes.is_empty());
    bytes
        .map(heard)
        .map(|(_, seq, _, len)| (seq, len))
        .collect()
}

/// What a segment of ours says has arrived behind gaps.
fn sacks(packet: &Packet) -> Vec<(u32, u32)> {
    let sacks = packet.options.sacks.iter().flatten();
    sacks
        .map(|(from, up_to)| (from.wrapping_sub(THEIRS), up_to.wrapping_sub(THEIRS)))
        .collect()
}

/// A connection whose peer is made by hand.
struct Made {
    end: End,
    now: Time,
}

impl Made {
    /// One that asks. Nothing has been sent yet.
    fn connecting() -> Self {
        let now = Time::default();
        let end = End::new(Tcb::connect(ends_of(0), OURS, MSS, WINDOW, now));
        Self { end, now }
    }

    /// One that is asked.
    fn asked(options: Options) -> Self {
        Self::asked_with(options, WINDOW)
    }

    fn asked_with(options: Options, window: usize) -> Self {
        let now = Time::default();
        let Packet {
            segment, options, ..
        } = says_syn(options).packet();
        let end = End::new(Tcb::accept((&segment, &options), OURS, MSS, window, now));
        Self { end, now }
    }

    /// One that is established.
    fn connected() -> Self {
        Self::connected_with(SYN_OPTIONS, WINDOW)
    }

    fn connected_with(options: Options, window: usize) -> Self {
        let mut made = Self::asked_with(options, window);
        assert_eq!(made.turn().len(), 1);
        made.now += MILLISECOND;
        assert_eq!(made.hears(SAYS), []);
        assert!(made.end.tcb.is_synchronized());
        made
    }

    fn turn(&mut self) -> Vec<Packet> {
        self.end.turn(self.now)
    }

    /// Takes a segment in. What is answered, and sent at the end of the turn.
    fn hears_all(&mut self, says: &[Says]) -> Vec<Packet> {
        let answers = says
            .iter()
            .filter_map(|says| self.end.take(&says.packet(), self.now));
        let mut packets: Vec<Packet> = answers.collect();
        packets.extend(self.turn());
        packets
    }

    fn hears(&mut self, says: Says) -> Vec<Heard> {
        self.hears_all(&[says]).iter().map(heard).collect()
    }

    /// Queues so many bytes. What leaves at once.
    fn writes(&mut self, len: usize) -> Vec<Packet> {
        assert_eq!(self.end.write(&vec![1; len]), len);
        self.turn()
    }

    /// Lets time pass, as long as nothing is sent and it is not over. What is sent then, and after
    /// how long.
    fn waits(&mut self) -> (Duration, Vec<Packet>) {
        let start = self.now;
        for _ in 0..1000 {
            let Some(due) = self.end.due() else { break };
            assert!(due > self.now || self.now == start, "due again and again");
            self.now = self.now.max(due);
            let packets = self.turn();
            if !packets.is_empty() || self.end.is_over() {
                return (self.now.since(start), packets);
            }
        }
        (self.now.since(start), Vec::new())
    }

    fn ended(&self) -> Option<Ended> {
        self.end.tcb.ended()
    }
}

const ACK: u8 = flags::ACK;
const SYN: u8 = flags::SYN;
const FIN: u8 = flags::FIN;
const RST: u8 = flags::RST;
