//! A transport that always has something to do, as a port that others flood.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use msgr::protocol::{EntityType, Policy, TxQueue};
use msgr::transport::posix::Posix;
use msgr::transport::{
    BufferPool, Caps, Close, ConnId, ConnectOptions, Cost, Event, ListenOptions, ListenerId,
    OpenError, Park, SendError, Transport,
};
use msgr::{Context, Dispatcher, Messenger, Received, Settings};

/// Long enough for any machine; nothing waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(100);

/// Says of each poll that there was something.
struct Busy(Posix);

impl Transport for Busy {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn listen(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> Result<(ListenerId, SocketAddr), OpenError> {
        self.0.listen(at, options)
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.0.unlisten(listener);
    }

    fn connect(&mut self, to: SocketAddr, options: &ConnectOptions) -> Result<ConnId, OpenError> {
        self.0.connect(to, options)
    }

    fn send(&mut self, conn: ConnId, queue: &mut TxQueue) -> Result<usize, SendError> {
        self.0.send(conn, queue)
    }

    fn flush(&mut self) {
        self.0.flush();
    }

    fn poll(&mut self, now: Instant, events: &mut Vec<Event>) -> bool {
        self.0.poll(now, events);
        true
    }

    fn place(&mut self, conn: ConnId, buffer: BytesMut) -> Result<(), BytesMut> {
        self.0.place(conn, buffer)
    }

    fn set_receive(&mut self, conn: ConnId, enabled: bool) {
        self.0.set_receive(conn, enabled);
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        self.0.close(conn, how);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.0.next_timeout()
    }

    fn park(&mut self) -> Park<'_> {
        panic!("it is never idle");
    }

    fn pool(&mut self) -> &mut BufferPool {
        self.0.pool()
    }

    fn cost(&self) -> Cost {
        self.0.cost()
    }
}

struct Nobody;

impl Dispatcher for Nobody {
    fn message(&mut self, _: &mut Context<'_>, _: Received) {}
}

#[test]
fn a_reactor_that_is_never_idle_shuts_down() {
    let (ended, end) = channel();
    std::thread::spawn(move || {
        let start = |name: &str, policy| {
            let settings = Settings::new(name.parse().unwrap(), policy);
            let open = || Ok(Box::new(Busy(Posix::new()?)) as _);
            Messenger::start(settings, open, |_| Nobody).unwrap()
        };
        let server = start("osd.3", Policy::STATELESS_SERVER);
        let at = server.bind("v2:127.0.0.1:0/17".parse().unwrap()).unwrap();
        let client = start("client.7", Policy::LOSSY_CLIENT);
        client.connect(EntityType::Osd, at).unwrap();
        client.shutdown();
        server.shutdown();
        ended.send(()).unwrap();
    });
    end.recv_timeout(PATIENCE).expect("they shut down");
}
