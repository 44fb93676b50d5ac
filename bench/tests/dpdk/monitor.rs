//! A Ceph monitor on the kernel's host, and `msgr mon` on ours.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::{env, process};

use crate::common::json;
use crate::hosts::{Host, Hosts, Link, V4, run};

/// It ends when its standard input does, and that ends with us.
struct Monitor {
    script: Child,
    addr: String,
}

impl Monitor {
    fn start(host: &Host) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ci/ceph-mon");
        let directory = env::temp_dir().join(format!("msgr-mon-{}", process::id()));
        let mut command = Command::new(script);
        command
            .arg("hold")
            .arg(directory)
            .arg(V4.kernel.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = host.enter(|| command.spawn().unwrap());
        let mut addr = String::new();
        let out = script.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut addr).unwrap();
        let addr = addr.trim_end().to_owned();
        Self { script, addr }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

#[test]
#[ignore = "needs DPDK, network namespaces and a Ceph monitor"]
fn a_monitor_answers() {
    let hosts = Hosts::new(Link::AfPacket { mtu: 1500 });
    let monitor = Monitor::start(&hosts.kernel);
    let ask = |words: &[&str]| {
        let mut mon = hosts.ours().msgr();
        mon.args(["mon", &monitor.addr, "--json"]);
        mon.args(hosts.dpdk()).args(words);
        json(&run(&mut mon).stdout)
    };
    let status = ask(&["status"]);
    assert_eq!(status["quorum_names"], serde_json::json!(["a"]));
    assert_eq!(status["fsid"].as_str().unwrap().len(), 36);
    assert_eq!(ask(&["mon", "stat"])["leader"], "a");
    // Many packets long.
    let settings = ask(&["config", "ls"]);
    assert!(settings.as_array().unwrap().len() > 1000, "{settings}");
}
