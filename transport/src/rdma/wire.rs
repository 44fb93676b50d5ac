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
/// | 1 | reads: how many of the other end's reads of this end's memory it serves at a time |
/// | 2 | credits: how many sends the other end may make before it is given more |
/// | 4 | the most bytes of one send |
/// | 2 | the port that the connection originates from, if that is not the connection manager's |
/// | 4 | the most bytes that it reads at a time of what the other end [offers](Offer); 0 is never |
///
/// The connection manager may append zeros. No reads in either offer, and all bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) credits: u16,
    pub(super) block_size: u32,
    /// 0 is none. The connection manager binds nothing to a port that is listened on; so what is
    /// to originate from there is bound to another port.
    pub(super) port: u16,
    pub(super) reads: u8,
    pub(super) read_size: u32,
}

impl Hello {
    pub(super) const LEN: usize = 18;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.reads;
        bytes[6..8].copy_from_slice(&self.credits.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.block_size.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.port.to_le_bytes());
        bytes[14..18].copy_from_slice(&self.read_size.to_le_bytes());
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
        let parts = rest.split_first_chunk();
        let (&port, rest) = parts.ok_or(Foreign::NotUs)?;
        let &read_size = rest.first_chunk().ok_or(Foreign::NotUs)?;
        let hello = Self {
            credits: u16::from_le_bytes(credits),
            block_size: u32::from_le_bytes(block_size),
            port: u16::from_le_bytes(port),
            reads: head[5],
            read_size: u32::from_le_bytes(read_size),
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

/// The immediate data of a send: bits 0 to 15 are credits, 16 to 23 how many offers are read, bit 30
/// says that it brings an [`Offer`], 31 that nothing follows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Immediate {
    /// How many more sends the other end may make.
    pub(super) credits: u16,
    /// So many of the other end's offers, the oldest, are read. A send without bytes that says so
    /// takes no credit: for each offer, who makes it keeps a receive posted for that.
    pub(super) read: u8,
    /// Its bytes are an offer, not of the stream.
    pub(super) offer: bool,
    /// The byte stream ends behind this send.
    pub(super) last: bool,
}

impl Immediate {
    pub(super) fn encode(self) -> u32 {
        u32::from(self.last) << 31
            | u32::from(self.offer) << 30
            | u32::from(self.read) << 16
            | u32::from(self.credits)
    }

    pub(super) fn decode(immediate: u32) -> Self {
        Self {
            credits: immediate as u16,
            read: (immediate >> 16) as u8,
            offer: immediate >> 30 & 1 == 1,
            last: immediate >> 31 == 1,
        }
    }
}

/// So many offers may be made and not read yet, on each connection.
pub(super) const OFFERS: usize = 4;

/// The next bytes of the stream, for the other end to read where they are. Little-endian:
///
/// | bytes | what |
/// |---|---|
/// | 8 | where they are, as the device knows it |
/// | 4 | the key to them |
/// | 4 | how many |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) address: u64,
    pub(super) key: u32,
    pub(super) len: u32,
}

impl Offer {
    pub(super) const LEN: usize = 16;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.key.to_le_bytes());
        bytes[12..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    /// None if it is not that long.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&address, rest) = bytes.split_first_chunk()?;
        let (&key, rest) = rest.split_first_chunk()?;
        let len = rest.try_into().ok()?;
        Some(Self {
            address: u64::from_le_bytes(address),
            key: u32::from_le_bytes(key),
            len: u32::from_le_bytes(len),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello = Hello {
        credits: 4,
        block_size: 16 << 10,
        port: 6800,
        reads: 8,
        read_size: 1 << 20,
    };

    #[test]
    fn an_offer_is_laid_out_as_documented() {
        let bytes = HELLO.encode();
        assert_eq!(
            bytes,
            *b"msgr\x01\x08\x04\x00\x00\x40\x00\x00\x90\x1a\x00\x00\x10\x00"
        );
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
        for bit in 0..32 {
            let immediate = Immediate::decode(1 << bit);
            let known = !(24..30).contains(&bit);
            assert_eq!(immediate != Immediate::default(), known, "bit {bit}");
            assert_eq!(immediate.encode(), u32::from(known) << bit);
        }
        let all = Immediate {
            credits: 1,
            read: 2,
            offer: true,
            last: true,
        };
        assert_eq!(all.encode(), 0xc002_0001);
    }

    #[test]
    fn an_offer_of_memory_is_laid_out_as_documented() {
        let offer = Offer {
            address: 0x7f00_0000_1000,
            key: 0x0102_0304,
            len: 1 << 20,
        };
        let bytes = offer.encode();
        assert_eq!(bytes, *b"\x00\x10\0\0\0\x7f\0\0\x04\x03\x02\x01\0\0\x10\0");
        assert_eq!(Offer::decode(&bytes), Some(offer));
        assert_eq!(Offer::decode(&bytes[1..]), None);
        assert_eq!(Offer::decode(&[&bytes[..], b"more"].concat()), None);
    }
}
