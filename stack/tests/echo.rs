//! Two messengers, each with its own thread, over real sockets.

#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use msgr::protocol::{EntityAddr, EntityName, EntityType, Message, Policy};
use msgr::transport::posix::Posix;
use msgr::{Connection, Context, Dispatcher, Fault, FaultCause, Messenger, Received, Settings};

/// Long enough for any machine; nothing waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
enum Seen {
    Connected,
    Accepted,
    Message(Message),
    Refused,
    Reset(Fault),
}

/// Tells the test everything; the server's also answers messages with themselves.
struct Witness {
    told: Sender<Seen>,
    echo: bool,
}

impl Witness {
    fn tell(&self, seen: Seen) {
        // The test may have ended.
        let _ = self.told.send(seen);
    }
}

impl Dispatcher for Witness {
    fn connected(&mut self, _: &mut Context<'_>) {
        self.tell(Seen::Connected);
    }

    fn accepted(&mut self, _: &mut Context<'_>) {
        self.tell(Seen::Accepted);
    }

    fn message(&mut self, context: &mut Context<'_>, message: Received) {
        if self.echo {
            context.send(message.clone()).unwrap();
        }
        self.tell(Seen::Message(message.into_message()));
    }

    fn refused(&mut self, _: &Connection, _: &Fault) {
        self.tell(Seen::Refused);
    }

    fn reset(&mut self, _: &Connection, fault: &Fault) {
        self.tell(Seen::Reset(fault.clone()));
    }
}

fn start(name: &str, policy: Policy, echo: bool) -> (Messenger, Receiver<Seen>) {
    let (told, seen) = channel();
    let mut settings = Settings::new(name.parse().unwrap(), policy);
    settings.timeouts.ready = PATIENCE;
    let open = || Ok(Box::new(Posix::new()?) as _);
    let messenger = Messenger::start(settings, open, |_| Witness {
        told: told.clone(),
        echo,
    })
    .unwrap();
    (messenger, seen)
}

fn server() -> (Messenger, EntityAddr, Receiver<Seen>) {
    server_at("v2:127.0.0.1:0/17")
}

fn server_at(addr: &str) -> (Messenger, EntityAddr, Receiver<Seen>) {
    let (messenger, seen) = start("osd.3", Policy::STATELESS_SERVER, true);
    let addr = messenger.bind(addr.parse().unwrap()).unwrap();
    (messenger, addr, seen)
}

fn client() -> (Messenger, Receiver<Seen>) {
    start("client.7", Policy::LOSSY_CLIENT, false)
}

fn next(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(PATIENCE).expect("something happens")
}

fn message(tid: u64, data: usize) -> Message {
    let mut message = Message::new(42);
    message.header.tid = tid;
    message.front = vec![tid as u8; 100].into();
    message.data = (0..data)
        .map(|i| (i as u64 * tid) as u8)
        .collect::<Vec<_>>()
        .into();
    message
}

#[test]
fn messages_come_back_in_order_and_intact() {
    for at in ["v2:127.0.0.1:0/17", "v2:[::1]:0/0", "v2:0.0.0.0:0/5"] {
        let (server, mut addr, at_server) = server_at(at);
        if let Some(socket) = &mut addr.socket
            && socket.ip().is_unspecified()
        {
            socket.set_ip([127, 0, 0, 1].into());
        }
        let (client, at_client) = client();
        let connection = client.connect(EntityType::Osd, addr).unwrap();
        let sizes = [0, 1, 4096, 70_000, 3 << 20, 200_000, 5];
        for (tid, size) in (1..).zip(sizes) {
            connection.send(message(tid, size)).unwrap();
        }
        assert!(matches!(next(&at_client), Seen::Connected));
        assert!(matches!(next(&at_server), Seen::Accepted));
        for (tid, size) in (1..).zip(sizes) {
            let Seen::Message(reply) = next(&at_client) else {
                panic!("not a message")
            };
            let sent = message(tid, size);
            assert_eq!(reply.header.seq, tid);
            assert_eq!((reply.header.tid, reply.header.kind), (tid, 42));
            assert_eq!((&reply.front, &reply.data), (&sent.front, &sent.data));
        }
        assert!(connection.is_connected());
        let peer = connection.peer().unwrap();
        assert_eq!(
            peer.name,
            Some(EntityName {
                kind: EntityType::Osd,
                num: 3
            })
        );
        client.shutdown();
        server.shutdown();
        assert_eq!(server.totals().messages_received, sizes.len() as u64);
        assert_eq!(client.totals().messages_received, sizes.len() as u64);
        assert!(connection.is_closed());
        assert!(connection.send(message(1, 1)).is_err());
    }
}

