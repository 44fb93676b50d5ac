//! [`Script`]: what the fuzzer has a peer send, and what it has us do meanwhile.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use msgr_protocol::frame::{Layout, Revision};
use msgr_protocol::wire::{Control, Tag, features};
use msgr_protocol::{Config, Features, Header, Message, Payload, State, Timestamp};

use super::input::{Input, filler};
use super::layout;

/// What we do, besides receiving.
pub(super) enum Action {
    Send(Box<Message>),
    Keepalive(Timestamp),
    Transmit { budget: usize },
}

/// A control frame as a well-behaved peer sends it.
pub(super) struct Template {
    pub(super) tag: Tag,
    pub(super) payload: Vec<u8>,
    /// Where it leads a connection that may receive it; `None` if it depends.
    pub(super) leads_to: Option<State>,
}

impl Template {
    pub(super) fn new<C: Control>(frame: &C, leads_to: impl Into<Option<State>>) -> Self {
        let mut payload = BytesMut::new();
        frame.encode(&mut payload);
        Self {
            tag: C::TAG,
            payload: payload.to_vec(),
            leads_to: leads_to.into(),
        }
    }
}

/// All bytes that the peer sends, and what we do when so many of them have come.
#[derive(Default)]
pub(super) struct Script {
    pub(super) stream: Bytes,
    pub(super) actions: Vec<(usize, Action)>,
}

impl Script {
    /// Bytes as they are; two messages are waiting for the connection to become ready.
    pub(super) fn raw(input: &mut Input<'_>) -> Self {
        let message = || Action::Send(message(&mut Input::new(&[1, 2, 3])).into());
        Self {
            stream: Bytes::copy_from_slice(input.rest()),
            actions: vec![(0, message()), (0, message())],
        }
    }

    /// A banner, then one operation per byte and its operands.
    pub(super) fn described(
        config: &Config,
        templates: &[Template],
        handshake: Range<usize>,
        most: usize,
        input: &mut Input<'_>,
    ) -> Self {
        let mut stream = Vec::new();
        let theirs = banner(input, &mut stream);
        let revision = if config.banner.supported.0 & theirs.0 & features::REVISION_1.0 == 0 {
            Revision::Rev0
        } else {
            Revision::Rev1
        };
        let mut peer = ScriptedPeer {
            layout: Layout {
                revision,
                data_crc: config.data_crc,
            },
            templates,
            stream,
            last_seq: 0,
            most,
        };
        let mut actions = Vec::new();
        while !input.is_empty() && peer.stream.len() < peer.most {
            let action = match input.u8() % 12 {
                0 => Action::Send(message(input).into()),
                1 => Action::Keepalive(stamp(input)),
                2 => Action::Transmit {
                    budget: input.len() * 16,
                },
                3 => {
                    for template in &templates[handshake.clone()] {
                        peer.frame(template.tag, template.payload.clone());
                    }
                    continue;
                }
                operation => {
                    peer.operation(operation, input);
                    continue;
                }
            };
            actions.push((peer.stream.len(), action));
        }
        Self {
            stream: peer.stream.into(),
            actions,
        }
    }
}

/// Appends a banner, which may be damaged, and returns the features that it should offer.
fn banner(input: &mut Input<'_>, stream: &mut Vec<u8>) -> Features {
    let kind = input.u8();
    let supported = if kind & 1 == 0 {
        features::REVISION_1
    } else {
        Features::default()
    };
    let required = if kind & 2 == 0 {
        Features::default()
    } else {
        features::REVISION_1
    };
    let more = if kind & 4 == 0 { 0 } else { input.u8() };
    stream.put_slice(b"ceph v2\n");
    stream.put_u16_le(16 + u16::from(more));
    stream.put_u64_le(supported.0);
    stream.put_u64_le(required.0);
    stream.put_bytes(0xee, more.into());
    if kind & 8 != 0 {
        let at = usize::from(input.u8()) % stream.len();
        stream[at] ^= input.u8();
    }
    supported
}

