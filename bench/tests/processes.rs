//! `msgr serve` and `msgr ping` as an operator runs them: separate processes over sockets.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use common::{Client, Server, json, msgr, text, while_sending};
use msgr_protocol::{Event, Message};
use serde_json::Value;

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
    // When the server answers somebody else, it has seen that the client is gone.
    let mut another = Client::lossy(server.addr);
    another.send(Message::new(2));
    assert_eq!(another.next(), Event::Message);
    let totals = server.stop();
    for (field, expected) in [
        ("messages", 100_001),
        ("bytes", 100_000 * (100 + 33 + 4096)),
        ("accepted", 2),
        ("resets", 1),
    ] {
        assert_eq!(totals[field], expected, "{field} in {totals}");
    }
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
            "ping",
            &addr,
            "--front",
            front,
            "--middle",
            middle,
            "--data",
            data,
            "--count",
            count,
            "--timeout",
            "300",
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
fn data_without_checksums_if_both_ends_want_it() {
    let server = Server::start(&["--no-data-crc"]);
    let ping = ["ping", &server.addr.to_string(), "--data", "100000"];
    let output = msgr(&[&ping[..], &["--no-data-crc", "--count", "1000"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = msgr(&ping);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    let because = "bad frame: crc of segment 0 is 0x00000000";
    assert!(error.contains(because), "{error}");
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
        assert_eq!(client.next(), Event::Message);
        let reply = client.connection().take_message();
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
        assert_eq!(client.next(), Event::Message);
        let reply = client.connection().take_message();
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

/// Has `msgr` give up after so many seconds that `enough` has happened: with how many, and what it says.
fn give_up(args: &[&str], enough: impl Fn(&Output) -> bool) -> (Output, usize) {
    let mut attempts = [1, 8, 64].into_iter().map(|seconds: usize| {
        let output = msgr(&[args, &["--timeout", &seconds.to_string()]].concat());
        assert_eq!(output.status.code(), Some(3), "not done in time");
        (output, seconds)
    });
    let attempt = attempts.find(|(output, _)| enough(output));
    attempt.expect("in 64 seconds there is enough time")
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn exit_codes() {
    // Nobody listens on a port that was just given back.
    let server = Server::start(&[]);
    let addr = server.addr.to_string();
    server.stop();
    let (output, _) = give_up(&["ping", &addr, "--json"], |output| {
        text(&output.stderr).contains("refused")
    });
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
        vec!["ping", &addr, "--policy", "lossless-peer"],
        vec!["ping", &addr, "--policy", "lossless-peer-reuse"],
        vec!["ping", &addr, "--initial-backoff", "0"],
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

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn sessions_that_are_kept_live_on_one_reactor() {
    for policy in [
        "stateless-registered-server",
        "stateful-server",
        "lossless-client",
        "lossless-peer",
        "lossless-peer-reuse",
    ] {
        let any = "v2:127.0.0.1:0/0";
        let output = msgr(&[
            "serve",
            "--bind",
            any,
            "--policy",
            policy,
            "--reactors",
            "2",
        ]);
        assert_eq!(output.status.code(), Some(2), "{policy}");
        let error = text(&output.stderr);
        assert!(error.contains("single reactor"), "{error}");
    }
    let server = Server::start(&["--policy", "stateless-server", "--reactors", "2"]);
    server.stop();
}

/// Where to listen, for a `ping` that is connected to as well.
fn bind(policy: &str) -> &'static [&'static str] {
    if policy.starts_with("lossless-peer") {
        &["--bind", "v2:127.0.0.1:0/0"]
    } else {
        &[]
    }
}

/// Runs `msgr ping` against `msgr serve`; returns what each of them says at its end.
fn run([serving, pinging]: [&str; 2], for_both: &[&str], for_ping: &[&str]) -> [Value; 2] {
    let server = Server::start(&[&["--policy", serving], for_both].concat());
    let addr = server.addr.to_string();
    let ping = ["ping", &addr, "--policy", pinging, "--json"];
    let patient = ["--timeout", "300"];
    let began = Instant::now();
    let output = msgr(&[&ping, bind(pinging), &patient, for_both, for_ping].concat());
    let seconds = began.elapsed().as_secs() as usize;
    let result = text(&output.stdout);
    let complaints = text(&output.stderr);
    assert!(output.status.success(), "{pinging}: {result}{complaints}");
    let most = usize::max(60, 2 * seconds);
    assert!(complaints.lines().count() < most, "{complaints}");
    [server.stop(), json(&output.stdout)]
}

fn assert_exactly_once(count: u64, [server, client]: &[Value; 2]) {
    assert_eq!(server["messages"], count, "{server}");
    for (field, expected) in [
        ("sent", count),
        ("received", count),
        ("duplicates", 0),
        ("out_of_order", 0),
        ("corrupt", 0),
        ("resets", 0),
        ("remote_resets", 0),
    ] {
        assert_eq!(client[field], expected, "{field} in {client}");
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// One socket operation in 500 breaks its connection, at both ends.
fn hundreds_of_reconnects(policies: [&str; 2]) {
    let faults = ["--inject-socket-failures", "500"];
    let results = run(policies, &faults, &["--count", "50000"]);
    assert_exactly_once(50_000, &results);
    for end in &results {
        assert!(number(&end["reconnects"]) >= 200, "{end}");
        assert!(number(&end["interruptions"]) >= 200, "{end}");
        assert!(number(&end["replays"]) >= 200, "{end}");
        assert!(end["seed"].is_u64(), "{end}");
    }
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn a_client_and_its_server_survive_hundreds_of_faults() {
    hundreds_of_reconnects(["stateful-server", "lossless-client"]);
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn two_peers_survive_hundreds_of_faults() {
    hundreds_of_reconnects(["lossless-peer", "lossless-peer"]);
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn sessions_that_end_in_good_order_lose_and_repeat_nothing() {
    let load = ["--count", "20000", "--close-every", "100"];
    for policies in [
        ["stateless-server", "lossy-client"],
        ["stateless-registered-server", "lossy-client"],
        ["stateless-server", "lossless-client"],
        ["stateful-server", "lossless-client"],
        ["lossless-peer", "lossless-peer"],
        ["lossless-peer-reuse", "lossless-peer-reuse"],
    ] {
        let results = run(policies, &[], &load);
        assert_exactly_once(20_000, &results);
        let [server, client] = results;
        assert_eq!(client["closes"], 199, "{policies:?}: {client}");
        assert_eq!(client["reconnects"], 0, "{policies:?}: {client}");
        // A server that keeps sessions learns that its client has begun another.
        let learns = ["stateful-server", "lossless-peer-reuse"].contains(&policies[0]);
        let expected = if learns { 199 } else { 0 };
        assert_eq!(server["remote_resets"], expected, "{policies:?}: {server}");
    }
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn sessions_end_in_good_order_although_connections_break() {
    let faults = [
        ["--inject-socket-failures", "100"],
        ["--initial-backoff", "5"],
        ["--max-backoff", "20"],
    ]
    .concat();
    let load = ["--count", "5000", "--close-every", "50"];
    for policies in [
        ["stateful-server", "lossless-client"],
        ["lossless-peer", "lossless-peer"],
        ["lossless-peer-reuse", "lossless-peer-reuse"],
    ] {
        let results = run(policies, &faults, &load);
        assert_exactly_once(5000, &results);
        assert_eq!(results[1]["closes"], 99);
    }
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn clients_go_on_with_a_server_that_was_killed_while_they_sent() {
    for [serving, pinging] in [
        ["stateful-server", "lossless-client"],
        ["lossless-peer", "lossless-peer"],
        ["lossless-peer-reuse", "lossless-peer-reuse"],
    ] {
        let serve = ["--policy", serving];
        let server = Server::start_at("v2:127.0.0.1:0/7", &serve);
        let client = Command::new(env!("CARGO_BIN_EXE_msgr"))
            .args(["ping", &server.addr.to_string(), "--policy", pinging])
            .args(bind(pinging))
            .args(["--initial-backoff", "5"])
            .args(["--count", "300000", "--timeout", "600", "--json"])
            .env("RUST_LOG", "msgr=debug")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut successor = None;
        let result = while_sending(client, |_| {
            successor = Some(server.kill_and_restart(&serve));
        });
        for (field, expected) in [
            ("received", 300_000),
            ("duplicates", 0),
            ("out_of_order", 0),
            ("corrupt", 0),
            ("remote_resets", 1),
            ("resets", 0),
        ] {
            assert_eq!(result[field], expected, "{field} in {result}");
        }
        // What was under way was sent again, what was answered was not.
        let sent = number(&result["sent"]);
        assert!((300_001..=300_016).contains(&sent), "{result}");
        let totals = successor.unwrap().stop();
        assert!(number(&totals["messages"]) <= 300_000);
    }
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn a_lossless_client_keeps_trying_and_does_not_chatter() {
    let server = Server::start(&[]);
    let addr = server.addr.to_string();
    server.stop();
    let lossless = ["--policy", "lossless-client"];
    let busy = ["--initial-backoff", "1", "--max-backoff", "1"];
    let ping = [&["ping", &addr, "--json"], &lossless[..], &busy].concat();
    let (output, seconds) = give_up(&ping, |output| {
        number(&json(&output.stdout)["interruptions"]) > 4
    });
    let complaints = text(&output.stderr);
    assert!(complaints.contains("refused"), "{complaints}");
    assert!(complaints.lines().count() < 3 + seconds, "{complaints}");
}

/// Runs a command where certain files do not exist, which stand in the folders of libraries.
/// Whiteouts of overlayfs hide them, in a mount namespace that nobody else sees and that ends with
/// the command.
const WITHOUT: &str = r#"
    set -e
    mount -t tmpfs none /mnt
    hidden=$1
    shift
    for dir in $(ldconfig -p | sed -n 's|.* => \(/.*\)/[^/]*|\1|p' | sort -u); do
        upper=/mnt/$(echo "$dir" | tr / _)
        mkdir "$upper" "$upper.work"
        for name in $hidden; do
            for file in "$dir"/$name; do
                [ ! -e "$file" ] || mknod "$upper/${file##*/}" c 0 0
            done
        done
        mount -t overlay none -o "lowerdir=$dir,upperdir=$upper,workdir=$upper.work" "$dir"
    done
    exec "$@"
"#;

fn msgr_without(files: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", WITHOUT, "sh"])
        .args([files, env!("CARGO_BIN_EXE_msgr")]);
    command
}

fn without_dpdk() -> Command {
    msgr_without("librte_* dpdk")
}

fn without_rdma() -> Command {
    msgr_without("libibverbs* librdmacm*")
}

/// The same executable everywhere: `doctor` says what is missing, and `auto` does without.
#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn a_host_without_dpdk_has_posix_and_is_told_what_is_missing() {
    let doctor = without_dpdk().args(["doctor", "--json"]).output().unwrap();
    assert!(doctor.status.success(), "{}", text(&doctor.stderr));
    let findings: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let dpdk = &findings[3];
    assert_eq!(dpdk["transport"], "dpdk", "{findings}");
    assert_eq!(dpdk["status"], "missing", "{dpdk}");
    let reason = dpdk["reason"].as_str().unwrap();
    let library = "DPDK cannot be loaded: librte_ethdev.so.23: \
                   cannot open shared object file: No such file or directory";
    let nothing_to_load = "this executable was built without DPDK (libdpdk-dev 22.11)";
    assert!([library, nothing_to_load].contains(&reason), "{reason}");
    assert_eq!(dpdk["host"][0]["found"], "no librte_ethdev.so", "{dpdk}");

    let auto = ["--transport", "auto"];
    let server = Server::start_by(without_dpdk(), "v2:127.0.0.1:0/0", &auto);
    let addr = server.addr.to_string();
    let mut ping = without_dpdk();
    ping.args(["ping", &addr, "--count", "1000", "--json"]);
    let ping = ping.args(auto).output().unwrap();
    assert!(ping.status.success(), "{}", text(&ping.stderr));
    assert_eq!(json(&ping.stdout)["received"], 1000);
    assert_eq!(server.stop()["messages"], 1000);

    // Asked for by name, it is not replaced by anything else.
    let asked = ["--transport", "dpdk", "--dpdk-device", "net_null0"];
    let mut ping = without_dpdk();
    ping.args(["ping", &addr, "--ip", "10.0.0.2/24"])
        .args(asked);
    let ping = ping.output().unwrap();
    assert!(!ping.status.success());
    assert!(
        text(&ping.stderr).contains(reason),
        "{}",
        text(&ping.stderr)
    );
}

/// The same for RDMA: what is missing is named, and `auto` says why it is not used.
#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn a_host_without_rdma_has_posix_and_is_told_what_is_missing() {
    let doctor = without_rdma().args(["doctor", "--json"]).output().unwrap();
    assert!(doctor.status.success(), "{}", text(&doctor.stderr));
    let findings: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let rdma = &findings[4];
    assert_eq!(rdma["transport"], "rdma", "{findings}");
    assert_eq!(rdma["status"], "missing", "{rdma}");
    let reason = "rdma: cannot start the transport: libibverbs.so.1 cannot be loaded: \
                  libibverbs.so.1: cannot open shared object file: No such file or directory";
    assert_eq!(rdma["reason"], reason, "{rdma}");
    assert_eq!(rdma["host"][0]["found"], "no libibverbs.so.1", "{rdma}");
    assert_eq!(rdma["host"][1]["found"], "no librdmacm.so.1", "{rdma}");

    let auto = ["--transport", "auto"];
    let server = Server::start_by(without_rdma(), "v2:127.0.0.1:0/0", &auto);
    let addr = server.addr.to_string();
    let mut ping = without_rdma();
    ping.args(["ping", &addr, "--count", "1000", "--json"]);
    let ping = ping.args(auto).output().unwrap();
    let told = text(&ping.stderr);
    assert!(ping.status.success(), "{told}");
    assert_eq!(
        told.trim_end(),
        format!("msgr: transport: posix ({reason})")
    );
    assert_eq!(json(&ping.stdout)["received"], 1000);
    assert_eq!(server.stop()["messages"], 1000);

    // Asked for by name, it is not replaced by anything else.
    for asked in [
        vec!["ping", &addr],
        vec!["mon", &addr, "status"],
        vec!["serve", "--bind", &addr],
    ] {
        let output = without_rdma()
            .args(&asked)
            .args(["--transport", "rdma"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{asked:?}");
        assert_eq!(
            text(&output.stderr).trim_end(),
            format!("msgr: {reason}"),
            "{asked:?}"
        );
    }

    // One of the two is not enough.
    let doctor = msgr_without("librdmacm*")
        .args(["doctor"])
        .output()
        .unwrap();
    let told = text(&doctor.stdout);
    let missing = "missing: rdma: cannot start the transport: librdmacm.so.1 cannot be loaded";
    assert!(told.contains(missing), "{told}");
}

#[test]
#[ignore = "runs separate processes; ci/test does, on the release build"]
fn what_cannot_be_set_up_is_named_and_the_rest_is_compared() {
    let output = Command::new(env!("CARGO_BIN_EXE_msgr"))
        .args(["compare", "--seconds", "1", "--case", "64 B round"])
        // Where the ports of two processes would meet.
        .env("TMPDIR", "/nonexistent")
        .output()
        .unwrap();
    let (told, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{errors}");
    let absent =
        ["vhost: create /nonexistent/", "dpdk: "].map(|why| format!("not compared: {why}"));
    assert!(absent.iter().any(|why| told.contains(why)), "{told}");
    assert!(told.contains("posix"), "{told}");
}
