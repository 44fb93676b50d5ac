//! Ports of the `posix` transport among the other sockets of the host, those of the same uid
//! included, and what TCP remembers of a connection that is over.

#![allow(clippy::unwrap_used)] // Every function here is part of a test.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use msgr_transport::posix::Posix;
use msgr_transport::{
    Close, CloseReason, ConnId, ConnectOptions, Event, ListenOptions, ListenerId, OpenError, Port,
    Transport,
};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, sockopt};

/// Somewhere on loopback that only one test uses.
fn host(test: u8) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, high, low, test), 0))
}

/// A socket of somebody else's of the same uid, as willing to share as can be.
fn foreign(at: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}

fn address(socket: &OwnedFd) -> SocketAddr {
    let name = rustix::net::getsockname(socket).unwrap();
    name.try_into().unwrap()
}

fn take(posix: &mut Posix, at: SocketAddr) -> Result<(ListenerId, SocketAddr), OpenError> {
    posix.listen(at, &ListenOptions::default())
}

fn join(posix: &mut Posix, at: SocketAddr) -> Result<(ListenerId, SocketAddr), OpenError> {
    let options = ListenOptions {
        port: Port::Join,
        ..ListenOptions::default()
    };
    posix.listen(at, &options)
}

fn connect(posix: &mut Posix, from: SocketAddr, to: SocketAddr) -> Result<ConnId, OpenError> {
    posix.connect(to, &ConnectOptions { local: Some(from) })
}

fn next(posix: &mut Posix) -> Event {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut events = Vec::new();
    while events.is_empty() {
        let now = Instant::now();
        assert!(now < deadline, "nothing ever happens");
        posix.poll(now, &mut events);
    }
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

#[test]
fn a_port_that_others_listen_on_is_not_taken_however_willing_they_are() {
    let other = foreign(host(1)).unwrap();
    rustix::net::listen(&other, 1).unwrap();
    let mut posix = Posix::new().unwrap();
    let error = take(&mut posix, address(&other)).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address(&other).port()));
    let error = take(&mut posix, everywhere).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
    let at = address(&other);
    drop(other);
    take(&mut posix, at).unwrap();
}

#[test]
fn a_port_that_others_listen_on_is_no_origin() {
    let other = foreign(host(2)).unwrap();
    rustix::net::listen(&other, 1).unwrap();
    let peer = TcpListener::bind(host(2)).unwrap();
    let mut posix = Posix::new().unwrap();
    let error = connect(&mut posix, address(&other), peer.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
}

#[test]
fn others_cannot_have_our_port() {
    let mut posix = Posix::new().unwrap();
    let (_, ours) = take(&mut posix, host(3)).unwrap();
    let error = TcpListener::bind(ours).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, ours.port()));
    let error = take(&mut Posix::new().unwrap(), everywhere).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::AddrInUse);
}

#[test]
fn the_origin_is_what_a_standard_peer_sees() {
    // At any address of the host, and at one of them.
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    for at in [host(4), everywhere] {
        let mut posix = Posix::new().unwrap();
        let (_, bound) = take(&mut posix, at).unwrap();
        let from = SocketAddr::new(host(4).ip(), bound.port());
        for _ in 0..2 {
            let peer = TcpListener::bind(host(4)).unwrap();
            connect(&mut posix, from, peer.local_addr().unwrap()).unwrap();
            assert_eq!(peer.accept().unwrap().1, from);
        }
    }
}

#[test]
fn ipv6_and_ipv4_have_ports_of_their_own() {
    let Ok(peer) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let (mut posix, mut other) = (Posix::new().unwrap(), Posix::new().unwrap());
    // Some ports are in use by other programs.
    let v6 = (0..100).find_map(|_| {
        let (_, v6) = take(&mut posix, "[::]:0".parse().unwrap()).unwrap();
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.port()));
        take(&mut other, v4).is_ok().then_some(v6)
    });
    let v6 = v6.expect("the same port of IPv4 is free");
    connect(&mut posix, v6, peer.local_addr().unwrap()).unwrap();
    assert_eq!(peer.accept().unwrap().1.port(), v6.port());
}

