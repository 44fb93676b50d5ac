//! `msgr compare` over DPDK's ports.
//!
//! What needs DPDK is ignored.

use std::process::Command;

/// There is memory for all of them at a time: who does not get any would be left out.
#[test]
#[ignore = "needs DPDK"]
fn all_ports_are_compared_in_one_run() {
    let output = Command::new(env!("CARGO_BIN_EXE_msgr"))
        .args(["compare", "--seconds", "1", "--case", "bulk"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for port in ["dpdk ", "dpdk 9000 ", "vhost ", "vhost 9000 "] {
        let is_compared = told.lines().any(|line| line.trim().starts_with(port));
        assert!(is_compared, "{port}: {told}");
    }
}