#[test]
fn dialling_twice_gives_the_same_connection_until_it_ends() {
    let (server, addr, _at_server) = server();
    let (client, at_client) = client();
    let first = client.connect(EntityType::Osd, addr).unwrap();
    assert!(first.is(&client.connect(EntityType::Osd, addr).unwrap()));
    assert!(matches!(next(&at_client), Seen::Connected));
    first.mark_down();
    while !first.is_closed() {
        std::thread::yield_now();
    }
    let second = client.connect(EntityType::Osd, addr).unwrap();
    assert!(!first.is(&second));
    assert!(
        matches!(next(&at_client), Seen::Connected),
        "marking down tells nobody"
    );
    client.shutdown();
    server.shutdown();
}

#[test]
fn a_refused_connection_is_told_as_refused_then_reset() {
    // Nobody else has a port there.
    let (server, addr, _at_server) = server_at("v2:127.0.0.9:0/17");
    server.shutdown();
    let (client, at_client) = client();
    client.connect(EntityType::Osd, addr).unwrap();
    assert!(matches!(next(&at_client), Seen::Refused));
    assert!(matches!(next(&at_client), Seen::Reset(_)));
    client.shutdown();
}

#[test]
fn the_wrong_type_of_peer_is_told_with_state_and_cause() {
    let (server, addr, _at_server) = server();
    let (client, at_client) = client();
    client.connect(EntityType::Mon, addr).unwrap();
    let Seen::Reset(fault) = next(&at_client) else {
        panic!("not a reset")
    };
    assert!(matches!(fault.cause, FaultCause::Protocol(_)), "{fault}");
    let text = fault.to_string();
    assert!(text.contains("type mon, osd answered"), "{text}");
    assert!(text.contains("HELLO_CONNECTING"), "{text}");
    client.shutdown();
    server.shutdown();
}

#[test]
fn the_wrong_nonce_is_not_the_peer_that_was_dialled() {
    let (server, addr, _at_server) = server();
    let (client, at_client) = client();
    client
        .connect(EntityType::Osd, EntityAddr { nonce: 18, ..addr })
        .unwrap();
    assert!(matches!(next(&at_client), Seen::Reset(_)));
    client.shutdown();
    server.shutdown();
}

#[test]
fn the_server_tells_a_reset_when_its_client_goes() {
    let (server, addr, at_server) = server();
    let (client, at_client) = client();
    let connection = client.connect(EntityType::Osd, addr).unwrap();
    assert!(matches!(next(&at_client), Seen::Connected));
    assert!(matches!(next(&at_server), Seen::Accepted));
    connection.mark_down();
    let Seen::Reset(fault) = next(&at_server) else {
        panic!("not a reset")
    };
    assert!(
        matches!(fault.cause, FaultCause::Transport { .. }),
        "{fault}"
    );
    assert_eq!(fault.peer.name.unwrap().to_string(), "client.7");
    client.shutdown();
    server.shutdown();
    assert_eq!(server.totals().resets, 1);
}

#[test]
fn our_own_address_is_reached_without_the_network() {
    let (messenger, seen) = start("osd.3", Policy::STATELESS_SERVER, false);
    let addr = messenger
        .bind("v2:127.0.0.1:0/17".parse().unwrap())
        .unwrap();
    let connection = messenger.connect(EntityType::Osd, addr).unwrap();
    connection.send(message(1, 10)).unwrap();
    connection.send(message(2, 10)).unwrap();
    assert!(matches!(next(&seen), Seen::Connected));
    for tid in 1..=2 {
        let Seen::Message(received) = next(&seen) else {
            panic!("not a message")
        };
        assert_eq!((received.header.seq, received.header.tid), (tid, tid));
    }
    messenger.shutdown();
    let totals = messenger.totals();
    assert_eq!((totals.accepted, totals.connected), (0, 0));
}

#[test]
fn two_messengers_cannot_bind_the_same_port() {
    let (first, addr, _seen) = server();
    let (second, _seen) = start("osd.4", Policy::STATELESS_SERVER, false);
    let error = second.bind(addr).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    first.shutdown();
    second.shutdown();
}
