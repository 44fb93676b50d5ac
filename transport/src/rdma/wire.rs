//! What two ends of ours tell each other beside the bytes they carry: the private data of the
//! connection manager's messages, and the immediate data of each send. All layouts are here.

/// `msgr`, so that others who use `rdma_cm` are told apart.
const MAGIC: [u8; 4] = *b"msgr";
/// Of the layouts in this file, and of what they imply: credits, one byte stream each way.
const VERSION: u8 = 1;

/// The offer of one end, in the private data of a request or its response, little-endian:
///
/// | bytes | what |
/// |---|---|
/// | 4 | `msgr` |
/// | 1 | version, 1 |
/// | 1 | flags, 0 |
/// | 2 | credits: how many sends the other end may make before it is given more |
/// | 4 | the most bytes of one send |
/// | 2 | the port that the connection originates from, if that is not the connection manager's |
///
/// The connection manager may append zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) credits: u16,
    pub(super) block_size: u32,
    /// 0 is none. The connection manager binds nothing to a port that is listened on; so what is
    /// to originate from there is bound to another port.
    pub(super) port: u16,
}

impl Hello {
    pub(super) const LEN: usize = 14;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[6..8].copy_from_slice(&self.credits.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.block_size.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.port.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Foreign> {
        let (head, rest) = bytes.split_at_checked(6).ok_or(Foreign::NotUs)?;
        if head[..4] != MAGIC {
            return Err(Foreign::NotUs);
        }
        if head[4] != VERSION {
            return Err(Foreign::Version(head[4]));
        }
        let parts = rest.split_first_chunk();
        let (&credits, rest) = parts.ok_or(Foreign::NotUs)?;
        let parts = rest.split_first_chunk();
        let (&block_size, rest) = parts.ok_or(Foreign::NotUs)?;
        let &port = rest.first_chunk().ok_or(Foreign::NotUs)?;
        let hello = Self {
            credits: u16::from_le_bytes(credits),
            block_size: u32::from_le_bytes(block_size),
            port: u16::from_le_bytes(port),
        };
        if u32::from(hello.credits) < super::credits::LEAST || hello.block_size == 0 {
            return Err(Foreign::Unusable);
        }
        Ok(hello)
    }
}

/// Why an offer cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    #[error("the peer does not speak this protocol")]
    NotUs,
    #[error("the peer speaks version {0} of this protocol")]
    Version(u8),
    #[error("the peer offers no room to send to")]
    Unusable,
}

/// Why a listener declines, in the private data of a rejection: `msgr`, the version, and this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Refusal {
    /// The offer cannot be taken.
    Foreign = 1,
    /// No receives are left to grant, or no memory.
    Exhausted = 2,
    /// We connect to you at the same time, from and to the same ports: take ours instead.
    Crossed = 3,
}

impl Refusal {
    pub(super) fn encode(self) -> [u8; 6] {
        let mut bytes = [0; 6];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self as u8;
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_at_checked(6)?;
        if head[..4] != MAGIC {
            return None;
        }
        match head[5] {
            1 => Some(Self::Foreign),
            2 => Some(Self::Exhausted),
            3 => Some(Self::Crossed),
            _ => None,
        }
    }
}

/// The immediate data of a send: bit 31 says that nothing follows it, bits 0 to 15 are credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Immediate {
    /// How many more sends the other end may make.
    pub(super) credits: u16,
    /// The byte stream ends behind this send.
    pub(super) last: bool,
}

impl Immediate {
    pub(super) fn encode(self) -> u32 {
        u32::from(self.last) << 31 | u32::from(self.credits)
    }

    pub(super) fn decode(immediate: u32) -> Self {
        Self {
            credits: immediate as u16,
            last: immediate >> 31 == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello = Hello {
        credits: 4,
        block_size: 16 << 10,
        port: 6800,
    };

    #[test]
    fn an_offer_is_laid_out_as_documented() {
        let bytes = HELLO.encode();
        assert_eq!(bytes, *b"msgr\x01\x00\x04\x00\x00\x40\x00\x00\x90\x1a");
        let mut padded = [0; 56];
        padded[..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(Hello::decode(&padded), Ok(HELLO));
    }

    #[test]
    fn what_is_no_offer_of_ours_is_told_apart() {
        let good = HELLO.encode();
        for len in 0..good.len() {
            assert_eq!(Hello::decode(&good[..len]), Err(Foreign::NotUs), "{len}");
        }
        let altered = |at: usize, to: u8| {
            let mut bytes = good;
            bytes[at] = to;
            Hello::decode(&bytes)
        };
        assert_eq!(altered(0, b'M'), Err(Foreign::NotUs));
        assert_eq!(altered(4, 2), Err(Foreign::Version(2)));
        assert_eq!(altered(6, 0), Err(Foreign::Unusable));
        assert_eq!(altered(9, 0), Err(Foreign::Unusable));
    }

    #[test]
    fn refusals_and_immediate_data_come_back_as_they_were() {
        for refusal in [Refusal::Foreign, Refusal::Exhausted, Refusal::Crossed] {
            assert_eq!(Refusal::decode(&refusal.encode()), Some(refusal));
        }
        assert_eq!(Refusal::decode(b"msgr\x01"), None);
        assert_eq!(Refusal::decode(b"msgr\x01\x09"), None);
        for (credits, last) in [(0, false), (0xffff, true), (7, false)] {
            let immediate = Immediate { credits, last };
            assert_eq!(Immediate::decode(immediate.encode()), immediate);
        }
        assert_eq!(
            Immediate {
                credits: 1,
                last: true
            }
            .encode(),
            0x8000_0001
        );
    }
}
