//! Peers that begin handshakes and do not go on with them, over real sockets.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use msgr::protocol::{EntityAddr, EntityType, Policy};
use msgr::transport::posix::Posix;
use msgr::{Context, Dispatcher, Fault, Handshakes, Messenger, Received, Settings};

/// Long enough for any machine; nothing waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(100);

/// Tells of connections that are ready, and of those that never were.
struct Witness(Sender<&'static str>);

impl Dispatcher for Witness {
    fn message(&mut self, _: &mut Context<'_>, _: Received) {}

    fn accepted(&mut self, _: &mut Context<'_>) {
        let _ = self.0.send("accepted");
    }

    fn rejected(&mut self, _: &Fault) {
        let _ = self.0.send("rejected");
    }
}

fn posix() -> Result<Box<dyn msgr::transport::Transport>, msgr::transport::OpenError> {
    Ok(Box::new(Posix::new()?))
}

/// Whether the other end has hung up, once it has had the time to.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut banner = [0; 26];
    match stream.read_exact(&mut banner) {
        Ok(()) => false,
        Err(error) => {
            assert_ne!(
                error.kind(),
                ErrorKind::WouldBlock,
                "neither answered nor closed"
            );
            true
        }
    }
}

/// A server with room for eight handshakes of a source, which take so long at most.
fn server(ready: Duration) -> (Messenger, EntityAddr, Receiver<&'static str>) {
    let mut settings = Settings::new("osd.0".parse().unwrap(), Policy::STATELESS_SERVER);
    settings.handshakes = Handshakes {
        open_per_source: 8,
        ..Handshakes::default()
    };
    settings.timeouts.ready = ready;
    let (told, heard) = channel();
    let server = Messenger::start(settings, posix, |_| Witness(told.clone())).unwrap();
    let addr = server.bind("v2:127.0.0.1:0/0".parse().unwrap()).unwrap();
    (server, addr, heard)
}

/// So many who connect and say nothing, and of them those who are let in.
fn visitors(addr: EntityAddr, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(addr.socket.unwrap()).unwrap();
    let streams: Vec<_> = (0..count).map(connect).collect();
    let let_in = |mut stream| (!is_closed(&mut stream)).then_some(stream);
    streams.into_iter().filter_map(let_in).collect()
}

#[test]
fn handshakes_are_few_at_once() {
    let (server, addr, _nothing) = server(10 * PATIENCE);
    let let_in = visitors(addr, 20);
    assert_eq!(let_in.len(), 8);
    assert_eq!(server.totals().turned_away, 12);
    server.shutdown();
}

#[test]
fn handshakes_have_little_time() {
    let (server, addr, heard) = server(Duration::from_secs(2));
    let mut let_in = visitors(addr, 8);
    assert_eq!(let_in.len(), 8);

    // A word now and then buys no more time.
    let_in[0].write_all(b"ceph").unwrap();
    for _ in 0..8 {
        assert_eq!(heard.recv_timeout(PATIENCE), Ok("rejected"));
    }
    assert_eq!(server.totals().timed_out, 8);
    for mut stream in let_in {
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok_and(|n| n == 0));
    }

    // There is room for others now, who have no more time either.
    let client = Settings::new("client.1".parse().unwrap(), Policy::LOSSY_CLIENT);
    let (quiet, _nobody) = channel();
    let client = Messenger::start(client, posix, |_| Witness(quiet.clone())).unwrap();
    let is_let_in = |_| {
        client.connect_anonymously(EntityType::Osd, addr).unwrap();
        heard.recv_timeout(PATIENCE) == Ok("accepted")
    };
    assert!((0..20).any(is_let_in));
    client.shutdown();
    server.shutdown();
}
