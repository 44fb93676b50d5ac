//! The banner: what both ends send first, before any frame.
//!
//! `ceph v2\n`, the length of the payload (LE16), and the payload: supported and required msgr2
//! features (LE64 each). Bytes behind those belong to later versions and are skipped.

use bytes::{BufMut, BytesMut};

use super::{Connection, Role, State};
use crate::config::FeaturePair;
use crate::error::{Cause, Malformed, PeerIncompatible};
use crate::frame::{FrameReader, Revision};
use crate::wire::{EntityAddr, Features, Hello, features};

const PREFIX: &[u8; 8] = b"ceph v2\n";
/// What the banners of both versions have in common.
const ANY_VERSION: &[u8] = b"ceph v";
const PAYLOAD_LEN: u16 = 16;
/// Room for the features of many versions to come, in bytes.
const MAX_PAYLOAD_LEN: u16 = 256;
const HEAD_LEN: usize = PREFIX.len() + size_of::<u16>();

pub(super) fn write(features: FeaturePair, out: &mut BytesMut) {
    out.put_slice(PREFIX);
    out.put_u16_le(PAYLOAD_LEN);
    out.put_u64_le(features.supported.0);
    out.put_u64_le(features.required.0);
}

/// The peer's features, once its whole banner is there.
pub(super) fn read(reader: &mut FrameReader) -> Result<Option<FeaturePair>, Cause> {
    let mut wire = [0; HEAD_LEN + MAX_PAYLOAD_LEN as usize];
    // Somebody who does not speak our protocol may never send a whole head: judge what is there.
    let prefix = reader.peek_raw(&mut wire[..PREFIX.len()]);
    if *prefix != PREFIX[..prefix.len()] {
        return Err(if prefix.starts_with(ANY_VERSION) {
            PeerIncompatible::SpeaksV1.into()
        } else {
            let mut start = [0; PREFIX.len()];
            start[..prefix.len()].copy_from_slice(prefix);
            Malformed::Banner(start).into()
        });
    }
    if reader.peek_raw(&mut wire[..HEAD_LEN]).len() < HEAD_LEN {
        return Ok(None);
    }
    let len = u16::from_le_bytes([wire[PREFIX.len()], wire[PREFIX.len() + 1]]);
    if !(PAYLOAD_LEN..=MAX_PAYLOAD_LEN).contains(&len) {
        return Err(Malformed::BannerLength(len).into());
    }
    if !reader.take_raw(&mut wire[..HEAD_LEN + usize::from(len)]) {
        return Ok(None);
    }
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&wire[at..at + 8]);
        Features(u64::from_le_bytes(bytes))
    };
    Ok(Some(FeaturePair {
        supported: word(HEAD_LEN),
        required: word(HEAD_LEN + 8),
    }))
}

impl Connection {
    pub(super) fn agree_on_features(&mut self, theirs: FeaturePair) -> Result<(), Cause> {
        let ours = self.config.banner();
        let missing = theirs.supported.missing(ours.required);
        if missing != Features::default() {
            return Err(PeerIncompatible::PeerLacksBannerFeatures(missing).into());
        }
        let missing = ours.supported.missing(theirs.required);
        if missing != Features::default() {
            return Err(PeerIncompatible::WeLackBannerFeatures(missing).into());
        }
        let both = ours.supported & theirs.supported;
        self.peer.compression = None;
        self.stream.offers_compression = both.missing(features::COMPRESSION).is_empty();
        let mut layout = self.stream.assembler.layout();
        layout.revision = if both.missing(features::REVISION_1) == Features::default() {
            Revision::Rev1
        } else {
            Revision::Rev0
        };
        self.stream.assembler = layout.into();
        self.stream.reader.set_layout(layout);
        Ok(())
    }

    /// Says what we are, and where we see the peer, from which it may learn its own address.
    pub(super) fn hello(&mut self) {
        let (peer_addr, next) = match self.stream.role {
            Role::Connector { target } => (target, State::HelloConnecting),
            Role::Acceptor => (
                EntityAddr::msgr2(self.peer.socket, 0),
                State::HelloAccepting,
            ),
        };
        self.control(&Hello {
            entity_type: self.config.name.kind,
            peer_addr,
        });
        self.stream.state = next;
    }
}
