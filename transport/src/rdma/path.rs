//! [`Path`]: from which port and GID of a device a queue pair reaches its peer, and the
//! [`Transition`]s of one that no connection manager sets up. All values are those of Ceph, so that
//! both ends agree (`src/msg/async/rdma/Infiniband.cc`, `modify_qp_to_*`).

use std::{fs, io};

use msgr_rdma_sys as sys;

use super::cm::CmId;
use super::device::Device;
use super::queue_pair::{State, Transition};
use super::side_channel::Endpoint;

/// Packets carry so much, whatever the port could (`ibv_modify_qp(3)`).
const MTU: sys::ibv_mtu = sys::IBV_MTU_1024;
/// A sender that finds no receive posted tries again after 5.12 ms, and so for ever: a receiver
/// that has nothing posted is at work. Who is gone is told by the side channel.
const RECEIVER_PAUSE: u8 = 0x12;
const RECEIVER_RETRIES: u8 = 7;
/// What is not acknowledged is repeated after 4.096 us * 2^18, about a second, so many times.
const TIMEOUT: u8 = 0x12;
const RETRIES: u8 = 7;
/// Of reads of the peer's memory at a time, of which there are none.
const READS: u8 = 1;
const HOP_LIMIT: u8 = 6;
const TRAFFIC_CLASS: u8 = 96;
const SERVICE_LEVEL: u8 = 3;

/// Our end of the way to a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    port: u8,
    gid_index: u8,
    pub(super) gid: [u8; 16],
    pub(super) lid: u16,
}

impl Path {
    /// From the address that `manager` is bound to, which is one of `device`.
    pub(super) fn of(manager: &CmId, device: &Device) -> io::Result<Self> {
        let (port, gid) = (manager.port(), manager.gid());
        let folder = format!("/sys/class/infiniband/{}/ports/{port}", device.name());
        let is_routed = |index| {
            let kind = fs::read_to_string(format!("{folder}/gid_attrs/types/{index}"));
            kind.is_ok_and(|kind| kind.trim() == "RoCE v2")
        };
        let index = find(|index| device.gid(port, index) == Some(gid), is_routed);
        let gid_index = index.ok_or_else(|| {
            let message = format!("port {port} of {} does not have its GID", device.name());
            io::Error::new(io::ErrorKind::AddrNotAvailable, message)
        })?;
        let lid = fs::read_to_string(format!("{folder}/lid")).unwrap_or_default();
        let lid = lid.trim().trim_start_matches("0x");
        Ok(Self {
            port,
            gid_index,
            gid,
            lid: u16::from_str_radix(lid, 16).unwrap_or_default(),
        })
    }

    /// To where receives may be posted.
    pub(super) fn init(&self) -> Transition {
        let access = sys::IBV_ACCESS_LOCAL_WRITE | sys::IBV_ACCESS_REMOTE_WRITE;
        let attributes = sys::ibv_qp_attr {
            qp_state: State::Init.raw(),
            pkey_index: 0,
            port_num: self.port,
            qp_access_flags: access,
            ..sys::ibv_qp_attr::default()
        };
        let mask = sys::IBV_QP_PKEY_INDEX | sys::IBV_QP_PORT | sys::IBV_QP_ACCESS_FLAGS;
        transition(attributes, mask)
    }

    /// To where what the peer sends is received.
    pub(super) fn ready_to_receive(&self, peer: &Endpoint) -> Transition {
        let attributes = sys::ibv_qp_attr {
            qp_state: State::ReadyToReceive.raw(),
            path_mtu: MTU,
            dest_qp_num: peer.queue_pair,
            rq_psn: peer.psn,
            max_dest_rd_atomic: READS,
            min_rnr_timer: RECEIVER_PAUSE,
            ah_attr: sys::ibv_ah_attr {
                grh: sys::ibv_global_route {
                    dgid: sys::ibv_gid { raw: peer.gid },
                    flow_label: 0,
                    sgid_index: self.gid_index,
                    hop_limit: HOP_LIMIT,
                    traffic_class: TRAFFIC_CLASS,
                },
                is_global: 1,
                dlid: peer.lid,
                sl: SERVICE_LEVEL,
                port_num: self.port,
                ..sys::ibv_ah_attr::default()
            },
            ..sys::ibv_qp_attr::default()
        };
        let mask = sys::IBV_QP_AV
            | sys::IBV_QP_PATH_MTU
            | sys::IBV_QP_DEST_QPN
            | sys::IBV_QP_RQ_PSN
            | sys::IBV_QP_MAX_DEST_RD_ATOMIC
            | sys::IBV_QP_MIN_RNR_TIMER;
        transition(attributes, mask)
    }

    /// To where it sends, too, packets numbered from `psn` on.
    pub(super) fn ready_to_send(psn: u32) -> Transition {
        let attributes = sys::ibv_qp_attr {
            qp_state: State::ReadyToSend.raw(),
            timeout: TIMEOUT,
            retry_cnt: RETRIES,
            rnr_retry: RECEIVER_RETRIES,
            sq_psn: psn,
            max_rd_atomic: READS,
            ..sys::ibv_qp_attr::default()
        };
        let mask = sys::IBV_QP_TIMEOUT
            | sys::IBV_QP_RETRY_CNT
            | sys::IBV_QP_RNR_RETRY
            | sys::IBV_QP_SQ_PSN
            | sys::IBV_QP_MAX_QP_RD_ATOMIC;
        transition(attributes, mask)
    }
}

/// Where in a port's table an address is, that is there once for every version of RoCE: preferably
/// for the one that can be routed.
fn find(is_ours: impl Fn(u8) -> bool, is_routed: impl Fn(u8) -> bool) -> Option<u8> {
    let ours = || (0..=u8::MAX).filter(|index| is_ours(*index));
    let routed = ours().find(|index| is_routed(*index));
    routed.or_else(|| ours().next())
}

fn transition(attributes: sys::ibv_qp_attr, mask: sys::ibv_qp_attr_mask) -> Transition {
    Transition {
        attributes,
        mask: (sys::IBV_QP_STATE | mask).cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_preferably_where_it_can_be_routed() {
        let ours = |index| [4, 5, 255].contains(&index);
        assert_eq!(find(ours, |index| index % 2 == 1), Some(5));
        assert_eq!(find(ours, |index| index == 255), Some(255));
        assert_eq!(find(ours, |index| index == 6), Some(4));
        assert_eq!(find(|_| false, |_| true), None);
    }
}
