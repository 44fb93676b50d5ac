//! [`Expected`]: every way in which a connection may take what it has received.
//!
//! Whether a handshake frame is acceptable is the connection's own matter, so that several outcomes
//! may be possible until it has shown which; on an established connection there is only one.

use msgr_protocol::frame::{Layout, Revision};
use msgr_protocol::wire::{Tag, features};
use msgr_protocol::{Config, HEADER_LEN, Header, Message, Payload, State, Timestamp};

use super::layout::{self, Parsed, Start};
use super::script::Template;

/// The bytes of answers that a peer may leave unread before it is given up.
const MAX_UNREAD: usize = 1 << 20;
/// More than one side's banner and handshake, with the refusals that are limited, in bytes.
const HANDSHAKE: usize = 4 << 10;

/// The states in which a frame of the handshake may leave a connection that goes on: none if the
/// peer refuses by it, `None` if it must not come.
pub(super) type Legal = fn(State, Tag) -> Option<&'static [State]>;

/// One way.
#[derive(Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) state: State,
    pub(super) ready: bool,
    last_seq: u64,
    /// Answers, refusals and our own keepalives that were not transmitted, in bytes.
    unread: usize,
    /// What has been told since the last agreement.
    pub(super) messages: Vec<Message>,
    pub(super) keepalive_acks: Vec<Timestamp>,
    /// The keepalives to be answered.
    pub(super) keepalives: Vec<Timestamp>,
}

pub(super) struct Expected<'a> {
    config: &'a Config,
    templates: &'a [Template],
    legal: Legal,
    pub(super) layout: Layout,
    /// What of the stream is behind us, in bytes.
    taken: usize,
    pub(super) outcomes: Vec<Outcome>,
}

impl<'a> Expected<'a> {
    pub(super) fn new(
        state: State,
        config: &'a Config,
        templates: &'a [Template],
        legal: Legal,
    ) -> Self {
        Self {
            config,
            templates,
            legal,
            layout: Layout {
                revision: Revision::Rev1,
                data_crc: config.data_crc,
            },
            taken: 0,
            outcomes: vec![Outcome {
                state,
                ready: false,
                last_seq: 0,
                unread: 0,
                messages: Vec::new(),
                keepalive_acks: Vec::new(),
                keepalives: Vec::new(),
            }],
        }
    }

    /// All that has been received up to now.
    pub(super) fn received(&mut self, stream: &[u8]) {
        if self.taken == 0 {
            match banner(self.config, stream) {
                Banner::Partial => return,
                Banner::Refused => return self.close(),
                Banner::Agreed { len, revision } => {
                    self.layout.revision = revision;
                    self.taken = len;
                    for outcome in &mut self.outcomes {
                        outcome.state = match outcome.state {
                            State::BannerConnecting => State::HelloConnecting,
                            State::BannerAccepting => State::HelloAccepting,
                            other => other,
                        };
                    }
                }
            }
        }
        while self.outcomes.iter().any(|o| o.state != State::Closed) {
            match layout::parse(self.layout, &self.config.limits, &stream[self.taken..]) {
                Start::Frame(frame) => {
                    self.frame(&frame);
                    self.taken += frame.wire.len();
                }
                Start::Partial { tag, .. } => return self.begun(tag),
                Start::Refused(_) => return self.close(),
            }
        }
    }

    /// A keepalive of our own waits to be transmitted.
    pub(super) fn keepalive(&mut self) {
        for outcome in &mut self.outcomes {
            outcome.unread += layout::control_len(self.layout, 8);
        }
    }

    /// A frame that must not come is refused before it is whole.
    fn begun(&mut self, tag: Option<Tag>) {
        let Some(tag) = tag else { return };
        for outcome in &mut self.outcomes {
            let legal = match outcome.state {
                State::Closed => continue,
                State::Ready => matches!(
                    tag,
                    Tag::Message | Tag::Ack | Tag::Keepalive2 | Tag::Keepalive2Ack
                ),
                state => (self.legal)(state, tag).is_some(),
            };
            if !legal {
                outcome.state = State::Closed;
                outcome.unread = 0;
            }
        }
    }

    /// Everything was transmitted, but for messages.
    pub(super) fn transmitted(&mut self) {
        for outcome in &mut self.outcomes {
            outcome.unread = 0;
        }
    }

    fn close(&mut self) {
        for outcome in &mut self.outcomes {
            outcome.state = State::Closed;
        }
    }

