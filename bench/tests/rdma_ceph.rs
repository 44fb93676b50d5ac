//! RDMA as Ceph does it: a real monitor and Ceph's own client as peers, and `msgr serve` and `msgr
//! ping` of ours. For the device and the addresses of a guest of `ci/rdma-guest`.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use common::{Monitor, Server, assert_exactly_once, json, msgr, text, while_sending};
use serde_json::Value;

const DEVICE: &str = "rxe0";
const CEPH: &str = "10.9.0.1";
const OURS: &str = "v2:10.9.0.2:0/0";
const RDMA: [&str; 4] = ["--transport", "rdma", "--rdma-setup", "ceph"];

/// One test at a time: all count on the same device.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What the kernel knows of on the device: queue pairs, regions and so on.
fn resources() -> String {
    let all = run(Command::new("rdma").args(["resource", "show"]));
    let ours = all.lines().find(|line| line.contains(DEVICE));
    ours.unwrap().to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    text(&output.stdout)
}

fn monitor() -> Monitor {
    Monitor::start(&[CEPH, DEVICE], |script| script.spawn().unwrap())
}

fn serve(policy: &str) -> Server {
    Server::start_at(OURS, &serving(policy))
}

fn serving(policy: &str) -> Vec<&str> {
    let policy = ["--policy", policy, "--entity", "mon.0"];
    RDMA.into_iter().chain(policy).collect()
}

fn ping(server: &Server, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_msgr"))
        .args(["ping", &server.addr.to_string(), "--peer-type", "mon"])
        .args(["--initial-backoff", "50", "--max-backoff", "500"])
        .args(["--timeout", "1200", "--json"])
        .args(RDMA)
        .args(args)
        .env("RUST_LOG", "msgr=debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "needs an RDMA device and a Ceph monitor"]
fn a_monitor_answers() {
    let _alone = alone();
    let monitor = monitor();
    let before = resources();
    let ask = |words: &[&str]| {
        let output = msgr(
            &[
                &["mon", &monitor.addr, "--json", "--timeout", "600"],
                &RDMA[..],
                words,
            ]
            .concat(),
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    };
    let status = json(&ask(&["status"]));
    assert_eq!(status["quorum_names"], serde_json::json!(["a"]));
    // More than fits into one send.
    let mut stored = serde_json::Map::new();
    for letter in ["a", "b", "c"] {
        let key = format!("bulk/{letter}");
        let value = letter.repeat(60_000);
        let set = serde_json::json!({"prefix": "config-key set", "key": key, "val": value});
        ask(&[&set.to_string()]);
        stored.insert(key, value.into());
    }
    let dump = ask(&[r#"{"prefix":"config-key dump","key":"bulk/"}"#]);
    assert_eq!(
        serde_json::from_slice::<Value>(&dump).unwrap(),
        Value::Object(stored)
    );
    // Nothing is left at either end, once the monitor has noticed.
    while resources() != before {
        thread::sleep(Duration::from_millis(10));
    }
}

/// It takes us for a monitor, which sends back whatever it is asked.
#[test]
#[ignore = "needs an RDMA device and Ceph"]
fn a_client_of_cephs_connects_to_us() {
    let _alone = alone();
    let (monitor, server) = (monitor(), serve("stateless-server"));
    let mut client = Command::new("ceph")
        .arg("-c")
        .arg(&monitor.configuration)
        .args(["-m", &format!("[{}]", server.addr)])
        .args([
            "--connect-timeout",
            "600",
            "--debug-ms=1",
            "--log-to-stderr",
        ])
        .arg("status")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let echo = format!("<== mon.0 {} 1 ==== mon_getmap", server.addr);
    let log = BufReader::new(client.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    let came = log.map(Result::unwrap).any(|line| {
        seen.push(line);
        seen.last().is_some_and(|line| line.contains(&echo))
    });
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(came, "{}", seen.join("\n"));
    let totals = server.stop();
    assert_eq!(totals["accepted"], 1, "{totals}");
}

#[test]
#[ignore = "needs an RDMA device"]
fn messages_of_mixed_sizes() {
    let _alone = alone();
    let before = resources();
    let server = serve("stateless-server");
    for (data, count) in [(64, 10_000), (65_536, 200), (1 << 20, 20), (4 << 20, 5)] {
        let (data, number) = (data.to_string(), count.to_string());
        let client = ping(&server, &["--data", &data, "--count", &number]);
        assert_exactly_once(&while_sending(client, |_| ()), count);
    }
    server.stop();
    assert_eq!(resources(), before);
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_server_that_is_killed_costs_no_message() {
    let _alone = alone();
    let before = resources();
    let server = serve("stateful-server");
    let client = ping(
        &server,
        &["--policy", "lossless-client", "--count", "10000"],
    );
    let mut successor = None;
    let result = while_sending(client, |_| {
        successor = Some(server.kill_and_restart(&serving("stateful-server")));
    });
    assert_exactly_once(&result, 10_000);
    assert_eq!(result["remote_resets"], 1, "{result}");
    successor.unwrap().stop();
    assert_eq!(resources(), before);
}

/// For longer than any keepalive has patience: it is there, only its receives are used up.
#[test]
#[ignore = "needs an RDMA device"]
fn a_server_that_stops_for_a_while_costs_nothing_but_time() {
    let _alone = alone();
    let server = serve("stateful-server");
    let client = ping(
        &server,
        &["--policy", "lossless-client", "--count", "10000"],
    );
    let result = while_sending(client, |_| {
        server.pause();
        thread::sleep(Duration::from_secs(15));
        server.resume();
    });
    assert_exactly_once(&result, 10_000);
    assert_eq!(result["reconnects"], 0, "{result}");
    server.stop();
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_device_that_is_removed_and_comes_back_costs_no_message() {
    let _alone = alone();
    let server = serve("stateful-server");
    let client = ping(
        &server,
        &["--policy", "lossless-client", "--count", "20000"],
    );
    let result = while_sending(client, |_| {
        let link = |args: &[&str]| run(Command::new("rdma").arg("link").args(args));
        link(&["delete", DEVICE]);
        link(&["add", DEVICE, "type", "rxe", "netdev", "dummy0"]);
    });
    assert_exactly_once(&result, 20_000);
    assert_eq!(result["reconnects"], 1, "{result}");
    server.stop();
}
