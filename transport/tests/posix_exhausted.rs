//! The `posix` transport in a process without file descriptors: a test binary of its own, because
//! the limit is the process's.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use msgr_transport::posix::Posix;
use msgr_transport::{ConnectOptions, Event, ListenOptions, Park, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn connections_wait_until_there_are_descriptors_again() {
    let mut posix = Posix::new().unwrap();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (_, address) = posix.listen(at, &ListenOptions::default()).unwrap();
    let peers: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();

    let plenty = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..plenty
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let mut events = Vec::new();
    let start = Instant::now();
    posix.poll(start, &mut events);
    assert!(events.is_empty());
    let error = posix
        .connect(address, &ConnectOptions::default())
        .unwrap_err();
    assert_eq!(
        error.source.raw_os_error(),
        Some(rustix::io::Errno::MFILE.raw_os_error())
    );

    // Neither busy nor asleep for ever.
    let again = posix.next_timeout().expect("a time to try again");
    assert!(again > start);
    assert!(!posix.poll(start, &mut events));
    assert!(matches!(posix.park(), Park::Fd(_)));
    posix.poll(again, &mut events);
    let again = posix.next_timeout().expect("still none");
    assert!(events.is_empty());

    setrlimit(Resource::Nofile, plenty).unwrap();
    posix.poll(again, &mut events);
    let accepted = |event: &&Event| matches!(event, Event::Accepted { .. });
    assert_eq!(events.iter().filter(accepted).count(), peers.len());
    assert_eq!(posix.next_timeout(), None);
}
