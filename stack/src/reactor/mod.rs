//! [`Reactor`]: one polled loop. A turn takes commands, polls the transport, hands what came to
//! the connections and the dispatcher, expires timers, and transmits; all on one thread.
//!
//! A [`Messenger`](crate::Messenger) runs reactors on threads of their own; a simulation drives
//! them by hand with [`turn`](Reactor::turn).

mod admission;
mod commands;
mod core;
mod entry;
mod opening;
mod run;
mod session;
mod timers;
mod transmit;

use std::sync::Arc;
use std::time::Instant;

use msgr_protocol::{EntityAddr, Event as ConnectionEvent, Message, State, Ticket, Timestamp};
use msgr_transport::{Close, CloseReason, Cost, Event, Transport};

use crate::connection::ConnectionId;
use crate::dispatcher::{Context, Dispatcher};
use crate::dump::ConnectionDump;
use crate::error::{BindError, Fault, FaultCause};
use crate::inbox::Inbox;
use crate::messenger::Shared;
use crate::metrics::add;
use crate::received::Received;

use self::session::{Met, Outcome};

pub(crate) use self::core::Core;

/// One polled loop with its transport, its connections and its dispatcher.
pub struct Reactor {
    core: Core,
    inbox: Arc<Inbox>,
    dispatcher: Box<dyn Dispatcher>,
    events: Vec<Event>,
    /// When to stop waiting for messages to leave, once shut down.
    shut_down_by: Option<Instant>,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

impl Reactor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        number: usize,
        inbox: Arc<Inbox>,
        transport: Box<dyn Transport>,
        dispatcher: Box<dyn Dispatcher>,
    ) -> Self {
        Self {
            core: Core::new(shared, number, Arc::clone(&inbox), transport),
            inbox,
            dispatcher,
            events: Vec::new(),
            shut_down_by: None,
        }
    }

    /// Does what is due at `now` and returns whether there was anything to do.
    pub fn turn(&mut self, now: Instant) -> bool {
        let mut busy = self.take_commands(now);
        busy |= self.core.transport.poll(now, &mut self.events);
        busy |= !self.events.is_empty();
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.event(event, now);
        }
        self.events = events;
        busy |= self.deliver_local(now);
        busy |= self.feed_starved(now);
        busy |= self.expire(now);
        self.core.transmit(now);
        self.end_drained(now);
        busy
    }

    /// When [`turn`](Self::turn) must be called next even if nothing happens.
    pub fn next_timeout(&self) -> Option<Instant> {
        let times = [
            self.core.timers.next(),
            self.core.transport.next_timeout(),
            self.core.next_cancellation(),
            self.shut_down_by,
        ];
        times.into_iter().flatten().min()
    }

    /// The number of connections, ready or not.
    pub fn connections(&self) -> usize {
        self.core.len()
    }

    /// All connections at this moment.
    pub fn dump(&self) -> Vec<ConnectionDump> {
        self.core.dump()
    }

    /// What the transport's work has cost so far.
    pub fn cost(&self) -> Cost {
        self.core.transport.cost()
    }

    /// Listens at `at`, and returns the address with the real port.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(&mut self, at: EntityAddr) -> Result<EntityAddr, BindError> {
        self.core.bind(at)
    }

    /// Stops listening and ends every connection once its messages have left.
    pub fn shut_down(&mut self, now: Instant) {
        if self.shut_down_by.is_none() {
            self.inbox.close();
            self.core.unlisten();
            self.shut_down_by = Some(now + self.core.settings().timeouts.shutdown);
        }
    }

    /// Whether everything has ended after [`shut_down`](Self::shut_down).
    pub fn is_finished(&self, now: Instant) -> bool {
        let drained = || {
            self.inbox.is_empty()
                && self.core.len() == 0
                && self.core.transport.next_timeout().is_none()
        };
        self.shut_down_by.is_some_and(|by| now >= by || drained())
    }

    fn dial(&mut self, id: ConnectionId, now: Instant) {
        if let Err(cause) = self.core.dial(id, now) {
            self.fault(id, cause, now);
        }
    }

    fn reconnect(&mut self, id: ConnectionId, now: Instant) {
        self.core.prepare_stream(id);
        self.dial(id, now);
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Accepted {
                conn,
                local,
                remote,
                ..
            } => {
                self.core.accept(conn, local, remote, now);
            }
            Event::Connected { conn, local } => self.core.connected(conn, local),
            Event::Data { conn, bytes } => {
                if let Some(id) = self.core.receive(conn, bytes, now) {
                    self.pump(id, now);
                }
            }
            Event::Room { conn } => {
                self.core
                    .id_of(conn)
                    .into_iter()
                    .for_each(|id| self.core.touch(id));
            }
            Event::Closed { conn, reason } => {
                if let Some(id) = self.core.id_of(conn) {
                    let mid_frame = self.core.is_mid_frame(id);
                    self.fault(id, FaultCause::Transport { reason, mid_frame }, now);
                }
            }
        }
    }

    /// Lets a connection take in what it has received, and tells the dispatcher.
    fn pump(&mut self, mut id: ConnectionId, now: Instant) {
        loop {
            match self.core.poll(id) {
                Ok(None) => break,
                Ok(Some(ConnectionEvent::Message)) => self.message(id, now),
                Ok(Some(ConnectionEvent::KeepaliveAck(stamp))) => {
                    self.keepalive_ack(id, stamp, now);
                }
                Ok(Some(ConnectionEvent::Ready)) => self.ready(id, now),
                Ok(Some(ConnectionEvent::SessionRequested)) => match self.meet(id, now) {
                    Some(ready) => id = ready,
                    None => break,
                },
                Ok(Some(ConnectionEvent::RemoteReset)) => self.remote_reset(id, now),
                Ok(Some(ConnectionEvent::RetryGlobal { above })) => self.core.retry(id, above),
                Ok(Some(ConnectionEvent::AuthRefused(error))) => {
                    self.core.auth_refused(id, &error);
                }
                Ok(Some(ConnectionEvent::Wait)) => {
                    self.core.wait_for_peer(id, now);
                    return;
                }
                Err(error) => {
                    self.fault(id, FaultCause::Protocol(error.cause), now);
                    return;
                }
            }
        }
        self.core.settle(id);
    }

    #[inline]
    fn message(&mut self, id: ConnectionId, now: Instant) {
        let Some(wire) = self.core.wire_mut(id) else {
            return;
        };
        // Filled in place, it need not be moved.
        let mut message = Received::new(Message::default(), None);
        message.fill(&mut wire.protocol, &mut wire.charge);
        add(&self.core.metrics.messages_received, 1);
        add(&self.core.metrics.bytes_received, message.payload_len());
        let context = &mut Context {
            core: &mut self.core,
            id,
            now,
        };
        self.dispatcher.message(context, message);
        if self.core.is_lot_full() {
            self.core.transmit(now);
        }
    }

    fn keepalive_ack(&mut self, id: ConnectionId, stamp: Timestamp, now: Instant) {
        if let Some(handle) = self.core.handle(id) {
            handle.set_keepalive_ack(stamp);
        }
        let context = &mut Context {
            core: &mut self.core,
            id,
            now,
        };
        self.dispatcher.keepalive_ack(context, stamp);
    }

    fn ready(&mut self, id: ConnectionId, now: Instant) {
        let told = self.core.set_ready(id, now);
        let context = &mut Context {
            core: &mut self.core,
            id,
            now,
        };
        match told {
            Some(true) => self.dispatcher.connected(context),
            Some(false) => self.dispatcher.accepted(context),
            None => {}
        }
    }

    fn remote_reset(&mut self, id: ConnectionId, now: Instant) {
        add(&self.core.metrics.remote_resets, 1);
        self.dispatcher.remote_reset(&mut Context {
            core: &mut self.core,
            id,
            now,
        });
    }

    /// Answers a peer that asks for a session. Returns the connection that its stream now belongs
    /// to, if there is more to be taken in.
    fn meet(&mut self, newcomer: ConnectionId, now: Instant) -> Option<ConnectionId> {
        let known = self.core.known(newcomer);
        while let Some(known) = &known
            && known.id().is_none()
            && !known.is_closed()
        {
            // The application has asked for it a moment ago.
            self.take_commands(now);
        }
        let known = known.and_then(|known| known.id());
        match self.core.meet(newcomer, known, now) {
            Met::Ready {
                id,
                remote_reset,
                replaced,
            } => {
                if let Some((handle, fault)) = replaced {
                    self.dispatcher.reset(&handle, &fault);
                }
                if remote_reset {
                    self.remote_reset(id, now);
                }
                self.ready(id, now);
                Some(id)
            }
            Met::Answered => Some(newcomer),
            Met::Outrun(known) => {
                self.fault(known, FaultCause::Outrun, now);
                Some(newcomer)
            }
            Met::Failed(error) => {
                self.fault(newcomer, FaultCause::Protocol(error.cause), now);
                None
            }
        }
    }

    /// Ends a stream because of `cause`, and tells the dispatcher.
    fn fault(&mut self, id: ConnectionId, cause: FaultCause, now: Instant) {
        let refused = matches!(
            cause,
            FaultCause::Transport {
                reason: CloseReason::Refused,
                ..
            }
        );
        match self.core.fault(id, cause, now) {
            Some(Outcome::Ended {
                handle: Some(handle),
                fault,
            }) => {
                tracing::debug!("{fault}");
                if refused {
                    self.dispatcher.refused(&handle, &fault);
                }
                self.dispatcher.reset(&handle, &fault);
            }
            Some(Outcome::Ended {
                handle: None,
                fault,
            }) => self.dispatcher.rejected(&fault),
            Some(Outcome::Interrupted(fault)) => self.interrupted(id, &fault, refused, now),
            Some(Outcome::Silent) | None => {}
        }
    }

    fn interrupted(&mut self, id: ConnectionId, fault: &Fault, refused: bool, now: Instant) {
        tracing::debug!("{fault}; the session goes on");
        if refused && let Some(handle) = self.core.handle(id) {
            self.dispatcher.refused(&handle.clone(), fault);
        }
        let context = &mut Context {
            core: &mut self.core,
            id,
            now,
        };
        self.dispatcher.interrupted(context, fault);
    }

    #[inline]
    fn deliver_local(&mut self, now: Instant) -> bool {
        // What these callbacks send is delivered in the next turn.
        let due = self.core.local.len();
        for _ in 0..due {
            let Some((id, message)) = self.core.local.pop_front() else {
                break;
            };
            if self.core.contains(id) {
                self.dispatcher.message(
                    &mut Context {
                        core: &mut self.core,
                        id,
                        now,
                    },
                    Received::new(message, None),
                );
            }
        }
        due > 0
    }

    /// Lets connections that waited for room in a budget try again.
    fn feed_starved(&mut self, now: Instant) -> bool {
        let due = if self.inbox.take_room() {
            self.core.starved.len()
        } else {
            0
        };
        for _ in 0..due {
            if let Some(id) = self.core.starved.pop_front()
                && self.core.end_starvation(id)
            {
                self.pump(id, now);
            }
        }
        due > 0
    }

    fn cancel(&mut self, id: ConnectionId, ticket: Ticket, now: Instant) {
        if self.core.cancel(id, ticket) {
            self.dispatcher.cancelled(
                &mut Context {
                    core: &mut self.core,
                    id,
                    now,
                },
                ticket,
            );
        }
    }

    /// Does what was set for a time that has come. It may have given the transport work, which
    /// that looks at in the next turn.
    fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((id, ticket)) = self.core.due_cancellation(now) {
            self.cancel(id, ticket, now);
            any = true;
        }
        while let Some(id) = self.core.timers.expired(now) {
            self.overdue(id, now);
            any = true;
        }
        any
    }

    /// Does what is due when a connection's timer has expired.
    fn overdue(&mut self, id: ConnectionId, now: Instant) {
        let idle = self.core.settings().timeouts.idle;
        let Some(wire) = self.core.wire_mut(id) else {
            return;
        };
        wire.deadline = None;
        if wire.end_by.is_some_and(|end| end <= now) {
            self.end(id, FaultCause::ShutDownTimeout);
            return;
        }
        match wire.protocol.state() {
            State::StartConnect | State::Wait => self.reconnect(id, now),
            // We are the ones who do not read: that is no reason to hang up.
            State::Ready if wire.starved => self.core.set_deadline(id, Some(now + idle)),
            State::Ready if wire.active + idle > now => {
                let deadline = wire.active + idle;
                self.core.set_deadline(id, Some(deadline));
            }
            State::Ready => self.fault(id, FaultCause::IdleTimeout, now),
            State::Standby | State::Closed => {}
            _ => self.fault(id, FaultCause::ReadyTimeout, now),
        }
    }

    /// Ends what was shut down and has nothing left to send.
    fn end_drained(&mut self, now: Instant) {
        if self.shut_down_by.is_some() {
            self.core.close_drained();
        }
        for id in std::mem::take(&mut self.core.ending) {
            match self.core.wire(id) {
                Some(wire) if wire.is_drained() => self.end(id, FaultCause::ShutDown),
                Some(_) => self.core.ending.push(id),
                None => {}
            }
        }
        while let Some(id) = self.core.wanting.pop() {
            if self
                .core
                .wire(id)
                .is_some_and(|wire| wire.protocol.wants_stream())
            {
                self.reconnect(id, now);
            }
        }
    }

    fn end(&mut self, id: ConnectionId, cause: FaultCause) {
        let Some(wire) = self.core.wire(id) else {
            return;
        };
        let (peer, state) = (
            Box::new(wire.protocol.peer().clone()),
            wire.protocol.state(),
        );
        if let Some(entry) = self.core.remove(id, Close::Drain) {
            let fault = Fault { peer, state, cause };
            self.dispatcher.reset(&entry.handle, &fault);
        }
    }
}
