//! [`Output`]: what a connection transmits, read as its peer would.

use std::collections::VecDeque;

use bytes::BytesMut;
use msgr_protocol::frame::{FrameWriter, HeapBlocks, Layout, Limits, TxQueue};
use msgr_protocol::wire::{Control, Keepalive2, Keepalive2Ack, Tag};
use msgr_protocol::{Connection, FeaturePair, HEADER_LEN, Header, Message, Timestamp};

use super::layout::{self, Parsed, Start};

/// Bytes of answers that may wait, whatever a peer does that does not read them.
pub(super) const MAX_ANSWERS: usize = (1 << 20) + (4 << 10);

/// The control frames of one side's handshake in their order; those of one row may be repeated.
pub(super) type Order = &'static [&'static [Tag]];

pub(super) struct Output {
    /// What the banner must offer; `None` once it was seen.
    banner: Option<FeaturePair>,
    order: Order,
    /// How far in `order` we are.
    row: usize,
    handshake_frames: usize,
    last_seq: u64,
    last_ack: u64,
    /// Sent, but not seen yet.
    pub(super) messages: VecDeque<Message>,
    pub(super) keepalives: VecDeque<Timestamp>,
    /// Seen.
    pub(super) keepalive_acks: Vec<Timestamp>,
}

impl Output {
    pub(super) fn new(banner: FeaturePair, order: Order) -> Self {
        Self {
            banner: Some(banner),
            order,
            row: 0,
            handshake_frames: 0,
            last_seq: 0,
            last_ack: 0,
            messages: VecDeque::new(),
            keepalives: VecDeque::new(),
            keepalive_acks: Vec::new(),
        }
    }

    /// Whether the whole handshake was seen.
    pub(super) fn is_handshake_complete(&self) -> bool {
        self.row + 1 == self.order.len()
    }

    /// Has `connection` transmit, and checks every frame.
    pub(super) fn transmit(
        &mut self,
        connection: &mut Connection,
        layout: Layout,
        ready: bool,
        budget: usize,
    ) {
        let wire = transmit(connection, budget);
        let mut rest = &wire[..];
        if let Some(FeaturePair {
            supported,
            required,
        }) = self.banner.take_if(|_| !wire.is_empty())
        {
            let (banner, frames) = rest.split_at(26);
            let features = [supported.0.to_le_bytes(), required.0.to_le_bytes()];
            assert_eq!(banner[..10], *b"ceph v2\n\x10\0");
            assert_eq!(banner[10..], *features.as_flattened());
            rest = frames;
        }
        let (mut controls, mut last_message) = (0, 0);
        let mut local_keepalives = 0;
        while !rest.is_empty() {
            let Start::Frame(frame) = layout::parse(layout, &Limits::default(), rest) else {
                panic!("transmitted what is no frame");
            };
            rest = &rest[frame.wire.len()..];
            assert!(!frame.aborted);
            if frame.tag == Tag::Message {
                assert!(ready, "a message before the connection was ready");
                last_message = frame.wire.len();
                self.message(&frame);
                continue;
            }
            assert_eq!(last_message, 0, "control frames go first");
            controls += frame.wire.len();
            if frame.tag == Tag::Keepalive2 {
                local_keepalives += frame.wire.len();
            }
            self.control(&frame, ready);
        }
        assert!(controls - local_keepalives <= MAX_ANSWERS, "{controls}");
        assert!(last_message == 0 || wire.len() - last_message < budget);
    }

    fn message(&mut self, frame: &Parsed<'_>) {
        let wire = frame.segments[0].first_chunk::<HEADER_LEN>();
        let header = Header::decode(wire.expect("a whole header"));
        // The most urgent first; all priorities are among the strict ones.
        let waiting = self.messages.iter().enumerate().rev();
        let next = waiting.max_by_key(|(_, message)| message.header.priority);
        let next = next.map(|(at, _)| at).expect("nobody sent this");
        let sent = self.messages.remove(next).expect("it is one of them");
        self.last_seq += 1;
        assert!(header.ack_seq >= self.last_ack);
        self.last_ack = header.ack_seq;
        let expected = Header {
            seq: self.last_seq,
            ack_seq: header.ack_seq,
            ..sent.header
        };
        assert_eq!(header, expected);
        let payloads = [&sent.front, &sent.middle, &sent.data];
        let absent = [&[][..]; 3];
        let segments = frame.segments[1..].iter().chain(&absent);
        for (payload, segment) in payloads.into_iter().zip(segments) {
            assert_eq!(&*payload.contiguous(), *segment);
        }
    }

    fn control(&mut self, frame: &Parsed<'_>, ready: bool) {
        match frame.tag {
            Tag::Keepalive2 => {
                let Keepalive2 { stamp } = decode(frame);
                assert!(ready);
                assert_eq!(self.keepalives.pop_front(), Some(stamp));
            }
            Tag::Keepalive2Ack => {
                let Keepalive2Ack { stamp } = decode(frame);
                assert!(ready);
                self.keepalive_acks.push(stamp);
            }
            tag => {
                let mut rows = self.order.iter();
                let row = rows.position(|row| row.contains(&tag));
                let row = row.expect("not a frame of this side's handshake");
                let repeated = row == self.row && self.handshake_frames > 0;
                assert!(row >= self.row, "{tag} in the wrong order");
                assert!(!repeated || REPEATABLE.contains(&tag), "{tag} repeated");
                self.row = row;
                self.handshake_frames += 1;
            }
        }
    }
}

/// Refusals, after each of which a peer may try again.
const REPEATABLE: [Tag; 3] = [
    Tag::AuthBadMethod,
    Tag::IdentMissingFeatures,
    Tag::SessionReset,
];

fn decode<C: Control>(frame: &Parsed<'_>) -> C {
    C::decode(frame.segments[0]).expect("our own encoding")
}

/// Everything that `connection` has to transmit, up to its budget.
pub(super) fn transmit(connection: &mut Connection, budget: usize) -> Vec<u8> {
    let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
    let mut blocks = HeapBlocks;
    let mut writer = FrameWriter::new(1024, &mut block, &mut blocks, &mut queue);
    let wants = connection.wants_transmit();
    connection.transmit(&mut writer, budget);
    assert!(block.is_empty(), "laid out and not handed over");
    assert!(wants || queue.is_empty());
    queue.make_contiguous().concat()
}