struct ScriptedPeer<'a> {
    layout: Layout,
    templates: &'a [Template],
    stream: Vec<u8>,
    last_seq: u64,
    most: usize,
}

impl ScriptedPeer<'_> {
    fn operation(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation {
            // A template, many times.
            4 => {
                let (tag, payload) = self.template(input);
                let wire = layout::lay_out(self.layout, tag as u8, &[payload]);
                for _ in 0..input.u16() {
                    if self.stream.len() >= self.most {
                        break;
                    }
                    self.stream.extend(&wire);
                }
            }
            // With a wrong field.
            5 => {
                let (tag, mut payload) = self.template(input);
                change(&mut payload, input);
                self.frame(tag, payload);
            }
            // Damaged on its way.
            6 => {
                let (tag, payload) = self.template(input);
                let start = self.stream.len();
                self.frame(tag, payload);
                change(&mut self.stream[start..], input);
            }
            // Any frame.
            7 => {
                let tag = input.u8();
                let len = input.u8();
                let payload = input.bytes(len.into()).to_vec();
                let wire = layout::lay_out(self.layout, tag, &[payload]);
                self.stream.extend(wire);
            }
            8 => self.message(input, 0),
            // A message that is late, or comes too early.
            9 => {
                let distance = input.u8().cast_signed();
                self.message(input, distance.into());
            }
            // An aborted message; only a frame with an epilogue can be.
            10 => {
                let start = self.stream.len();
                self.message(input, 0);
                let frame = &mut self.stream[start..];
                let epilogue = match (self.layout.revision, frame[1]) {
                    (Revision::Rev0, _) => 17,
                    (Revision::Rev1, 1) => return,
                    (Revision::Rev1, _) => 13,
                };
                let status = frame.len() - epilogue;
                frame[status] = 1;
            }
            _ => {
                let (tag, payload) = self.template(input);
                self.frame(tag, payload);
            }
        }
    }

    fn template(&self, input: &mut Input<'_>) -> (Tag, Vec<u8>) {
        let template = &self.templates[usize::from(input.u8()) % self.templates.len()];
        (template.tag, template.payload.clone())
    }

    fn frame(&mut self, tag: Tag, payload: Vec<u8>) {
        let wire = layout::lay_out(self.layout, tag as u8, &[payload]);
        self.stream.extend(wire);
    }

    fn message(&mut self, input: &mut Input<'_>, distance: i64) {
        let seq = if distance == 0 {
            self.last_seq += 1;
            self.last_seq
        } else {
            self.last_seq.wrapping_add_signed(distance)
        };
        let mut message = message(input);
        message.header.seq = seq;
        let segments = [
            Payload::from(message.header.encode().to_vec()),
            message.front,
            message.middle,
            message.data,
        ];
        let mut segments: Vec<_> = segments
            .iter()
            .map(|segment| segment.contiguous().into_owned())
            .collect();
        while segments.last().is_some_and(Vec::is_empty) {
            segments.pop();
        }
        let wire = layout::lay_out(self.layout, Tag::Message as u8, &segments);
        self.stream.extend(wire);
    }
}

fn change(bytes: &mut [u8], input: &mut Input<'_>) {
    let at = usize::from(input.u16());
    let by = input.u8();
    if !bytes.is_empty() {
        bytes[at % bytes.len()] ^= by;
    }
}

pub(super) fn stamp(input: &mut Input<'_>) -> Timestamp {
    Timestamp {
        sec: input.u16().into(),
        nsec: input.u16().into(),
    }
}

/// A message whose three payloads have the lengths that come next.
pub(super) fn message(input: &mut Input<'_>) -> Message {
    let [front, middle, data] = [0x11, 0x22, 0x33].map(|seed| filler(seed, input.len()));
    let kind = (front.len() ^ middle.len()) as u16;
    Message {
        header: Header {
            tid: data.len() as u64 * 0x0101_0101,
            priority: kind ^ 0xffff,
            data_off: kind,
            ..Message::new(kind).header
        },
        front: front.into(),
        middle: middle.into(),
        data: data.into(),
    }
}
