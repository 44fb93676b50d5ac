//! Secure mode: frames as AES-128-GCM records, which nobody on the way can read or change.
//!
//! Segments have no checksums here; each is padded with zeros to whole cipher blocks, and a record
//! ends with a tag of 16 bytes. In revision 1 a frame is up to three records:
//!
//! | record | plain | there if |
//! |---|---|---|
//! | head | preamble (32), the first 48 bytes of the first segment | always |
//! | first | the rest of the first segment | it is longer than 48 bytes |
//! | body | the other segments, epilogue (16) | there are several segments |
//!
//! In revision 0 it is a single one, so that the preamble has to be believed before the tag has
//! come: preamble (32), all segments, epilogue (16).
//!
//! Both ends derive everything from the connection secret that authentication gives them: the key
//! is bytes 0..16, the acceptor's first nonce 16..28, the connector's 28..40.
//!
//! Source: msgr2 specification, "Frame format"; Ceph's `src/msg/async/crypto_onwire.cc` and
//! `frames_v2.cc`.

mod landing;
mod nonce;
mod opener;
mod sealer;
#[cfg(test)]
mod tests;

use msgr_gcm::{KEY_LEN, NONCE_LEN, TAG_LEN};

use super::{MAX_SEGMENTS, PREAMBLE_LEN, Preamble, Revision};
use crate::auth::ConnectionSecret;
use nonce::Nonce;

pub use opener::Opener;
pub use sealer::Sealer;

/// The size of a cipher block in bytes: what everything is padded to.
const BLOCK_LEN: usize = 16;
/// How much of the first segment is in a revision 1 frame's head, in bytes.
const INLINE_LEN: usize = 48;
/// The size of an epilogue: the late status, and zeros.
const EPILOGUE_LEN: usize = BLOCK_LEN;
/// The size of a revision 1 frame's head without its tag, in bytes.
const HEAD_LEN: usize = PREAMBLE_LEN + INLINE_LEN;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who dialled; Ceph calls it the client.
    Connector,
    /// Who was dialled; Ceph calls it the server.
    Acceptor,
}

/// What `end` seals its frames with, and opens its peer's. Each connection has a secret of its own,
/// and uses this once: sealers of the same secret seal with the same nonces.
pub fn secure(secret: &ConnectionSecret, end: End, revision: Revision) -> (Sealer, Opener) {
    let (key, rest) = secret
        .bytes()
        .split_first_chunk::<KEY_LEN>()
        .expect("64 bytes");
    let (acceptor, rest) = rest.split_first_chunk::<NONCE_LEN>().expect("48 bytes");
    let (connector, _) = rest.split_first_chunk::<NONCE_LEN>().expect("36 bytes");
    let (ours, theirs) = match end {
        End::Connector => (connector, acceptor),
        End::Acceptor => (acceptor, connector),
    };
    (
        Sealer::new(key, Nonce::new(revision, *ours)),
        Opener::new(key, Nonce::new(revision, *theirs)),
    )
}

/// `len` rounded up to whole blocks.
const fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK_LEN)
}

/// What a record holds besides a head: parts of segments, each padded, then perhaps an epilogue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Plain {
    /// How much of each segment, in bytes.
    parts: [usize; MAX_SEGMENTS],
    epilogue: bool,
}

impl Plain {
    /// The size in bytes.
    fn len(&self) -> usize {
        let parts: usize = self.parts.iter().map(|len| padded(*len)).sum();
        parts + if self.epilogue { EPILOGUE_LEN } else { 0 }
    }
}

/// The records of a frame that follow its preamble, and what comes with it in the same record.
fn records(preamble: &Preamble, revision: Revision) -> [Option<Plain>; 2] {
    let mut parts = [0, 1, 2, 3].map(|segment| preamble.segment_len(segment));
    match revision {
        Revision::Rev0 => {
            let epilogue = true;
            [None, Some(Plain { parts, epilogue })]
        }
        Revision::Rev1 => {
            let first = parts[0].saturating_sub(INLINE_LEN);
            parts[0] = 0;
            let first = Plain {
                parts: [first, 0, 0, 0],
                epilogue: false,
            };
            let body = Plain {
                parts,
                epilogue: true,
            };
            [
                (first.len() > 0).then_some(first),
                (preamble.segments().len() > 1).then_some(body),
            ]
        }
    }
}

impl Preamble {
    /// The size of the whole frame in secure mode, in bytes.
    pub fn sealed_len(&self, revision: Revision) -> usize {
        let head = match revision {
            Revision::Rev0 => PREAMBLE_LEN,
            Revision::Rev1 => HEAD_LEN + TAG_LEN,
        };
        let records = records(self, revision).into_iter().flatten();
        head + records.map(|plain| plain.len() + TAG_LEN).sum::<usize>()
    }
}
