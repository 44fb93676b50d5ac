//! [`run`]: one end of a connection against a script.

use std::ops::Range;
use std::sync::Arc;

use msgr_protocol::frame::Limits;
use msgr_protocol::{
    AfterFault, ApiMisuse, Config, Connection, Event, Features, Message, Opening, State, Timestamp,
};

use super::chop::Chop;
use super::expected::{Expected, Legal, Outcome};
use super::input::Input;
use super::output::{Order, Output};
use super::script::{Action, Script, Template};

/// What the ends of every run give their sessions.
pub(super) const OPENING: Opening = Opening {
    global_seq: 7,
    cookie: 1,
};

/// How much a peer may send, which is how long a run may take.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Volume {
    /// 16 KiB, give or take a frame, in pieces of any size.
    Usual,
    /// Enough to reach every bound, in pieces of 8 KiB. 1 MiB of answers may wait, and what is
    /// answered may be four times as long.
    Flood,
}

impl Volume {
    const fn bytes(self) -> usize {
        match self {
            Self::Usual => 16 << 10,
            Self::Flood => 5 << 20,
        }
    }
}

/// What the first byte of the input says.
#[derive(Clone, Copy)]
pub(super) struct Choices(u8);

impl Choices {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        Self(input.u8())
    }

    /// Bits 0 to 2: what both sides' configurations vary in.
    pub(super) fn configure(self, config: &mut Config) {
        if self.0 & 1 != 0 {
            config.banner.supported = Features::default();
        }
        config.data_crc = self.0 & 2 == 0;
        if self.0 & 4 != 0 {
            config.limits = Limits {
                handshake: 1 << 20,
                control: 256,
                front: 100,
                middle: 200,
                data: 300,
            };
        }
    }

    fn is_described(self) -> bool {
        self.0 & 8 != 0
    }

    /// Whether nothing is transmitted until the script says so.
    fn is_withheld(self) -> bool {
        self.0 & 16 != 0
    }

    /// Bits 5 and 6: what only one side's configuration varies in.
    pub(super) fn side(self) -> (bool, bool) {
        (self.0 & 32 != 0, self.0 & 64 != 0)
    }
}

/// One side's part in the protocol.
pub(super) struct Side {
    pub(super) config: Arc<Config>,
    pub(super) templates: Vec<Template>,
    /// The templates that are a whole handshake.
    pub(super) handshake: Range<usize>,
    pub(super) legal: Legal,
    pub(super) order: Order,
}

/// Feeds the script to `connection`; after each piece, it must be where it is expected.
pub(super) fn run(
    connection: Connection,
    side: &Side,
    choices: Choices,
    volume: Volume,
    input: &mut Input<'_>,
) {
    let Side {
        config,
        templates,
        handshake,
        legal,
        order,
    } = side;
    let mut chop = input.chop();
    if volume == Volume::Flood {
        chop = Chop::new(&[255]);
    }
    let mut script = if choices.is_described() {
        Script::described(config, templates, handshake.clone(), volume.bytes(), input)
    } else {
        Script::raw(input)
    };
    let mut driver = Driver {
        expected: Expected::new(connection.state(), config, templates, *legal),
        output: Output::new(config.banner, order),
        connection,
        ready: false,
        messages: Vec::new(),
        keepalive_acks: Vec::new(),
    };
    let mut received = 0;
    let whole = Action::Transmit { budget: usize::MAX };
    script.actions.push((script.stream.len(), whole));
    for (at, action) in script.actions {
        let mut pieces = script.stream.slice(received..at);
        while !pieces.is_empty() {
            let piece = chop.cut(&mut pieces);
            received += piece.len();
            driver.connection.receive(piece);
            driver.expected.received(&script.stream[..received]);
            driver.settle();
            if driver.connection.state() == State::Closed {
                chop = Chop::WHOLE;
            }
            if !choices.is_withheld() && driver.connection.wants_transmit() {
                driver.transmit(usize::MAX);
            }
        }
        match action {
            Action::Send(message) => driver.send(*message, &config.limits),
            Action::Keepalive(stamp) => driver.keepalive(stamp),
            Action::Transmit { budget } => driver.transmit(budget),
        }
    }
    driver.end();
}

