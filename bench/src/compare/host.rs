//! [`Host`]: where the figures were measured.

use std::fmt;
use std::fs;

use serde::Serialize;

use super::threads::Threads;

/// What a figure depends on most.
#[derive(Debug, Serialize)]
pub(super) struct Host {
    pub(super) cpu: String,
    pub(super) kernel: String,
    /// That this process may use.
    pub(super) core_count: usize,
    pub(super) threads: Threads,
}

impl Host {
    pub(super) fn describe(threads: Threads) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cpu: cpu(&cpuinfo).unwrap_or("unknown CPU").to_owned(),
            kernel: kernel.trim().to_owned(),
            core_count: std::thread::available_parallelism().map_or(1, Into::into),
            threads,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Linux {}", self.cpu, self.kernel)?;
        match self.threads {
            Threads {
                server: Some(server),
                client: Some(client),
                ..
            } => {
                write!(f, "; servers on core {server}, clients on core {client}")
            }
            _ => write!(f, "; servers and clients share one core"),
        }
    }
}

/// The model's name, where this architecture tells it.
fn cpu(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_what_the_kernel_calls_it() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some(R) CPU @ 1GHz\n";
        assert_eq!(cpu(cpuinfo), Some("Some(R) CPU @ 1GHz"));
        assert_eq!(cpu("processor\t: 0\n"), None);
    }
}
