//! [`step`]: what an action does to a world. Everything here is glue between connections and their
//! streams, and does what the stack's reactor does in one turn; the rules are the connections' own.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use msgr_protocol::wire::Tag;
use msgr_protocol::{
    AfterFault, Connection, Event, FrameWriter, HeapBlocks, Meeting, Message, Opening, State,
    TxQueue,
};

use crate::frame::Frame;
use crate::node::{Entry, Node};
use crate::setup::Setup;
use crate::shape::{FIRST_STREAM, cookie};
use crate::sights::{Sight, Sights};
use crate::world::{Action, End, Stream, World};

/// What must never happen, and did.
pub(crate) type Violation = String;

/// Whether what was sent before a stream is closed still arrives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Drain,
    Abort,
}

/// The world after `action`. `sights` gets what was to be seen on the way.
pub(crate) fn step(
    setup: &Setup,
    world: &World,
    action: Action,
    sights: &mut Sights,
) -> Result<World, Violation> {
    let mut step = Step {
        setup,
        world: world.clone(),
        sights,
        touched: Vec::new(),
        wanting: Vec::new(),
    };
    step.act(action)?;
    step.finish()?;
    Ok(step.world)
}

struct Step<'a> {
    setup: &'a Setup,
    world: World,
    sights: &'a mut Sights,
    /// Connections to be transmitted when the turn ends, by node and entry.
    touched: Vec<(usize, usize)>,
    /// Sessions that want a stream.
    wanting: Vec<(usize, usize)>,
}