    fn frame(&mut self, frame: &Parsed<'_>) {
        for mut outcome in std::mem::take(&mut self.outcomes) {
            match outcome.state {
                State::Closed => {}
                State::Ready => {
                    outcome.established(frame);
                    if frame.tag == Tag::Keepalive2 {
                        outcome.unread += layout::control_len(self.layout, 8);
                    }
                }
                state => {
                    for next in self.handshake(state, frame) {
                        let mut outcome = outcome.clone().handshake(next);
                        if next == state {
                            outcome.unread += layout::control_len(
                                self.layout,
                                match frame.tag {
                                    Tag::SessionReconnect => 1,
                                    Tag::ClientIdent => 8,
                                    _ => 0,
                                },
                            );
                        }
                        self.add(outcome);
                    }
                    continue;
                }
            }
            self.add(outcome);
        }
    }

    /// One more way, and that the peer was given up because it does not read.
    fn add(&mut self, mut outcome: Outcome) {
        if outcome.unread + HANDSHAKE > MAX_UNREAD && outcome.state != State::Closed {
            if outcome.unread <= MAX_UNREAD {
                self.outcomes.push(outcome.clone());
            }
            outcome.state = State::Closed;
        }
        if outcome.state == State::Closed {
            outcome.unread = 0;
        }
        if !self.outcomes.contains(&outcome) {
            self.outcomes.push(outcome);
        }
    }

    /// Where a frame may lead; at least one state.
    fn handshake(&self, state: State, frame: &Parsed<'_>) -> Vec<State> {
        let legal = match (self.legal)(state, frame.tag) {
            Some(legal) if !frame.aborted => legal,
            _ => return vec![State::Closed],
        };
        let as_template = |template: &&Template| {
            template.tag == frame.tag && template.payload == frame.segments[0]
        };
        match self.templates.iter().find(as_template) {
            Some(Template {
                leads_to: Some(state),
                ..
            }) => vec![*state],
            _ => [&[State::Closed], legal].concat(),
        }
    }
}

impl Outcome {
    fn handshake(mut self, state: State) -> Self {
        self.state = state;
        self.ready |= state == State::Ready;
        self
    }

    fn established(&mut self, frame: &Parsed<'_>) {
        let first = frame.segments[0];
        let stamp = || {
            (!frame.aborted && first.len() >= 8).then(|| Timestamp {
                sec: u32::from_le_bytes([first[0], first[1], first[2], first[3]]),
                nsec: u32::from_le_bytes([first[4], first[5], first[6], first[7]]),
            })
        };
        match (frame.tag, stamp()) {
            (Tag::Message, _) => self.message(frame),
            (Tag::Keepalive2, Some(stamp)) => self.keepalives.push(stamp),
            (Tag::Keepalive2Ack, Some(stamp)) => self.keepalive_acks.push(stamp),
            (Tag::Ack, Some(_)) => {}
            _ => self.state = State::Closed,
        }
    }

    fn message(&mut self, frame: &Parsed<'_>) {
        let Some(header) = frame.segments[0].first_chunk::<HEADER_LEN>() else {
            self.state = State::Closed;
            return;
        };
        let header = Header::decode(header);
        if header.seq <= self.last_seq {
            return;
        }
        if header.seq > self.last_seq + 1 {
            self.state = State::Closed;
            return;
        }
        self.last_seq = header.seq;
        let payload = |i: usize| match frame.segments.get(i) {
            Some(segment) => Payload::from(segment.to_vec()),
            None => Payload::new(),
        };
        if !frame.aborted {
            self.messages.push(Message {
                header,
                front: payload(1),
                middle: payload(2),
                data: payload(3),
            });
        }
    }
}

enum Banner {
    Partial,
    Refused,
    Agreed { len: usize, revision: Revision },
}

fn banner(config: &Config, stream: &[u8]) -> Banner {
    const PREFIX: &[u8] = b"ceph v2\n";
    let seen = stream.len().min(PREFIX.len());
    if stream[..seen] != PREFIX[..seen] {
        return Banner::Refused;
    }
    let Some(len) = stream.get(8..10) else {
        return Banner::Partial;
    };
    let len = u16::from_le_bytes([len[0], len[1]]);
    if !(16..=256).contains(&len) {
        return Banner::Refused;
    }
    let Some(payload) = stream.get(10..10 + usize::from(len)) else {
        return Banner::Partial;
    };
    let word = |at: usize| {
        let bytes = payload[at..at + 8].iter().rev();
        bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    let (supported, required) = (word(0), word(8));
    let ours = config.banner;
    if ours.required.0 & !supported != 0 || required & !ours.supported.0 != 0 {
        return Banner::Refused;
    }
    Banner::Agreed {
        len: 10 + payload.len(),
        revision: if supported & ours.supported.0 & features::REVISION_1.0 == 0 {
            Revision::Rev0
        } else {
            Revision::Rev1
        },
    }
}
