//! [`Link`]: a connector and an acceptor, and the bytes between them.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use msgr_protocol::auth::AuthError;
use msgr_protocol::{
    Cause, Config, Connection, EntityAddr, EntityType, Event, FrameWriter, HeapBlocks, Message,
    Opening, State, Timestamp, TxQueue,
};

/// The ends of a link, as indices.
pub(crate) const CONNECTOR: usize = 0;
pub(crate) const ACCEPTOR: usize = 1;

/// One end, and what it has told.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) messages: Vec<Message>,
    pub(crate) refused: Vec<AuthError>,
    pub(crate) acks: Vec<Timestamp>,
    pub(crate) ready: bool,
    pub(crate) error: Option<Cause>,
    /// All that it has sent.
    pub(crate) sent: Vec<u8>,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            messages: Vec::new(),
            refused: Vec::new(),
            acks: Vec::new(),
            ready: false,
            error: None,
            sent: Vec::new(),
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.connection.receive(Bytes::copy_from_slice(bytes));
        loop {
            match self.connection.poll() {
                Ok(None) => return,
                Ok(Some(Event::Ready)) => self.ready = true,
                Ok(Some(Event::Message)) => self.messages.push(self.connection.take_message()),
                Ok(Some(Event::AuthRefused(error))) => self.refused.push(*error),
                Ok(Some(Event::KeepaliveAck(stamp))) => self.acks.push(stamp),
                Ok(Some(other)) => panic!("lossy ends tell {other:?}"),
                Err(error) => {
                    assert_eq!(self.connection.state(), State::Closed);
                    self.error = Some(error.cause);
                    return;
                }
            }
        }
    }

    pub(crate) fn transmit(&mut self) -> Vec<u8> {
        let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
        let mut blocks = HeapBlocks;
        let mut writer = FrameWriter::new(usize::MAX, &mut block, &mut blocks, &mut queue);
        self.connection.transmit(&mut writer, usize::MAX);
        let bytes = queue.into_iter().flatten().collect::<Vec<u8>>();
        self.sent.extend_from_slice(&bytes);
        bytes
    }
}

/// Changes one bit of what an end sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flip {
    pub(crate) from: usize,
    /// The byte, counted from the first one sent.
    pub(crate) at: usize,
    pub(crate) bit: u8,
    /// Whether the checksum behind the segment that it is in is made right again.
    pub(crate) mended: bool,
}

impl Flip {
    pub(crate) fn new(from: usize, at: usize, bit: u8) -> Self {
        Self {
            from,
            at,
            bit,
            mended: false,
        }
    }

    /// Changes what is sent behind the first `before` bytes.
    fn apply(self, before: usize, bytes: &mut [u8]) {
        let Some(at) = self.at.checked_sub(before).filter(|at| *at < bytes.len()) else {
            return;
        };
        bytes[at] ^= 1 << self.bit;
        if self.mended {
            let mut start = if before == 0 { BANNER } else { 0 };
            let segment = loop {
                let segment = segment(&bytes[start..]);
                if start + segment.end > at {
                    break start + segment.start..start + segment.end;
                }
                start += segment.end + 4;
            };
            // msgr2 leaves out the last inversion that CRC-32C has.
            let crc = !crc32c::crc32c(&bytes[segment.clone()]);
            bytes[segment.end..segment.end + 4].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// The size of a banner in bytes.
pub(crate) const BANNER: usize = 26;

/// Where the segment of a control frame is.
pub(crate) fn segment(frame: &[u8]) -> Range<usize> {
    let len = u32::from_le_bytes(frame[2..6].try_into().unwrap());
    32..32 + len as usize
}

pub(crate) struct Link {
    pub(crate) ends: [End; 2],
    pub(crate) flip: Option<Flip>,
}

impl Link {
    pub(crate) fn new(connector: Config, acceptor: Config, target: EntityAddr) -> Self {
        let kind = acceptor.name.kind;
        Self::dial(connector, acceptor, target, kind)
    }

    fn dial(connector: Config, acceptor: Config, target: EntityAddr, kind: EntityType) -> Self {
        let here = "10.0.0.7:40000".parse().unwrap();
        let there = target.socket.unwrap();
        let opening = |cookie| Opening {
            global_seq: cookie,
            cookie,
        };
        let (connector, acceptor) = (Arc::new(connector), Arc::new(acceptor));
        Self {
            ends: [
                Connection::connect(connector, target, kind, (here, there), opening(1)),
                Connection::accept(acceptor, (there, here), opening(2)),
            ]
            .map(End::new),
            flip: None,
        }
    }

    /// Carries bytes until nobody has anything to say.
    pub(crate) fn run(&mut self) {
        while self.turn(CONNECTOR) | self.turn(ACCEPTOR) {}
    }

    fn turn(&mut self, from: usize) -> bool {
        let before = self.ends[from].sent.len();
        let mut bytes = self.ends[from].transmit();
        if let Some(flip) = self.flip.filter(|flip| flip.from == from) {
            flip.apply(before, &mut bytes);
        }
        // An end that has failed reads no more.
        if !bytes.is_empty() && self.ends[1 - from].error.is_none() {
            self.ends[1 - from].receive(&bytes);
        }
        !bytes.is_empty()
    }

    pub(crate) fn are_ready(&self) -> bool {
        self.ends
            .iter()
            .all(|end| end.ready && end.connection.state() == State::Ready)
    }
}
