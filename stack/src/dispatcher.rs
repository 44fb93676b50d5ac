//! [`Dispatcher`]: the application's side of a messenger.

use std::time::Instant;

use msgr_protocol::{Message, Peer, Ticket, Timestamp};

use crate::connection::{Connection, ConnectionId, SendRefusal};
use crate::error::Fault;
use crate::reactor::Core;
use crate::received::Received;

/// What an application does with what happens on its connections.
///
/// Callbacks run on the reactor's thread (what Ceph calls fast dispatch) and must not block. Each
/// reactor has a dispatcher of its own. Per connection they come in this order: `connected` or
/// `accepted`, once; messages, `interrupted` and `remote_reset` as they happen; `reset`, at its end
/// unless we marked it down. A connection that fails before it is ready is only told by `reset` if
/// it was ours, by `rejected` if a peer opened it.
///
/// A lossless session outlives its byte streams: they come and go without a word but
/// `interrupted`.
pub trait Dispatcher: Send {
    /// A connection of ours is ready.
    fn connected(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// A connection that a peer opened is ready.
    fn accepted(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// The next message of a connection. Dropping it gives back the budget that it took.
    fn message(&mut self, context: &mut Context<'_>, message: Received);

    /// The peer answered a keepalive.
    fn keepalive_ack(&mut self, context: &mut Context<'_>, stamp: Timestamp) {
        let _ = (context, stamp);
    }

    /// The peer forgot the session, because it was restarted or has marked the connection down.
    /// What was queued or not acknowledged is dropped, as far as the policy says so; the connection
    /// goes on with a new session.
    fn remote_reset(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// The stream of a lossless session ended, or an attempt to make one failed. Nothing is lost:
    /// the session goes on as its policy says.
    fn interrupted(&mut self, context: &mut Context<'_>, fault: &Fault) {
        let _ = (context, fault);
    }

    /// A message was taken back, by [`Connection::cancel`] or because its deadline passed: the peer
    /// will not see it.
    fn cancelled(&mut self, context: &mut Context<'_>, ticket: Ticket) {
        let _ = (context, ticket);
    }

    /// A connection and its session ended: what was on its way is lost, unless it was shut down in
    /// good order.
    fn reset(&mut self, connection: &Connection, fault: &Fault) {
        let _ = (connection, fault);
    }

    /// A connection that a peer opened ended before it was ready.
    fn rejected(&mut self, fault: &Fault) {
        let _ = fault;
    }

    /// Nobody listens at the address of a connection of ours. [`reset`](Self::reset) follows on a
    /// lossy one, [`interrupted`](Self::interrupted) on others.
    fn refused(&mut self, connection: &Connection, fault: &Fault) {
        let _ = (connection, fault);
    }
}

/// The connection that a callback is about, and what may be done from within it. Unlike the calls
/// on a [`Connection`], these neither lock nor wake anybody.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) id: ConnectionId,
    pub(crate) now: Instant,
}

impl Context<'_> {
    /// A handle to the connection, for other threads or later. `None` once it was marked down.
    pub fn connection(&self) -> Option<Connection> {
        self.core.handle(self.id).cloned()
    }

    /// The other end. `None` for a connection to ourselves.
    pub fn peer(&self) -> Option<&Peer> {
        self.core.peer(self.id)
    }

    /// Names the connection within this dispatcher.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// When this turn of the reactor began.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Queues a message on this connection; it leaves at the end of the turn.
    ///
    /// # Errors
    /// [`SendRefusal`]; the message is dropped.
    pub fn send(&mut self, message: Message) -> Result<(), SendRefusal> {
        let most = self.core.settings().send_backlog;
        self.core.send(self.id, message, most)
    }

    /// The memory, in bytes, that unsent messages of this connection hold.
    pub fn queued(&self) -> usize {
        self.core.queued(self.id)
    }

    /// Asks the peer for a sign of life; it echoes `stamp`.
    pub fn keepalive(&mut self, stamp: Timestamp) {
        self.core.keepalive(self.id, stamp);
    }

    /// Queues a message on this connection that can be taken back, and is if it has not left before
    /// `deadline`.
    ///
    /// # Errors
    /// [`SendRefusal`]; the message is dropped.
    pub fn send_cancellable(
        &mut self,
        message: Message,
        deadline: Option<Instant>,
    ) -> Result<Ticket, SendRefusal> {
        let most = self.core.settings().send_backlog;
        let ticket = self.core.shared.next_ticket();
        self.core
            .send_cancellable(self.id, message, most, ticket, deadline)?;
        Ok(ticket)
    }

    /// Ends the connection once this callback returns; what is queued is dropped and the
    /// dispatcher is not told.
    pub fn mark_down(&mut self) {
        self.core.mark_down(self.id);
    }
}
