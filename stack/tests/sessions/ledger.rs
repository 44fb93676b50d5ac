//! [`Ledger`]: what one process was told, and whether it may be: every message exactly once and in
//! order, per session and direction.
//!
//! A message carries who sent it, in which life and epoch of the sender, and its number in that
//! epoch. An epoch ends when the sender is told that the session is gone; a life with the process.
//! On lossy policies each connection has an epoch of its own, of which the end may be missing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use msgr::protocol::{Message, Ticket, Timestamp};
use msgr::{Connection, ConnectionId, Context, Dispatcher, Fault, Received};

/// Who sent a message, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp {
    pub(crate) sender: i64,
    pub(crate) life: u64,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

impl Stamp {
    pub(crate) fn message(self, data: usize) -> Message {
        let mut message = Message::new(1);
        message.header.tid = self.number;
        let words = [self.sender as u64, self.life, self.epoch, self.number];
        message.front = words.map(u64::to_le_bytes).concat().into();
        message.data = self.filler(data).into();
        message
    }

    fn filler(self, len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i ^ self.number) as u8).collect()
    }

    fn of(message: &Message) -> Self {
        let front = message.front.contiguous();
        let word = |at: usize| u64::from_le_bytes(front[8 * at..8 * at + 8].try_into().unwrap());
        let stamp = Self {
            sender: word(0) as i64,
            life: word(1),
            epoch: word(2),
            number: word(3),
        };
        let data = message.data.contiguous();
        assert_eq!(*data, stamp.filler(data.len()), "{stamp:?} is damaged");
        stamp
    }
}

/// What the dispatcher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Connected(i64),
    Accepted(i64),
    Message(Stamp),
    RemoteReset(i64),
    Interrupted(String),
    Cancelled,
    Keepalive,
    Reset(String),
    Rejected(String),
    Refused,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) seen: Vec<Seen>,
    pub(crate) violations: Vec<String>,
    /// The newest connection with each peer, as far as the dispatcher told.
    pub(crate) connections: HashMap<i64, Connection>,
    /// The epoch towards each peer, and the last number sent in it.
    sent: HashMap<i64, (u64, u64)>,
    /// The last message of each sender.
    received: HashMap<i64, Stamp>,
    /// Peers that may go back to what they had queued for a session that we forgot.
    forgotten: HashSet<i64>,
    /// How many messages came in all.
    pub(crate) count: u64,
    /// Whether messages are sent back.
    pub(crate) echo: bool,
    /// Whether sessions end with their connections.
    pub(crate) lossy: bool,
    /// The last message of each lossy connection, and the epochs that had one.
    on_lossy: HashMap<ConnectionId, Stamp>,
    epochs: HashSet<(i64, u64, u64)>,
    /// Whether a new life or epoch must begin with its first message: a peer that keeps what it had
    /// queued for our former life may go on with it.
    pub(crate) strict_start: bool,
    /// Received messages that the application does not let go.
    pub(crate) held: Option<Vec<Received>>,
    /// After so many messages each, the connection is marked down from within the callback.
    pub(crate) mark_down_after: Option<u64>,
    pub(crate) quiet: bool,
    /// The tids of messages without a stamp, for tests that have their own.
    pub(crate) raw: Option<Vec<u64>>,
}

impl Ledger {
    pub(crate) fn next(&mut self, me: i64, life: u64, peer: i64) -> Stamp {
        let (epoch, number) = self.sent.entry(peer).or_default();
        *number += 1;
        Stamp {
            sender: me,
            life,
            epoch: *epoch,
            number: *number,
        }
    }

    /// The last message that was sent to a peer.
    pub(crate) fn last_sent(&self, peer: i64) -> (u64, u64) {
        self.sent.get(&peer).copied().unwrap_or_default()
    }

    pub(crate) fn last_received(&self, peer: i64) -> Option<Stamp> {
        self.received.get(&peer).copied()
    }

    /// We forget the session with a peer; one that keeps its queue sends again what we have not
    /// acknowledged.
    pub(crate) fn forget(&mut self, peer: i64) {
        self.connections.remove(&peer);
        self.new_epoch(peer);
        if !self.strict_start {
            self.forgotten.insert(peer);
        }
    }

    /// What was sent and has not arrived is not to be expected any more.
    fn new_epoch(&mut self, peer: i64) {
        let (epoch, number) = self.sent.entry(peer).or_default();
        (*epoch, *number) = (*epoch + 1, 0);
    }

    fn tell(&mut self, seen: Seen) {
        if !self.quiet {
            self.seen.push(seen);
        }
    }

    fn receive(&mut self, stamp: Stamp, on: ConnectionId) {
        self.count += 1;
        if self.lossy {
            self.receive_lossy(stamp, on);
        } else {
            self.receive_lossless(stamp);
        }
    }

