//! What other threads ask of a reactor.

use std::time::Instant;

use msgr_protocol::{EntityAddr, EntityType};

use super::{Context, Reactor};
use crate::connection::Connection;
use crate::inbox::Command;

/// Commands taken in one turn: enough to amortise it, few enough not to starve the transport.
const COMMANDS_PER_TURN: usize = 256;

impl Reactor {
    pub(super) fn take_commands(&mut self, now: Instant) -> bool {
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
                    && let Err(error) = self.core.send(id, message, usize::MAX)
                {
                    tracing::warn!("{to:?}: message dropped: {error}");
                }
            }
            Command::Keepalive { to, stamp } => {
                to.id()
                    .into_iter()
                    .for_each(|id| self.core.keepalive(id, stamp));
            }
            Command::SendCancellable {
                to,
                message,
                ticket,
                deadline,
            } => {
                if let Some(id) = to.id()
                    && let Err(error) =
                        self.core
                            .send_cancellable(id, message, usize::MAX, ticket, deadline)
                {
                    tracing::warn!("{to:?}: message dropped: {error}");
                }
            }
            Command::Cancel { on, ticket } => {
                on.id()
                    .into_iter()
                    .for_each(|id| self.cancel(id, ticket, now));
            }
            Command::MarkDown { connection } => {
                connection
                    .id()
                    .into_iter()
                    .for_each(|id| self.core.mark_down(id));
            }
            Command::MakeDisposable { connection } => {
                connection
                    .id()
                    .into_iter()
                    .for_each(|id| self.core.make_disposable(id));
            }
            Command::Close { connection } => {
                connection
                    .id()
                    .into_iter()
                    .for_each(|id| self.core.begin_end(id, now));
            }
            Command::Dump { to } => {
                // Whoever asked may have stopped waiting.
                let _ = to.send(self.core.dump());
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
        let id = self.core.connect(handle, kind, target, now);
        self.dial(id, now);
    }
}
