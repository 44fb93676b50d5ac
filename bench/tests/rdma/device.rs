//! [`Device`]: what the kernel says of an RDMA device.

use super::run;

pub(crate) struct Device {
    name: &'static str,
    before: String,
    missed: [u64; 3],
}

impl Device {
    /// Counts on this device from now on.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            before: resources(name),
            missed: missed(name),
        }
    }

    /// Nothing is left of what was made since the beginning, and no receive was ever missing.
    pub(crate) fn assert_released(&self) {
        assert_eq!(resources(self.name), self.before);
        let missed = missed(self.name);
        // A device that came back counts anew.
        let more = missed
            .iter()
            .zip(self.missed)
            .any(|(now, then)| *now > then);
        assert!(!more, "{missed:?}, {:?} before", self.missed);
    }

    /// How much it has sent that goes into somebody's receive.
    pub(crate) fn sends(&self) -> u64 {
        counter(self.name, "rdma_sends")
    }

    /// How many queue pairs there are on it.
    pub(crate) fn queue_pairs(&self) -> u32 {
        let all = resources(self.name);
        let count = all.split("qp ").nth(1);
        let count = count.and_then(|rest| rest.split(' ').next());
        count.unwrap().parse().unwrap()
    }

    /// All that it has counted, by name, but what it never saw.
    pub(crate) fn counters(&self) -> String {
        let all = std::fs::read_dir(folder(self.name)).unwrap();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let counts = names.map(|name| (counter(self.name, &name), name));
        let seen = counts.filter(|(count, _)| *count > 0);
        let told = seen.map(|(count, name)| format!(" {name} {count}"));
        told.collect()
    }
}

fn folder(device: &str) -> String {
    format!("/sys/class/infiniband/{device}/ports/1/hw_counters")
}

fn counter(device: &str, name: &str) -> u64 {
    let count = std::fs::read_to_string(format!("{}/{name}", folder(device))).unwrap();
    count.trim().parse().unwrap()
}

/// How often a receive was missing.
fn missed(device: &str) -> [u64; 3] {
    ["rcvd_rnr_err", "send_rnr_err", "retry_rnr_exceeded_err"].map(|name| counter(device, name))
}

/// How many queue pairs, regions and so on the kernel knows of on a device.
fn resources(device: &str) -> String {
    let all = run("rdma", &["resource", "show"]);
    let name = format!("{device}: ");
    let ours = all.lines().find_map(|line| line.split_once(&name));
    ours.unwrap().1.trim().to_owned()
}