    /// Connections overtake each other, and none goes on with what another one has begun.
    fn receive_lossy(&mut self, stamp: Stamp, on: ConnectionId) {
        let last = self.on_lossy.insert(on, stamp);
        let due = last.map_or(Stamp { number: 1, ..stamp }, |last| Stamp {
            number: last.number + 1,
            ..last
        });
        let epoch = (stamp.sender, stamp.life, stamp.epoch);
        if stamp != due || last.is_none() && !self.epochs.insert(epoch) {
            let violation = format!("{stamp:?} on {on:?}, where the last was {last:?}");
            self.violations.push(violation);
        }
        let newest = self.received.entry(stamp.sender).or_insert(stamp);
        *newest = stamp.max(*newest);
    }

    fn receive_lossless(&mut self, stamp: Stamp) {
        let last = self.received.insert(stamp.sender, stamp);
        let due = match last {
            Some(last) if (last.life, last.epoch) == (stamp.life, stamp.epoch) => {
                if self.forgotten.remove(&stamp.sender) {
                    stamp.number.min(last.number + 1)
                } else {
                    last.number + 1
                }
            }
            Some(last) if (last.life, last.epoch) > (stamp.life, stamp.epoch) => {
                self.violations.push(format!("{stamp:?} after {last:?}"));
                return;
            }
            None if !self.strict_start => stamp.number,
            _ => 1,
        };
        if stamp.number != due {
            let violation = format!("{stamp:?} where number {due} was due, last was {last:?}");
            self.violations.push(violation);
        }
    }
}

/// Writes a process's ledger.
pub(crate) struct Witness(pub(crate) Arc<Mutex<Ledger>>);

fn number(context: &Context<'_>) -> i64 {
    let name = context.peer().and_then(|peer| peer.name);
    name.map_or(0, |name| name.num)
}

impl Witness {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap()
    }

    fn now_with(&self, context: &Context<'_>) -> i64 {
        let (peer, connection) = (number(context), context.connection());
        if let Some(connection) = connection {
            self.ledger().connections.insert(peer, connection);
        }
        peer
    }
}

impl Dispatcher for Witness {
    fn connected(&mut self, context: &mut Context<'_>) {
        let peer = self.now_with(context);
        self.ledger().tell(Seen::Connected(peer));
    }

    fn accepted(&mut self, context: &mut Context<'_>) {
        let peer = self.now_with(context);
        let mut ledger = self.ledger();
        if ledger.lossy {
            ledger.new_epoch(peer);
        }
        ledger.tell(Seen::Accepted(peer));
    }

    fn message(&mut self, context: &mut Context<'_>, message: Received) {
        let mut ledger = self.ledger();
        if let Some(raw) = &mut ledger.raw {
            raw.push(message.header.tid);
            return;
        }
        let stamp = Stamp::of(&message);
        ledger.receive(stamp, context.id());
        ledger.tell(Seen::Message(stamp));
        let count = ledger.count;
        let ends = |after: u64| count.is_multiple_of(after);
        if ledger.mark_down_after.is_some_and(ends) {
            ledger.forget(stamp.sender);
            context.mark_down();
            return;
        }
        if ledger.echo {
            context.send(message.into_message()).unwrap();
        } else if let Some(held) = &mut ledger.held {
            held.push(message);
        }
    }

    fn remote_reset(&mut self, context: &mut Context<'_>) {
        let peer = number(context);
        let mut ledger = self.ledger();
        ledger.new_epoch(peer);
        ledger.tell(Seen::RemoteReset(peer));
    }

    fn interrupted(&mut self, _: &mut Context<'_>, fault: &Fault) {
        self.ledger().tell(Seen::Interrupted(fault.to_string()));
    }

    fn cancelled(&mut self, _: &mut Context<'_>, _: Ticket) {
        self.ledger().tell(Seen::Cancelled);
    }

    fn keepalive_ack(&mut self, _: &mut Context<'_>, _: Timestamp) {
        self.ledger().tell(Seen::Keepalive);
    }

    fn reset(&mut self, connection: &Connection, fault: &Fault) {
        let mut ledger = self.ledger();
        let mut peers = ledger.connections.iter();
        let peer = peers.find(|(_, newest)| newest.is(connection));
        if let Some(peer) = peer.map(|(peer, _)| *peer) {
            ledger.forget(peer);
        }
        ledger.tell(Seen::Reset(fault.to_string()));
    }

    fn rejected(&mut self, fault: &Fault) {
        self.ledger().tell(Seen::Rejected(fault.to_string()));
    }

    fn refused(&mut self, _: &Connection, _: &Fault) {
        self.ledger().tell(Seen::Refused);
    }
}
