//! Peers that begin handshakes and do not go on with them, over real sockets.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use msgr::protocol::{EntityType, Policy};
use msgr::transport::posix::Posix;
use msgr::{Context, Dispatcher, Fault, Handshakes, Messenger, Received, Settings};

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
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
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

#[test]
fn handshakes_are_few_at_once_and_have_little_time() {
    let mut settings = Settings::new("osd.0".parse().unwrap(), Policy::STATELESS_SERVER);
    settings.handshakes = Handshakes {
        open_per_source: 8,
        ..Handshakes::default()
    };
    settings.timeouts.ready = Duration::from_secs(2);
    let (told, heard) = channel();
    let server = Messenger::start(settings, posix, |_| Witness(told.clone())).unwrap();
    let addr = server.bind("v2:127.0.0.1:0/0".parse().unwrap()).unwrap();
    let socket: SocketAddr = addr.socket.unwrap();

    let mut streams: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(socket).unwrap())
        .collect();
    let mut let_in: Vec<_> = streams
        .iter_mut()
        .filter_map(|stream| (!is_closed(stream)).then_some(stream))
        .collect();
    assert_eq!(let_in.len(), 8);
    assert_eq!(server.totals().turned_away, 12);

    // A word now and then buys no more time.
    let_in[0].write_all(b"ceph").unwrap();
    for _ in 0..8 {
        assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Ok("rejected"));
    }
    assert_eq!(server.totals().timed_out, 8);
    for stream in let_in {
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok_and(|n| n == 0));
    }

    // There is room for others now.
    let client = Settings::new("client.1".parse().unwrap(), Policy::LOSSY_CLIENT);
    let (quiet, _nobody) = channel();
    let client = Messenger::start(client, posix, |_| Witness(quiet.clone())).unwrap();
    client.connect(EntityType::Osd, addr).unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(30)), Ok("accepted"));
    client.shutdown();
    server.shutdown();
}
