//! [`EntityAddrVec`]: all addresses of an entity, its identity on the network.
//!
//! Source: `entity_addrvec_t` in Ceph's `src/msg/msg_types.{h,cc}`.

use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::{AddrType, EntityAddr, Malformed, ParseAddrError, Reader};

/// First byte of an address vector.
const MARKER_VEC: u8 = 2;
/// The most addresses of one entity.
const MAX_ADDRS: usize = 16;

/// All addresses of an entity: its identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EntityAddrVec {
    addrs: SmallVec<[EntityAddr; 2]>,
}

impl EntityAddrVec {
    /// The addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = &EntityAddr> {
        self.addrs.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.addrs.is_empty()
    }

    /// Whether this is one of them, nonce included.
    pub fn contains(&self, addr: &EntityAddr) -> bool {
        self.addrs.contains(addr)
    }

    /// Appends an address.
    pub fn push(&mut self, addr: EntityAddr) {
        self.addrs.push(addr);
    }

    /// The first address where messenger v2 is spoken.
    pub fn msgr2(&self) -> Option<EntityAddr> {
        self.iter()
            .copied()
            .find(|addr| addr.kind == AddrType::Msgr2)
    }

    /// Appends the encoded addresses.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(MARKER_VEC);
        out.put_u32_le(self.addrs.len() as u32);
        self.iter().for_each(|addr| addr.encode(out));
    }

    /// Parses addresses; also accepts a single one, as older encoders send it.
    ///
    /// # Errors
    /// [`Malformed`], also for more than 16 addresses.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut behind_marker = reader.clone();
        if behind_marker.u8("address vector marker")? != MARKER_VEC {
            return EntityAddr::decode(reader).map(Self::from);
        }
        *reader = behind_marker;
        let count = reader.count("address vector", MAX_ADDRS)?;
        let addrs = (0..count)
            .map(|_| EntityAddr::decode(reader))
            .collect::<Result<_, _>>()?;
        Ok(Self { addrs })
    }
}

impl From<EntityAddr> for EntityAddrVec {
    fn from(addr: EntityAddr) -> Self {
        Self::from_iter([addr])
    }
}

impl FromIterator<EntityAddr> for EntityAddrVec {
    fn from_iter<I: IntoIterator<Item = EntityAddr>>(addrs: I) -> Self {
        Self {
            addrs: addrs.into_iter().collect(),
        }
    }
}

impl fmt::Display for EntityAddrVec {
    /// As Ceph writes it: one address alone, several in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addrs.as_slice() {
            [only] => only.fmt(f),
            several => {
                f.write_str("[")?;
                for (i, addr) in several.iter().enumerate() {
                    write!(f, "{}{addr}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl FromStr for EntityAddrVec {
    type Err = ParseAddrError;

    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        let list = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match list {
            // An IPv6 address without a type begins with a bracket too, but does not end with one.
            Some("") => Ok(Self::default()),
            // No peer would read so many.
            Some(list) if list.split(',').count() > MAX_ADDRS => {
                Err(ParseAddrError(text.to_owned()))
            }
            Some(list) => list.split(',').map(str::parse).collect(),
            None => text.parse().map(|addr: EntityAddr| addr.into()),
        }
    }
}

#[cfg(test)]
mod tests;
