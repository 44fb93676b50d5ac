//! Who shares a messenger and its connections, where connections originate, and whom an acceptor
//! takes a peer for: on real sockets and, where threads do not matter, on the simulated network and on
//! userspace TCP.

#![allow(clippy::unwrap_used)]

mod peers;
mod users;
mod world;

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use msgr::protocol::{EntityAddr, Message, Policy};
use msgr::transport::posix::Posix;
use msgr::transport::{OpenError, Transport};
use msgr::{BindError, Connection, Context, Dispatcher, Fault, Messenger, Received, Settings};

/// Nothing waits for it unless a test fails.
const PATIENCE: Duration = Duration::from_secs(100);

/// What a messenger's dispatchers were told.
#[derive(Debug, Default)]
struct Log {
    accepted: Vec<Connection>,
    received: Vec<u64>,
    ends: Vec<String>,
}

#[derive(Debug, Default)]
struct Witness {
    log: Mutex<Log>,
    news: Condvar,
}

impl Witness {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    fn note(&self, what: impl FnOnce(&mut Log)) {
        what(&mut self.log());
        self.news.notify_all();
    }

    /// Waits for a messenger that runs on its own threads.
    #[track_caller]
    fn wait_for(&self, done: impl Fn(&Log) -> bool) {
        let waited = self
            .news
            .wait_timeout_while(self.log(), PATIENCE, |log| !done(log));
        let (log, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "it never came to pass: {log:?}");
    }
}

struct Told(Arc<Witness>);

impl Dispatcher for Told {
    fn accepted(&mut self, context: &mut Context<'_>) {
        let connection = context.connection().unwrap();
        self.0.note(|log| log.accepted.push(connection));
    }

    fn message(&mut self, _: &mut Context<'_>, message: Received) {
        self.0.note(|log| log.received.push(message.header.tid));
    }

    fn reset(&mut self, _: &Connection, fault: &Fault) {
        self.0.note(|log| log.ends.push(fault.to_string()));
    }
}

fn message(tid: u64) -> Message {
    let mut message = Message::new(1);
    message.header.tid = tid;
    message
}

/// The transport of messengers on threads.
fn posix() -> Result<Box<dyn Transport>, OpenError> {
    Ok(Box::new(Posix::new()?))
}

/// A messenger on threads.
fn threaded(name: &str, policy: Policy, reactors: usize) -> (Messenger, Arc<Witness>) {
    let mut settings = Settings::new(name.parse().unwrap(), policy);
    settings.reactors = reactors;
    settings.timeouts.ready = PATIENCE;
    settings.connect_from_bound = true;
    let witness = Arc::<Witness>::default();
    let dispatcher = |_| Told(Arc::clone(&witness));
    let messenger = Messenger::start(settings, posix, dispatcher).unwrap();
    (messenger, witness)
}

fn any_port() -> EntityAddr {
    "v2:127.0.0.1:0/7".parse().unwrap()
}

#[track_caller]
fn assert_in_use(error: &BindError) {
    let BindError::Open(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse, "{error}");
}
