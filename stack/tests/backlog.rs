//! More is queued than one send takes: the peer gets the first of it while the rest is laid out.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use msgr::protocol::{EntityType, Message, Payload, Policy};
use msgr::transport::middleware::Counter;
use msgr::transport::posix::Posix;
use msgr::{Context, Dispatcher, Messenger, Received, Settings};

/// Sends so many messages at once, each longer than half of what a socket's queue takes.
struct Burst(usize);

impl Dispatcher for Burst {
    fn connected(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.0 {
            let mut message = Message::new(1);
            message.data = Payload::from(vec![7; 700 << 10]);
            context.send(message).unwrap();
        }
    }

    fn message(&mut self, _: &mut Context<'_>, _: Received) {}
}

#[test]
fn what_is_laid_out_leaves_before_more_is() {
    let settings = |name: &str, policy| Settings::new(name.parse().unwrap(), policy);
    let open = || Counter::new(Posix::new().unwrap());
    let (server, client) = (open(), open());
    let counts = client.counts();
    let server = Messenger::driven_by_caller(
        settings("osd.0", Policy::STATELESS_SERVER),
        Box::new(server),
        Burst(0),
    );
    let (server, mut acceptor) = server.unwrap();
    let addr = acceptor.bind("v2:127.0.0.1:0/0".parse().unwrap()).unwrap();
    let client = Messenger::driven_by_caller(
        settings("client.0", Policy::LOSSY_CLIENT),
        Box::new(client),
        Burst(16),
    );
    let (client, mut connector) = client.unwrap();
    client.connect(EntityType::Osd, addr).unwrap();

    // In a turn of the client that sends the rest of a message and begins another.
    let mut most = 0;
    while server.totals().messages_received < 16 {
        let before = counts.tally().flushes;
        connector.turn(Instant::now());
        most = most.max(counts.tally().flushes - before);
        acceptor.turn(Instant::now());
    }
    assert!(most >= 2, "{most} flushes");
}
