//! [`Reactor`]: one polled loop. A turn takes commands, polls the transport, hands what came to
//! the connections and the dispatcher, expires timers, and transmits; all on one thread.
//!
//! A [`Messenger`](crate::Messenger) runs reactors on threads of their own; a simulation drives
//! them by hand with [`turn`](Reactor::turn).

mod core;
mod entry;
mod run;
mod timers;
mod transmit;

use std::sync::Arc;
use std::time::Instant;

use msgr_protocol::{ConnectionError, EntityAddr, EntityType, Event as ConnectionEvent, State};
use msgr_transport::{CloseReason, Cost, Event, Transport};

use crate::connection::{Connection, ConnectionId};
use crate::dispatcher::{Context, Dispatcher};
use crate::error::{BindError, FaultCause};
use crate::inbox::{Command, Inbox};
use crate::messenger::Shared;
use crate::metrics::add;

pub(crate) use self::core::Core;

/// Commands taken in one turn: enough to amortise it, few enough not to starve the transport.
const COMMANDS_PER_TURN: usize = 256;

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
        self.expire(now);
        self.core.transmit(now);
        if self.shut_down_by.is_some() {
            self.core.close_drained();
        }
        busy
    }

    /// When [`turn`](Self::turn) must be called next even if nothing happens.
    pub fn next_timeout(&self) -> Option<Instant> {
        let times = [
            self.core.timers.next(),
            self.core.transport.next_timeout(),
            self.shut_down_by,
        ];
        times.into_iter().flatten().min()
    }

    /// The number of connections, ready or not.
    pub fn connections(&self) -> usize {
        self.core.len()
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
        let drained = || self.core.len() == 0 && self.core.transport.next_timeout().is_none();
        self.shut_down_by.is_some_and(|by| now >= by || drained())
    }

    fn take_commands(&mut self, now: Instant) -> bool {
        for taken in 0..COMMANDS_PER_TURN {
            let Some(command) = self.inbox.pop() else {
                return taken > 0;
            };
            self.command(command, now);
        }
        true
    }

    fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Bind { at, bound } => {
                // Whoever asked may have stopped waiting.
                let _ = bound.send(self.core.bind(at));
            }
            Command::Connect {
                connection,
                kind,
                target,
            } => {
                self.connect(connection, kind, target, now);
            }
            Command::Send { to, message } => {
                if let Some(id) = to.id()
                    && let Err(error) = self.core.send(id, message)
                {
                    tracing::warn!("{to:?}: message dropped: {error}");
                }
            }
            Command::Keepalive { to, stamp } => {
                to.id()
                    .into_iter()
                    .for_each(|id| self.core.keepalive(id, stamp));
            }
            Command::MarkDown { connection } => {
                connection
                    .id()
                    .into_iter()
                    .for_each(|id| self.core.mark_down(id));
            }
            Command::Shutdown => self.shut_down(now),
        }
    }

    fn connect(&mut self, handle: Connection, kind: EntityType, target: EntityAddr, now: Instant) {
        if self.core.is_ours(&target) {
            let id = self.core.add_loopback(handle);
            self.dispatcher.connected(&mut Context {
                core: &mut self.core,
                id,
                now,
            });
            return;
        }
        if let Err(fault) = self.core.connect(handle.clone(), kind, target, now) {
            self.core.forget(&handle);
            self.dispatcher.reset(&handle, &fault);
        }
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
                if let Some(id) = self.core.id_of(conn) {
                    self.core.receive(id, bytes, now);
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
                    self.fault(id, FaultCause::Transport { reason, mid_frame }, None);
                }
            }
        }
    }

    /// Lets a connection take in what it has received, and tells the dispatcher.
    fn pump(&mut self, id: ConnectionId, now: Instant) {
        while let Some(polled) = self.core.poll(id) {
            let context = &mut Context {
                core: &mut self.core,
                id,
                now,
            };
            match polled {
                Ok(ConnectionEvent::Message(message)) => {
                    let metrics = context.core.metrics();
                    add(&metrics.messages_received, 1);
                    add(&metrics.bytes_received, message.payload_len());
                    self.dispatcher.message(context, message);
                    if self.core.is_lot_full() {
                        self.core.transmit(now);
                    }
                }
                Ok(ConnectionEvent::KeepaliveAck(stamp)) => {
                    self.dispatcher.keepalive_ack(context, stamp);
                }
                Ok(ConnectionEvent::Ready) => {
                    if context.core.set_ready(id) {
                        self.dispatcher.connected(context);
                    } else {
                        self.dispatcher.accepted(context);
                    }
                }
                Err(error) => {
                    let ConnectionError { state, cause, .. } = error;
                    self.fault(id, FaultCause::Protocol(cause), Some(state));
                    return;
                }
            }
        }
        self.core.place(id);
        self.core.touch(id);
    }

    /// Ends a connection because of `cause`, and tells the dispatcher. `left` is the state it was in, if
    /// the protocol has left that already.
    fn fault(&mut self, id: ConnectionId, cause: FaultCause, left: Option<State>) {
        let refused = matches!(
            cause,
            FaultCause::Transport {
                reason: CloseReason::Refused,
                ..
            }
        );
        let Some((handle, fault, stage)) = self.core.fault(id, cause, left) else {
            return;
        };
        tracing::debug!("{fault}");
        match stage {
            entry::Stage::Accepting => self.dispatcher.rejected(&fault),
            entry::Stage::Connecting if refused => {
                self.dispatcher.refused(&handle, &fault);
                self.dispatcher.reset(&handle, &fault);
            }
            _ => self.dispatcher.reset(&handle, &fault),
        }
    }

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
                    message,
                );
            }
        }
        due > 0
    }

    fn expire(&mut self, now: Instant) {
        while let Some(id) = self.core.timers.expired(now) {
            if let Some(cause) = self.core.overdue(id, now) {
                self.fault(id, cause, None);
            }
        }
    }
}
