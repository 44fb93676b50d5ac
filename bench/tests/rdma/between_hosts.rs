//! Two hosts with a device each, and a router between them: packets that get lost, a cable that is
//! pulled, an interface that is taken down.

use std::process::Command;
use std::sync::MutexGuard;
use std::thread;
use std::time::{Duration, Instant};

use super::common::Server;
use super::device::Device;
use super::{alone, assert_exactly_once, ping_by, run, while_sending};

const AT: &str = "v2:10.9.2.1:0/7";
const LOSSLESS: [&str; 2] = ["--policy", "lossless-client"];

/// The hosts that `ci/rdma/hosts` makes; they are gone with this.
struct Hosts {
    left: Device,
    right: Device,
    _alone: MutexGuard<'static, ()>,
}

impl Hosts {
    fn new() -> Self {
        let alone = alone();
        hosts(&["make"]);
        Self {
            left: Device::new("rxe-left"),
            right: Device::new("rxe-right"),
            _alone: alone,
        }
    }

    fn assert_released(&self) {
        for device in [&self.left, &self.right] {
            println!("{}", device.counters());
            device.assert_released();
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        hosts(&["remove"]);
    }
}

fn hosts(args: &[&str]) -> String {
    run(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/rdma/hosts"),
        args,
    )
}

fn msgr_on(host: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host, env!("CARGO_BIN_EXE_msgr")]);
    command
}

fn serve(at: &str, args: &[&str]) -> Server {
    let stateful = ["--transport", "rdma", "--policy", "stateful-server"];
    Server::start_by(msgr_on("left"), at, &[&stateful, args].concat())
}

#[test]
#[ignore = "needs RDMA devices of two hosts"]
fn lost_packets_and_broken_connections_cost_no_message() {
    let both = Hosts::new();
    hosts(&["lose", "1%"]);
    let break_some = ["--inject-socket-failures", "500"];
    let server = serve(AT, &break_some);
    let mut broken = 0;
    for (data, count) in [(64, 4000), (4096, 1000), (60_000, 100), (1 << 20, 3)] {
        let (data, number) = (data.to_string(), count.to_string());
        let shape = ["--data", &data, "--count", &number];
        let args = [&LOSSLESS[..], &break_some, &shape].concat();
        let client = ping_by(msgr_on("right"), "rdma", &server, &args);
        let result = while_sending(client, |_| ());
        assert_exactly_once(&result, count);
        broken += result["reconnects"].as_u64().unwrap();
    }
    assert!(broken > 0);
    assert_eq!(server.stop()["messages"], 5103);
    println!(
        "{} packets lost, {broken} reconnects",
        hosts(&["lost"]).trim()
    );
    both.assert_released();
}

#[test]
#[ignore = "needs RDMA devices of two hosts"]
fn a_server_that_is_killed_while_packets_get_lost_costs_no_message() {
    let both = Hosts::new();
    hosts(&["lose", "1%"]);
    let server = serve(AT, &[]);
    let args = [&LOSSLESS[..], &["--count", "5000"]].concat();
    let client = ping_by(msgr_on("right"), "rdma", &server, &args);
    let mut successor = None;
    let result = while_sending(client, |_| {
        let at = server.addr.to_string();
        drop(server);
        successor = Some(serve(&at, &[]));
    });
    assert_exactly_once(&result, 5000);
    assert_eq!(result["remote_resets"], 1, "{result}");
    successor.unwrap().stop();
    let lost: u64 = hosts(&["lost"]).trim().parse().unwrap();
    assert!(lost > 0);
    both.assert_released();
}

/// The device says nothing: it is the keepalive that notices. A cable that is pulled is no other thing, but that
/// `rdma_rxe` gives up the queue pair by which connections are set up if anything is sent on it in that moment.
#[test]
#[ignore = "needs RDMA devices of two hosts"]
fn a_network_that_is_cut_and_mended_costs_no_message() {
    let both = Hosts::new();
    let server = serve(AT, &[]);
    let args = [&LOSSLESS[..], &["--count", "20000"]].concat();
    let client = ping_by(msgr_on("right"), "rdma", &server, &args);
    let result = while_sending(client, |log| {
        hosts(&["cut"]);
        log.wait_for("the session goes on");
        hosts(&["mend"]);
    });
    assert_exactly_once(&result, 20_000);
    assert_eq!(result["reconnects"], 1, "{result}");
    assert_eq!(server.stop()["messages"], 20_000);
    both.assert_released();
}

/// Linux's `rdma_rxe` gives up the queue pair by which connections are set up as soon as anything is
/// sent on it while the interface is down. What has sockets, too, goes on.
#[test]
#[ignore = "needs RDMA devices of two hosts"]
fn a_session_goes_on_over_sockets_if_the_device_does_not_come_back() {
    let both = Hosts::new();
    let auto = ["--transport", "auto", "--policy", "stateful-server"];
    let server = Server::start_by(msgr_on("left"), AT, &auto);
    let args = [&LOSSLESS[..], &["--count", "20000"]].concat();
    let before = both.right.queue_pairs();
    let client = ping_by(msgr_on("right"), "auto", &server, &args);
    let result = while_sending(client, |_| {
        assert!(both.right.queue_pairs() > before, "it is over RDMA");
        run("ip", &["-n", "right", "link", "set", "veth0", "down"]);
        let until = Instant::now() + Duration::from_secs(300);
        while both.right.queue_pairs() > before {
            assert!(Instant::now() < until, "the client never gives up");
            thread::sleep(Duration::from_millis(100));
        }
        run("ip", &["-n", "right", "link", "set", "veth0", "up"]);
        let route = ["route", "add", "default", "via", "10.9.3.254"];
        run("ip", &[&["-n", "right"], &route[..]].concat());
    });
    assert_exactly_once(&result, 20_000);
    assert_eq!(result["reconnects"], 1, "{result}");
    assert_eq!(server.stop()["messages"], 20_000);
    both.assert_released();
}