#[test]
fn a_connection_to_oneself_is_refused() {
    for listening in [false, true] {
        let mut posix = Posix::new().unwrap();
        let (listener, at) = take(&mut posix, host(5)).unwrap();
        if !listening {
            posix.unlisten(listener);
        }
        connect(&mut posix, at, at).unwrap();
        let event = next(&mut posix);
        let refused = CloseReason::Refused;
        assert!(
            matches!(&event, Event::Closed { reason, .. } if *reason == refused),
            "{event:?}"
        );
    }
}

/// A connection from a port that we listen on, the peer's end of it, and both listeners.
fn connected(
    test: u8,
) -> (
    Posix,
    ConnId,
    ListenerId,
    SocketAddr,
    TcpListener,
    TcpStream,
) {
    let mut posix = Posix::new().unwrap();
    let (listener, ours) = take(&mut posix, host(test)).unwrap();
    let peer = TcpListener::bind(host(test)).unwrap();
    let conn = connect(&mut posix, ours, peer.local_addr().unwrap()).unwrap();
    assert!(matches!(next(&mut posix), Event::Connected { local, .. } if local == ours));
    let (stream, from) = peer.accept().unwrap();
    assert_eq!(from, ours);
    (posix, conn, listener, ours, peer, stream)
}

#[test]
fn a_connection_that_drains_keeps_its_name_and_one_that_was_aborted_does_not() {
    let (mut posix, conn, _, ours, peer, mut stream) = connected(6);
    let to = peer.local_addr().unwrap();
    posix.close(conn, Close::Drain);
    posix.poll(Instant::now(), &mut Vec::new());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end has come");
    let error = connect(&mut posix, ours, to).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::AddrNotAvailable);

    let (mut posix, conn, _, ours, peer, _stream) = connected(6);
    posix.close(conn, Close::Abort);
    connect(&mut posix, ours, peer.local_addr().unwrap()).unwrap();
    assert_eq!(peer.accept().unwrap().1, ours);
}

#[test]
fn a_name_in_time_wait_is_an_error_or_a_new_connection() {
    let (mut posix, conn, _, ours, peer, stream) = connected(7);
    posix.poll(Instant::now(), &mut Vec::new());
    posix.close(conn, Close::Drain);
    drop(stream);
    while posix.next_timeout().is_some() {
        posix.poll(Instant::now(), &mut Vec::new());
    }
    // Which of the two depends on TCP timestamps (RFC 6191).
    match connect(&mut posix, ours, peer.local_addr().unwrap()) {
        Ok(_) => {
            assert!(matches!(next(&mut posix), Event::Connected { local, .. } if local == ours));
            assert_eq!(peer.accept().unwrap().1, ours);
        }
        Err(error) => assert_eq!(error.source.kind(), ErrorKind::AddrNotAvailable),
    }
}

#[test]
fn what_is_left_of_connections_does_not_keep_a_port_from_being_taken() {
    // Ours is in TIME-WAIT in the first case, and still open at the peer in the second.
    for drains in [true, false] {
        let (mut posix, conn, listener, ours, _peer, stream) = connected(8);
        let (joined, _) = join(&mut posix, ours).unwrap();
        let client = TcpStream::connect(ours).unwrap();
        assert!(matches!(next(&mut posix), Event::Accepted { .. }));
        posix.unlisten(listener);
        posix.unlisten(joined);
        let mut kept = None;
        if drains {
            posix.close(conn, Close::Drain);
            drop(stream);
            while posix.next_timeout().is_some() {
                posix.poll(Instant::now(), &mut Vec::new());
            }
        } else {
            drop(posix);
            kept = Some(stream);
        }
        take(&mut Posix::new().unwrap(), ours).unwrap();
        drop((client, kept));
    }
}
