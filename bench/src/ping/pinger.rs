//! [`Pinger`]: keeps a run going on the reactor, and tells the main thread what it must know.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use msgr::{Connection, Context, Dispatcher, Fault, Received};
use msgr_protocol::{EntityAddr, State, Timestamp};

use super::run::Run;

/// What the main thread is told.
#[derive(Debug)]
pub(super) enum News {
    /// Every reply is there, or one was wrong.
    Finished,
    /// The session has ended: there must be another.
    Ended(Fault),
    /// The session got no connection; it tries again.
    Failed(Fault),
}

/// Keeps the window full and checks what comes back.
pub(super) struct Pinger {
    server: EntityAddr,
    run: Arc<Mutex<Run>>,
    news: Sender<News>,
}

impl Pinger {
    pub(super) fn new(server: EntityAddr, run: Arc<Mutex<Run>>, news: Sender<News>) -> Self {
        Self { server, run, news }
    }

    /// Never contended while messages flow: the main thread looks only at the end.
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: News) {
        // The main thread may have given up already.
        let _ = self.news.send(news);
    }

    fn begin(&self, context: &mut Context<'_>) {
        let mut run = self.run();
        run.begin();
        self.go_on(run, context);
    }

    fn go_on(&self, mut run: MutexGuard<'_, Run>, context: &mut Context<'_>) {
        if run.is_complete() || run.violations() > 0 {
            self.tell(News::Finished);
        } else if run.is_session_over() {
            // With the answer we know that the server has our acknowledgements. It would send
            // again what it believes we have not received, to our next session even.
            context.keepalive(run.last_question());
        } else {
            run.fill(context);
        }
    }
}

impl Dispatcher for Pinger {
    fn connected(&mut self, context: &mut Context<'_>) {
        tracing::debug!("connected to {}", self.server);
        self.begin(context);
    }

    /// The server has come back with what it could not get rid of in an earlier session.
    fn accepted(&mut self, context: &mut Context<'_>) {
        let server = self.server;
        if context
            .peer()
            .is_some_and(|peer| peer.addrs.contains(&server))
        {
            self.begin(context);
        } else {
            context.mark_down();
        }
    }

    fn message(&mut self, context: &mut Context<'_>, message: Received) {
        let mut run = self.run();
        run.reply(&message);
        self.go_on(run, context);
    }

    fn keepalive_ack(&mut self, context: &mut Context<'_>, stamp: Timestamp) {
        let mut run = self.run();
        if run.is_session_over() && stamp == run.last_question() {
            run.close();
            context.connection().iter().for_each(Connection::shutdown);
        }
    }

    fn remote_reset(&mut self, context: &mut Context<'_>) {
        tracing::info!("{} forgot the session", self.server);
        self.begin(context);
    }

    fn interrupted(&mut self, context: &mut Context<'_>, fault: &Fault) {
        let run = self.run();
        if run.is_session_over() {
            // The question may be lost.
            context.keepalive(run.last_question());
        }
        if fault.state != State::Ready || fault.is_final() {
            self.tell(News::Failed(fault.clone()));
        }
    }

    fn reset(&mut self, _: &Connection, fault: &Fault) {
        self.tell(News::Ended(fault.clone()));
    }
}
