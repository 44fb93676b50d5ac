//! [`World`]: two nodes and the streams between them. [`Action`]: what can happen there next.

use std::fmt;
use std::sync::Arc;

use msgr_protocol::State;

use crate::frame::Frame;
use crate::node::Node;
use crate::setup::Setup;
use crate::shape::{FIRST_STREAM, Key, KeyMaker, first_place};

/// A byte stream between the two nodes.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) number: u64,
    pub(crate) dialler: usize,
    /// Whether it has reached the acceptor, and the handshake is over but for the session.
    pub(crate) begun: bool,
    /// Whether it broke, so that nothing new gets through.
    pub(crate) broken: bool,
    /// By node.
    pub(crate) ends: [End; 2],
}

/// One end of a stream.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// Whether its node uses it.
    pub(crate) open: bool,
    /// What is on its way here.
    pub(crate) coming: Vec<Arc<Frame>>,
}

impl Stream {
    /// Whether one end has left it, and the other has not found out.
    fn is_late(&self) -> bool {
        self.begun && self.ends[0].open != self.ends[1].open
    }

    /// Whether the node may find out that the stream has ended. Of one that is merely closed by the
    /// other node, everything arrives before.
    fn shows_its_end(&self, at: usize) -> bool {
        let [here, there] = [&self.ends[at], &self.ends[1 - at]];
        let closed = self.begun && !there.open && here.coming.is_empty();
        here.open && (self.broken || closed)
    }

    fn add_actions(&self, actions: &mut Vec<Action>) {
        if !self.begun && !self.broken {
            actions.push(Action::Begin(self.number));
        }
        for (at, end) in self.ends.iter().enumerate() {
            if !end.coming.is_empty() {
                actions.push(Action::Deliver(self.number, at));
            }
            if self.shows_its_end(at) {
                actions.push(Action::Notice(self.number, at));
            }
        }
    }
}

/// Two nodes and the streams between them.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) nodes: [Node; 2],
    /// By dialler, then by age.
    pub(crate) streams: Vec<Stream>,
    /// How many faults may still happen.
    pub(crate) faults: u8,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The node's application asks for a connection.
    Connect(usize),
    /// It sends its next message.
    Send(usize),
    /// A stream reaches the acceptor.
    Begin(u64),
    /// The next frame arrives at this node.
    Deliver(u64, usize),
    /// This node finds out that the stream has ended.
    Notice(u64, usize),
    /// The node's timer expires, which may take shorter or longer than anything else.
    Expire(usize),
    /// Fault: the stream breaks.
    Break(u64),
}

impl Action {
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Self::Break(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = |node: usize| ["A", "B"][node];
        let stream = |number: u64| number - FIRST_STREAM;
        match *self {
            Self::Connect(at) => write!(f, "{}: connect", node(at)),
            Self::Send(at) => write!(f, "{}: send", node(at)),
            Self::Begin(number) => write!(f, "stream {}: handshake", stream(number)),
            Self::Deliver(number, at) => {
                write!(f, "{}: a frame from stream {}", node(at), stream(number))
            }
            Self::Notice(number, at) => {
                write!(f, "{}: the end of stream {}", node(at), stream(number))
            }
            Self::Expire(at) => write!(f, "{}: timer", node(at)),
            Self::Break(number) => write!(f, "FAULT: stream {} breaks", stream(number)),
        }
    }
}

impl World {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            nodes: [0, 1].map(|node| Node::new(first_place(node))),
            streams: Vec::new(),
            faults: setup.bounds.faults,
        }
    }

    /// Everything that can happen next.
    pub(crate) fn actions(&self, setup: &Setup) -> Vec<Action> {
        let mut actions = Vec::new();
        let late = self.streams.iter().filter(|stream| stream.is_late());
        if late.clone().count() > setup.bounds.late {
            late.for_each(|stream| stream.add_actions(&mut actions));
            return actions;
        }
        for stream in &self.streams {
            stream.add_actions(&mut actions);
            if self.faults > 0 && !stream.broken {
                actions.push(Action::Break(stream.number));
            }
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let registered = node.registered().is_some();
            if !registered && !node.asked && !setup.nodes[at].policy.server {
                actions.push(Action::Connect(at));
            }
            if registered && node.sent < setup.bounds.messages {
                actions.push(Action::Send(at));
            }
            if node.waiting().is_some() {
                actions.push(Action::Expire(at));
            }
        }
        actions
    }

    /// Whether a session has been connected again more often than is looked at.
    pub(crate) fn is_beyond(&self, setup: &Setup) -> bool {
        let mut entries = self.nodes.iter().flat_map(Node::entries);
        entries.any(|entry| entry.protocol.counts().connect_seq > setup.bounds.reconnects)
    }

    /// What is wrong with a world in which nothing happens any more, unless there is a fault.
    pub(crate) fn unfinished(&self, setup: &Setup) -> Option<String> {
        let received = self.nodes.each_ref().map(|node| node.received);
        if received != [setup.bounds.messages; 2] {
            return Some(format!("messages received: {received:?}"));
        }
        for node in &self.nodes {
            if node.entries().count() != 1 {
                return Some("a connection is left over".to_owned());
            }
            let busy = |state| !matches!(state, State::Ready | State::Standby);
            let unsettled = |entry: &crate::node::Entry| {
                !entry.protocol.is_settled() || busy(entry.protocol.state())
            };
            if node.entries().any(unsettled) {
                return Some("a connection is not at rest".to_owned());
            }
        }
        (self.streams.len() > 1).then(|| "a stream is left over".to_owned())
    }

    pub(crate) fn key(&self) -> Key {
        let mut key = KeyMaker::default();
        key.plain(self.faults);
        for node in &self.nodes {
            key.plain(node.sent);
            key.plain(node.received);
            key.plain(node.asked);
            for entry in node.entries() {
                key.shape(entry.shape.as_ref().expect("made when a step ends"));
            }
        }
        for stream in &self.streams {
            key.token(stream.number);
            key.plain(stream.dialler as u64);
            key.plain(stream.begun);
            key.plain(stream.broken);
            for end in &stream.ends {
                key.plain(end.open);
                key.plain(end.coming.len() as u64);
                end.coming.iter().for_each(|frame| key.shape(&frame.shape));
            }
        }
        key.finish()
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, node) in ["A", "B"].iter().zip(&self.nodes) {
            write!(
                f,
                "    {name}: sent {}, received {}",
                node.sent, node.received
            )?;
            for entry in node.entries() {
                let (state, counts) = (entry.protocol.state(), entry.protocol.counts());
                let stream = entry.stream.map(|number| number - FIRST_STREAM);
                write!(f, "\n       {state} on {stream:?}, {counts:?}")?;
            }
            writeln!(f)?;
        }
        for stream in &self.streams {
            let ends = stream.ends.each_ref().map(|end| {
                let coming = end.coming.iter().map(|frame| frame.text.as_str());
                (end.open, coming.collect::<Vec<_>>())
            });
            let number = stream.number - FIRST_STREAM;
            let dialler = ["A", "B"][stream.dialler];
            let (begun, broken) = (stream.begun, stream.broken);
            writeln!(
                f,
                "    stream {number} of {dialler}'s, begun {begun}, broken {broken}: {ends:?}"
            )?;
        }
        Ok(())
    }
}