struct Driver<'a> {
    connection: Connection,
    expected: Expected<'a>,
    output: Output,
    ready: bool,
    /// Told, but not compared with what was expected yet.
    messages: Vec<Message>,
    keepalive_acks: Vec<Timestamp>,
}

impl Driver<'_> {
    /// Polls until there is nothing to tell, and compares.
    fn settle(&mut self) {
        loop {
            match self.connection.poll() {
                Ok(Some(event)) => self.event(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(self.connection.state(), State::Closed);
                    assert_ne!(error.state, State::Closed);
                    assert!(!error.to_string().is_empty());
                    break;
                }
            }
        }
        let state = self.connection.state();
        for _ in 0..2 {
            assert!(matches!(self.connection.poll(), Ok(None)));
            assert_eq!(self.connection.state(), state);
        }
        assert_eq!(
            self.connection.queued() == 0,
            self.output.messages.is_empty()
        );
        self.expected.outcomes.retain(|outcome| {
            outcome.state == state
                && outcome.ready == self.ready
                && outcome.messages == self.messages
                && outcome.keepalive_acks == self.keepalive_acks
        });
        assert!(
            !self.expected.outcomes.is_empty(),
            "unexpectedly {state}, or told something else than expected"
        );
        self.messages.clear();
        self.keepalive_acks.clear();
        for Outcome {
            messages,
            keepalive_acks,
            ..
        } in &mut self.expected.outcomes
        {
            messages.clear();
            keepalive_acks.clear();
        }
    }

    fn event(&mut self, event: Event) {
        if event == Event::Wait {
            assert_eq!(self.connection.state(), State::Wait);
            assert_eq!(self.connection.disconnect().1, AfterFault::Gone);
            return;
        }
        if matches!(event, Event::AuthRefused(_)) {
            assert_eq!(self.connection.state(), State::AuthAccepting);
            return;
        }
        assert_eq!(self.connection.state(), State::Ready);
        match event {
            Event::Ready => {
                assert!(!self.ready, "ready twice");
                self.ready = true;
                let peer = self.connection.peer();
                assert!(peer.name.is_some() && peer.kind.is_some());
            }
            Event::Message => {
                assert!(self.ready);
                self.messages.push(self.connection.take_message());
            }
            Event::KeepaliveAck(stamp) => {
                assert!(self.ready);
                self.keepalive_acks.push(stamp);
            }
            other => panic!("a lossy connection tells {other:?}"),
        }
    }

    fn send(&mut self, message: Message, limits: &Limits) {
        let parts = [&message.front, &message.middle, &message.data];
        let most = [limits.front, limits.middle, limits.data];
        let too_long = parts
            .iter()
            .zip(most)
            .any(|(part, most)| part.len() > most as usize);
        let before = self.connection.queued();
        match self.connection.send(message.clone()) {
            Ok(()) => {
                assert!(!too_long);
                assert!(self.connection.queued() >= before + message.payload_len());
                self.output.messages.push_back(message);
            }
            Err(ApiMisuse::PayloadTooLong { .. }) => {
                assert!(too_long);
                assert_eq!(self.connection.queued(), before);
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn keepalive(&mut self, stamp: Timestamp) {
        self.connection.keepalive(stamp);
        if self.connection.state() == State::Ready {
            self.output.keepalives.push_back(stamp);
            self.expected.keepalive();
        }
    }

    fn transmit(&mut self, budget: usize) {
        let layout = self.expected.layout;
        self.output
            .transmit(&mut self.connection, layout, self.ready, budget);
        self.expected.transmitted();
    }

    /// Transmits all there is; then nothing may be owed to anybody.
    fn end(mut self) {
        while self.connection.wants_transmit() {
            self.transmit(usize::MAX);
        }
        self.settle();
        assert!(self.output.keepalives.is_empty());
        let answered = |outcome: &Outcome| outcome.keepalives == self.output.keepalive_acks;
        assert!(self.expected.outcomes.iter().any(answered));
        if self.ready {
            assert!(self.output.is_handshake_complete());
        }
        if self.connection.state() == State::Ready {
            assert!(self.output.messages.is_empty());
        }
    }
}
