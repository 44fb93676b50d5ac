//! `msgr serve` and `msgr ping` as an operator runs them: separate processes over sockets.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use common::{Client, Server, json, msgr, text};
use msgr_protocol::{Event, Message};

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn a_hundred_thousand_messages_come_back_once_in_order_and_intact() {
    let server = Server::start(&["--entity", "osd.0", "--policy", "stateless-server"]);
    let addr = server.addr.to_string();
    let output = msgr(&[
        "ping",
        &addr,
        "--peer-type",
        "osd",
        "--entity",
        "client.7",
        "--policy",
        "lossy-client",
        "--count",
        "100000",
        "--in-flight",
        "64",
        "--front",
        "100",
        "--middle",
        "33",
        "--data",
        "4096",
        "--mode",
        "crc",
        "--type",
        "2",
        "--timeout",
        "120",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result = json(&output.stdout);
    for (field, expected) in [
        ("sent", 100_000),
        ("received", 100_000),
        ("duplicates", 0),
        ("out_of_order", 0),
        ("corrupt", 0),
        ("reconnects", 0),
        ("bytes", 100_000 * (100 + 33 + 4096)),
    ] {
        assert_eq!(result[field], expected, "{field} in {result}");
    }
    let totals = server.stop();
    assert_eq!(totals["messages"], 100_000);
    assert_eq!(totals["bytes"], 100_000 * (100 + 33 + 4096));
    assert_eq!(
        (&totals["accepted"], &totals["resets"]),
        (&1.into(), &1.into()),
        "{totals}"
    );
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn payloads_of_every_kind_of_size() {
    let server = Server::start(&[]);
    let addr = server.addr.to_string();
    for (front, middle, data, count) in [
        ("0", "0", "0", "1000"),
        ("1", "1", "1", "1000"),
        ("65536", "0", "0", "500"),
        ("0", "65535", "65537", "500"),
        ("100", "0", "1048576", "100"),
        ("100", "0", "67108864", "3"),
    ] {
        let output = msgr(&[
            "ping", &addr, "--front", front, "--middle", middle, "--data", data, "--count", count,
        ]);
        assert!(
            output.status.success(),
            "{front}/{middle}/{data}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn a_thousand_connections_use_no_more_threads_than_one() {
    let server = Server::start(&[]);
    let mut clients = vec![Client::lossy(server.addr)];
    let threads = server.threads();
    clients.extend((1..1000).map(|_| Client::lossy(server.addr)));
    for (tid, client) in (1..).zip(&mut clients) {
        let mut message = Message::new(2);
        message.header.tid = tid;
        client.send(message);
        let Event::Message(reply) = client.next() else {
            panic!("not a message")
        };
        assert_eq!(reply.header.tid, tid);
    }
    assert_eq!(server.threads(), threads);
    assert_eq!(server.stop()["accepted"], 1000);
}

/// Each of these ends its own connection and no other.
#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn strangers_do_not_disturb_a_session() {
    let server = Server::start(&[]);
    let socket = server.addr.socket.unwrap();
    let mut client = Client::lossy(server.addr);
    let banner = b"ceph v2\n\x10\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let strangers: [&[u8]; 5] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"ceph v027",
        b"ceph v2\n\xff\xff",
        &[banner.as_slice(), &[0xff; 32]].concat(),
        &[banner.as_slice(), &[0; 32]].concat(),
    ];
    for (tid, stranger) in (1..).zip(strangers) {
        let mut stream = TcpStream::connect(socket).unwrap();
        stream.write_all(stranger).unwrap();
        let mut answer = Vec::new();
        // Either way of hanging up will do.
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.starts_with(b"ceph v2\n"),
            "the server sends its banner first"
        );

        let mut message = Message::new(2);
        message.header.tid = tid;
        client.send(message);
        let Event::Message(reply) = client.next() else {
            panic!("not a message")
        };
        assert_eq!(reply.header.tid, tid);
    }
    // Strangers that stop in the middle of something and hang up.
    for len in [0, 1, banner.len() - 1, banner.len()] {
        TcpStream::connect(socket)
            .unwrap()
            .write_all(&banner[..len])
            .unwrap();
    }
    let totals = server.stop();
    assert_eq!(
        (&totals["messages"], &totals["accepted"]),
        (&5.into(), &1.into())
    );
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn exit_codes() {
    // Nobody listens on a port that was just given back.
    let server = Server::start(&[]);
    let addr = server.addr.to_string();
    server.stop();
    let output = msgr(&["ping", &addr, "--timeout", "1", "--json"]);
    assert_eq!(output.status.code(), Some(3), "not done in time");
    assert!(
        text(&output.stderr).contains("refused"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(json(&output.stdout)["received"], 0);

    for bad in [
        vec!["ping"],
        vec!["ping", "nonsense"],
        vec!["ping", &addr, "--policy", "nonsense"],
        vec!["ping", &addr, "--peer-type", "nonsense"],
        vec!["ping", &addr, "--mode", "nonsense"],
        vec!["ping", &addr, "--data", "67108865"],
        vec!["ping", &addr, "--in-flight", "0"],
        vec!["serve"],
        vec!["serve", "--bind", "v2:127.0.0.1:0/0", "--entity", "osd"],
        vec!["mon", &addr],
        vec!["nonsense"],
    ] {
        let output = msgr(&bad);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{bad:?}: {}",
            text(&output.stderr)
        );
        assert!(!output.stderr.is_empty(), "{bad:?} says why");
    }
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn a_port_that_is_taken_is_an_error() {
    let server = Server::start(&[]);
    let output = msgr(&["serve", "--bind", &server.addr.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("in use"),
        "{}",
        text(&output.stderr)
    );
}
