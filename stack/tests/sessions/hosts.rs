//! [`Hosts`]: which hosts the processes on RDMA devices are on.

use std::cell::Cell;
use std::fs::File;
use std::net::IpAddr;

use rustix::fd::AsFd as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The one host of a guest of `ci/rdma-guest`; or two in network namespaces of it, whose names are in
/// `RDMA_HOSTS`: `ci/rdma/hosts` has made them, with a device each. Processes are on them by turns.
pub(crate) struct Hosts {
    namespaces: Vec<File>,
    /// Where this thread is.
    entered: Cell<Option<usize>>,
}

impl Hosts {
    pub(crate) fn new() -> Self {
        let names = std::env::var("RDMA_HOSTS").unwrap_or_default();
        let open = |name| File::open(format!("/run/netns/{name}")).unwrap();
        Self {
            namespaces: names.split_whitespace().map(open).collect(),
            entered: Cell::default(),
        }
    }

    /// Whether packets between processes get on a network, which may lose them.
    pub(crate) fn are_apart(&self) -> bool {
        !self.namespaces.is_empty()
    }

    /// Has this thread be on the host of a process: what it opens and connects from now on is there.
    pub(crate) fn enter(&self, number: i64) {
        if self.namespaces.is_empty() {
            return;
        }
        let host = (number - 1) as usize % self.namespaces.len();
        if self.entered.replace(Some(host)) != Some(host) {
            let namespace = self.namespaces[host].as_fd();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace, network).unwrap();
        }
    }

    /// The address of a process; there are four of each family.
    pub(crate) fn ip(&self, number: i64) -> IpAddr {
        let (network, address) = self.address(number);
        [10, 9, network, address].into()
    }

    /// Another address of the same process.
    pub(crate) fn ip6(&self, number: i64) -> IpAddr {
        let (network, address) = self.address(number);
        [0xfd00, 9, network.into(), 0, 0, 0, 0, address.into()].into()
    }

    /// The number of its network, and its own there.
    fn address(&self, number: i64) -> (u8, u8) {
        let network = match self.namespaces.len() {
            0 => 0,
            hosts => 2 + (number - 1) as usize % hosts,
        };
        (network as u8, 1 + (number - 1) as u8 % 4)
    }
}
