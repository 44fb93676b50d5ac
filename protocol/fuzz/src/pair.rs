//! Two ends of one connection, with nobody bad between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::driver::OPENING;
use bytes::Bytes;
use msgr_protocol::{
    Config, Connection, EntityAddr, EntityName, EntityType, Event, Features, Message, Policy,
    State, Timestamp, priority,
};

use super::chop::Chop;
use super::input::Input;
use super::output::transmit;
use super::script::{message, stamp};

/// Connects two ends; everything that one sends reaches the other once, in order and intact,
/// however the streams are cut and whoever is slow.
pub fn pair(data: &[u8]) {
    let input = &mut Input::new(data);
    let choices = input.u8();
    let [mut client, mut server] = ends(choices, input);
    while !input.is_empty() {
        let operation = input.u8();
        let (end, other) = if operation & 1 == 0 {
            (&mut client, &mut server)
        } else {
            (&mut server, &mut client)
        };
        match (operation >> 1) % 4 {
            0 => end.send(message(input)),
            1 => end.keepalive(stamp(input)),
            2 => end.transmit(input.len() * 16),
            _ => end.deliver_to(other),
        }
    }
    while client.has_work() || server.has_work() {
        for end in [&mut client, &mut server] {
            end.transmit(usize::MAX);
        }
        client.deliver_to(&mut server);
        server.deliver_to(&mut client);
    }
    client.agrees_with(&server);
    server.agrees_with(&client);
}

fn ends<'a>(choices: u8, input: &mut Input<'a>) -> [End<'a>; 2] {
    let name = |kind, num| EntityName { kind, num };
    let mut client = Config::new(name(EntityType::Client, 4242), Policy::LOSSY_CLIENT);
    let mut server = Config::new(name(EntityType::Osd, 3), Policy::STATELESS_SERVER);
    for (config, bit) in [(&mut client, 1), (&mut server, 2)] {
        if choices & bit != 0 {
            config.banner.supported = Features::default();
        }
        config.data_crc = choices & 4 == 0;
    }
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if choices & 8 != 0 {
        client.addrs = EntityAddr::msgr2(at(6801), 17).into();
    }
    let target = EntityAddr::msgr2(at(6800), 16);
    let bound = if choices & 16 == 0 {
        target
    } else {
        EntityAddr::msgr2((Ipv4Addr::UNSPECIFIED, 6800).into(), 16)
    };
    server.addrs = bound.into();
    let sockets = (at(50_000), at(6800));
    let [client, server] = [client, server].map(Arc::new);
    let connector = Connection::connect(client.clone(), target, EntityType::Osd, sockets, OPENING);
    let acceptor = Connection::accept(server.clone(), (sockets.1, sockets.0), OPENING);
    [(client, connector), (server, acceptor)].map(|(config, connection)| End {
        config,
        connection,
        ready: false,
        sent: Vec::new(),
        received: Vec::new(),
        asked: Vec::new(),
        answered: Vec::new(),
        wire: Bytes::new(),
        chop: input.chop(),
    })
}

struct End<'a> {
    config: Arc<Config>,
    connection: Connection,
    ready: bool,
    sent: Vec<Message>,
    received: Vec<Message>,
    asked: Vec<Timestamp>,
    answered: Vec<Timestamp>,
    /// Transmitted, but not delivered.
    wire: Bytes,
    chop: Chop<'a>,
}

impl End<'_> {
    fn has_work(&self) -> bool {
        !self.wire.is_empty() || self.connection.wants_transmit()
    }

    fn send(&mut self, mut message: Message) {
        // All alike, so that they keep their order.
        message.header.priority = priority::DEFAULT;
        self.connection
            .send(message.clone())
            .expect("within the limits");
        self.sent.push(message);
    }

    fn keepalive(&mut self, stamp: Timestamp) {
        self.connection.keepalive(stamp);
        if self.connection.state() == State::Ready {
            self.asked.push(stamp);
        }
    }

    fn transmit(&mut self, budget: usize) {
        let more = transmit(&mut self.connection, budget);
        if !more.is_empty() {
            self.wire = [&self.wire[..], &more].concat().into();
        }
        // It may have been waiting for that.
        self.poll();
    }

    fn deliver_to(&mut self, other: &mut Self) {
        let mut pieces = 0;
        while !self.wire.is_empty() && pieces < 64 {
            other.connection.receive(self.chop.cut(&mut self.wire));
            other.poll();
            pieces += 1;
        }
    }

    fn poll(&mut self) {
        while let Some(event) = self.connection.poll().expect("nobody misbehaved") {
            match event {
                Event::Ready => {
                    assert!(!self.ready);
                    self.ready = true;
                }
                Event::Message => self.received.push(self.connection.take_message()),
                Event::KeepaliveAck(stamp) => self.answered.push(stamp),
                other => panic!("a lossy connection tells {other:?}"),
            }
        }
    }

    /// What I sent arrived there, and I know who it is.
    fn agrees_with(&self, other: &Self) {
        assert!(self.ready);
        assert_eq!(self.connection.state(), State::Ready);
        assert!(!self.connection.is_mid_frame());
        assert_eq!(self.connection.missing(), 0);
        assert_eq!(self.connection.queued(), 0);
        assert_eq!(self.answered, self.asked);
        assert_eq!(other.received.len(), self.sent.len());
        let mut last_ack = 0;
        for ((received, sent), seq) in other.received.iter().zip(&self.sent).zip(1..) {
            let ack_seq = received.header.ack_seq;
            assert!((last_ack..=other.sent.len() as u64).contains(&ack_seq));
            last_ack = ack_seq;
            let mut sent = sent.clone();
            sent.header.seq = seq;
            sent.header.ack_seq = ack_seq;
            assert_eq!(*received, sent);
        }
        let peer = self.connection.peer();
        assert_eq!(peer.name, Some(other.config.name));
        assert!(peer.lossy);
        assert_eq!(peer.features, other.connection.peer().features);
        assert_eq!(peer.global_id, other.connection.peer().global_id);
    }
}
