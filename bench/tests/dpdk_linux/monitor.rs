//! A Ceph monitor on the kernel's host, and `msgr mon` on ours.

use crate::common::{Monitor, json};
use crate::hosts::{Hosts, Link, V4, run};

#[test]
#[ignore = "needs DPDK, network namespaces and a Ceph monitor"]
fn a_monitor_answers() {
    let hosts = Hosts::new(Link::AfPacket { mtu: 1500 });
    let monitor = Monitor::start(&[&V4.kernel.to_string()], |script| {
        hosts.kernel.enter(|| script.spawn().unwrap())
    });
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