impl Step<'_> {
    fn act(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Connect(at) => self.connect(at),
            Action::Send(at) => self.send(at),
            Action::Begin(stream) => return self.begin(stream),
            Action::Deliver(stream, at) => return self.deliver(stream, at),
            Action::Notice(stream, at) => {
                let id = self.world.nodes[at].using(stream);
                let id = id.expect("an open end is used");
                return self.fault(at, id);
            }
            Action::Expire(at) => self.expire(at),
            Action::Break(number) => {
                self.world.faults -= 1;
                self.stream(number).expect("it is listed").broken = true;
            }
        }
        Ok(())
    }

    /// The end of a turn: transmits, connects what wants to be, and tidies up.
    fn finish(&mut self) -> Result<(), Violation> {
        for (at, id) in std::mem::take(&mut self.touched) {
            self.transmit(at, id);
        }
        for (at, id) in std::mem::take(&mut self.wanting) {
            if self
                .entry(at, id)
                .is_some_and(|it| it.protocol.wants_stream())
            {
                self.reconnect(at, id);
            }
        }
        self.world
            .streams
            .retain(|stream| stream.ends.iter().any(|end| end.open));
        self.world
            .streams
            .sort_by_key(|stream| (stream.dialler, stream.number));
        for node in &mut self.world.nodes {
            node.entries.retain(Option::is_some);
            node.entries.sort_by_key(|entry| {
                let entry = entry
                    .as_ref()
                    .map(|entry| (!entry.registered, entry.stream));
                entry.expect("the holes are gone")
            });
            for entry in node.entries.iter_mut().flatten() {
                if entry.shape.is_none() {
                    Arc::make_mut(entry).make_shape();
                }
            }
            if node.entries().filter(|entry| entry.registered).count() > 1 {
                return Err("two sessions with one peer".to_owned());
            }
        }
        Ok(())
    }

    fn entry(&self, at: usize, id: usize) -> Option<&Entry> {
        self.world.nodes[at].entries[id].as_deref()
    }

    fn entry_mut(&mut self, at: usize, id: usize) -> Option<&mut Entry> {
        let entry = self.world.nodes[at].entries[id].as_mut()?;
        let entry = Arc::make_mut(entry);
        entry.shape = None;
        Some(entry)
    }

    fn add(&mut self, at: usize, entry: Entry) -> usize {
        let entries = &mut self.world.nodes[at].entries;
        entries.push(Some(Arc::new(entry)));
        entries.len() - 1
    }

    fn stream(&mut self, number: u64) -> Option<&mut Stream> {
        let mut streams = self.world.streams.iter_mut();
        streams.find(|stream| stream.number == number)
    }

    /// A place behind `above`, which is behind all before.
    fn next_place(&mut self, at: usize, above: u64) -> u64 {
        let Node { place, .. } = &mut self.world.nodes[at];
        *place = above.max(*place) + 1;
        *place
    }

    fn opening(&mut self, at: usize) -> Opening {
        let global_seq = self.next_place(at, 0);
        Opening {
            global_seq,
            cookie: cookie(global_seq),
        }
    }

    // What the application does.

    fn connect(&mut self, at: usize) {
        let opening = self.opening(at);
        let [own, peer] = [&self.setup.nodes[at], &self.setup.nodes[1 - at]];
        let remote = peer.addr.socket.expect("it is an endpoint");
        let protocol = Connection::connect(
            Arc::clone(&own.config),
            peer.addr,
            peer.config.name.kind,
            (own.socket, remote),
            opening,
        );
        self.world.nodes[at].asked = true;
        let id = self.add(at, Entry::new(protocol, true));
        self.dial(at, id);
    }

    fn send(&mut self, at: usize) {
        let node = &mut self.world.nodes[at];
        node.sent += 1;
        let mut message = Message::new(1);
        message.header.tid = node.sent.into();
        message.front = vec![node.sent].into();
        if let Some(id) = node.registered()
            && let Some(entry) = self.entry_mut(at, id)
        {
            entry.protocol.send(message).expect("it is short");
            self.touch(at, id);
        }
    }

    // Streams.

    /// Dials, for a session whose next stream is prepared.
    fn dial(&mut self, at: usize, id: usize) {
        let numbers = self.world.streams.iter().map(|stream| stream.number);
        let number = numbers.max().unwrap_or(FIRST_STREAM) + 1;
        let end = |node| End {
            open: node == at,
            coming: Vec::new(),
        };
        self.world.streams.push(Stream {
            number,
            dialler: at,
            begun: false,
            broken: false,
            ends: [0, 1].map(end),
        });
        if let Some(entry) = self.entry_mut(at, id) {
            entry.stream = Some(number);
        }
    }

    fn reconnect(&mut self, at: usize, id: usize) {
        let opening = self.opening(at);
        let own = &self.setup.nodes[at];
        if let Some(entry) = self.entry_mut(at, id)
            && let Some(remote) = entry.protocol.dials().and_then(|target| target.socket)
        {
            let config = Arc::clone(&own.config);
            entry
                .protocol
                .reconnect(config, (own.socket, remote), opening);
            self.dial(at, id);
        }
    }

    /// Has a stream accepted, and the handshake done up to the request for a session, which is then
    /// on its way.
    fn begin(&mut self, number: u64) -> Result<(), Violation> {
        let stream = self.stream(number).expect("it is listed");
        let (from, at) = (stream.dialler, 1 - stream.dialler);
        stream.begun = true;
        stream.ends[at].open = true;
        let opening = self.opening(at);
        let [own, peer] = [&self.setup.nodes[at], &self.setup.nodes[from]];
        let ends = (own.addr.socket.expect("it is an endpoint"), peer.socket);
        let protocol = Connection::accept(Arc::clone(&own.config), ends, opening);
        let accepted = self.add(at, Entry::new(protocol, false));
        let connecting = self.world.nodes[from].using(number);
        let connecting = connecting.expect("an open end is used");
        let ends = [(from, connecting), (at, accepted)];
        for (at, id) in ends {
            let entry = self.entry_mut(at, id).expect("it is there");
            entry.stream = Some(number);
            entry.up = true;
        }
        let has_asked =
            |state| matches!(state, State::SessionConnecting | State::SessionReconnecting);
        loop {
            let [out, back] = ends.map(|(at, id)| {
                laid_out(&mut self.entry_mut(at, id).expect("it is there").protocol)
            });
            let connector = self.entry(from, connecting).expect("it is there");
            if has_asked(connector.protocol.state()) {
                let mut frames = Frame::cut(out);
                let signature = frames.remove(0);
                self.feed(at, accepted, signature.bytes)?;
                let stream = self.stream(number).expect("it is listed");
                stream.ends[at].coming = frames.into_iter().map(Arc::new).collect();
                return Ok(());
            }
            self.feed(at, accepted, out)?;
            self.feed(from, connecting, back)?;
        }
    }

    /// Has handshake bytes taken in, which must not tell anything.
    fn feed(&mut self, at: usize, id: usize, bytes: Bytes) -> Result<(), Violation> {
        let entry = self.entry_mut(at, id).expect("it is there");
        entry.protocol.receive(bytes);
        match entry.protocol.poll() {
            Ok(None) => Ok(()),
            other => Err(format!("in the handshake: {other:?}")),
        }
    }

    fn detach(&mut self, at: usize, id: usize, how: Close) {
        let Some(entry) = self.entry_mut(at, id) else {
            return;
        };
        entry.up = false;
        if let Some(number) = entry.stream.take()
            && let Some(stream) = self.stream(number)
        {
            stream.broken |= how == Close::Abort;
            stream.ends[at].open = false;
            stream.ends[at].coming.clear();
        }
    }

    fn remove(&mut self, at: usize, id: usize, how: Close) {
        self.detach(at, id, how);
        self.world.nodes[at].entries[id] = None;
    }

    fn touch(&mut self, at: usize, id: usize) {
        let Some(entry) = self.entry(at, id) else {
            return;
        };
        if entry.up {
            self.touched.push((at, id));
        } else if entry.protocol.wants_stream() {
            self.wanting.push((at, id));
        }
    }

    fn transmit(&mut self, at: usize, id: usize) {
        let Some(entry) = self.entry_mut(at, id) else {
            return;
        };
        let (Some(number), true) = (entry.stream, entry.up) else {
            return;
        };
        let bytes = laid_out(&mut entry.protocol);
        let replayed = entry.protocol.take_replayed();
        self.sights.add_if(replayed > 0, Sight::Replay);
        let frames = Frame::cut(bytes);
        for frame in &frames {
            self.sights.add_sent(frame.tag);
        }
        let stream = self.stream(number).expect("it is in use");
        // Behind a break, and to an end that is closed, everything is lost.
        if !stream.broken && stream.ends[1 - at].open {
            stream.ends[1 - at]
                .coming
                .extend(frames.into_iter().map(Arc::new));
        }
    }

    // What comes from the stream.

    fn deliver(&mut self, number: u64, at: usize) -> Result<(), Violation> {
        let stream = self.stream(number).expect("it is listed");
        let frame = stream.ends[at].coming.remove(0);
        let late = !stream.ends[1 - at].open;
        self.sights.add_if(late, Sight::LateFrame);
        let id = self.world.nodes[at]
            .using(number)
            .expect("an open end is used");
        let entry = self.entry_mut(at, id).expect("it is there");
        entry.protocol.receive(frame.bytes.clone());
        let before = self.world.nodes[at].received;
        self.pump(at, id, frame.tag)?;
        let duplicate = frame.tag == Tag::Message && self.world.nodes[at].received == before;
        self.sights.add_if(duplicate, Sight::Duplicate);
        Ok(())
    }

    /// Lets a connection take in what it has received.
    fn pump(&mut self, at: usize, mut id: usize, tag: Tag) -> Result<(), Violation> {
        while let Some(entry) = self.entry_mut(at, id) {
            let polled = entry.protocol.poll();
            match polled.map_err(|error| format!("{error}, after {tag}"))? {
                None => break,
                Some(Event::Message) => {
                    let message = entry.protocol.take_message();
                    self.message(at, &message)?;
                }
                Some(Event::Ready) => self.ready(at, id)?,
                Some(Event::SessionRequested) => id = self.meet(at, id, tag)?,
                Some(Event::RetryGlobal { above }) => {
                    let place = self.next_place(at, above);
                    if let Some(entry) = self.entry_mut(at, id) {
                        entry.protocol.retry(place);
                    }
                }
                Some(Event::Wait) => {
                    self.sights.add(Sight::ToldToWait);
                    self.detach(at, id, Close::Drain);
                    return Ok(());
                }
                Some(other) => return Err(format!("{other:?}, although nobody was restarted")),
            }
        }
        self.touch(at, id);
        Ok(())
    }

    fn message(&mut self, at: usize, message: &Message) -> Result<(), Violation> {
        let number = message.front.contiguous()[0];
        let sent = self.world.nodes[1 - at].sent;
        let node = &mut self.world.nodes[at];
        if number != node.received + 1 || number > sent {
            let (name, last) = (["A", "B"][at], node.received);
            return Err(format!(
                "{name} receives message {number} after {last} of {sent}"
            ));
        }
        node.received = number;
        Ok(())
    }

    fn ready(&mut self, at: usize, id: usize) -> Result<(), Violation> {
        let registered = self.world.nodes[at].registered();
        if registered.is_some_and(|registered| registered != id) {
            return Err("two sessions with one peer".to_owned());
        }
        if let Some(entry) = self.entry_mut(at, id) {
            entry.registered = true;
        }
        Ok(())
    }

    /// Answers a peer that asks for a session. Returns whose its stream is now.
    fn meet(&mut self, at: usize, newcomer: usize, tag: Tag) -> Result<usize, Violation> {
        let place = self.next_place(at, 0);
        let known = self.world.nodes[at].registered();
        let incoming = self.world.nodes[at].entries[newcomer].take();
        let mut incoming = incoming.expect("it has just asked");
        let newcomer_side = &mut Arc::make_mut(&mut incoming).protocol;
        let known_side = known.and_then(|known| self.entry_mut(at, known));
        let before = known_side.as_ref().map(|known| known.protocol.state());
        let outcome = newcomer_side.meet(known_side.map(|known| &mut known.protocol), place);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // What was said when less was acknowledged, on a stream that was given up since.
            Err(error) => {
                let stream = incoming.stream.and_then(|number| self.stream(number));
                if stream.is_none_or(|stream| stream.ends[1 - at].open) {
                    return Err(format!("{error}, when they meet"));
                }
                self.sights.add(Sight::Outdated);
                self.world.nodes[at].entries[newcomer] = Some(incoming);
                self.remove(at, newcomer, Close::Abort);
                return Ok(newcomer);
            }
        };
        self.sights.add_meeting(outcome, tag, before);
        if let (Meeting::TakenOver { remote_reset }, Some(known)) = (outcome, known) {
            if remote_reset {
                return Err("a session is reset, although nobody was restarted".to_owned());
            }
            self.detach(at, known, Close::Abort);
            let entry = self.entry_mut(at, known).expect("they have just met");
            (entry.stream, entry.up) = (incoming.stream, incoming.up);
            self.ready(at, known)?;
            return Ok(known);
        }
        self.world.nodes[at].entries[newcomer] = Some(incoming);
        match outcome {
            Meeting::Opened => {
                if known.is_some() {
                    return Err("a session is replaced by another".to_owned());
                }
                self.ready(at, newcomer)?;
            }
            Meeting::Stale => self.remove(at, newcomer, Close::Abort),
            Meeting::Waits => known.into_iter().for_each(|known| self.hurry(at, known)),
            Meeting::Outrun => {
                if let Some(known) = known {
                    self.fault(at, known)?;
                }
            }
            Meeting::AsksAgain | Meeting::TakenOver { .. } => {}
        }
        Ok(newcomer)
    }

    /// The peer waits for a connection of ours: there is one under way or there will be when a timer
    /// expires, but for a session that waits for work.
    fn hurry(&mut self, at: usize, known: usize) {
        let state = self.entry(at, known).map(|entry| entry.protocol.state());
        if state == Some(State::Standby) {
            self.wanting.push((at, known));
        }
    }

    // Faults and timers.

    /// The connection's stream has ended.
    fn fault(&mut self, at: usize, id: usize) -> Result<(), Violation> {
        let entry = self.entry_mut(at, id).expect("it had a stream");
        let (state, after) = entry.protocol.disconnect();
        if after == AfterFault::Gone {
            if entry.registered {
                return Err(format!("a session ends in {state}"));
            }
            self.remove(at, id, Close::Drain);
            return Ok(());
        }
        self.sights
            .add_if(after == AfterFault::Standby, Sight::Standby);
        let how = if state == State::Ready {
            Close::Abort
        } else {
            Close::Drain
        };
        self.detach(at, id, how);
        Ok(())
    }

    fn expire(&mut self, at: usize) {
        let waiting = self.world.nodes[at].waiting().expect("it waits");
        self.reconnect(at, waiting);
    }
}

/// All that a connection has to say now.
fn laid_out(connection: &mut Connection) -> Bytes {
    let (mut block, mut queue) = (BytesMut::new(), TxQueue::new());
    let mut blocks = HeapBlocks;
    let mut writer = FrameWriter::new(usize::MAX, &mut block, &mut blocks, &mut queue);
    connection.transmit(&mut writer, usize::MAX);
    queue.pop_front().unwrap_or_default()
}
