//! [`EntityAddr`]: where an entity is.
//!
//! Source: `entity_addr_t` in Ceph's `src/msg/msg_types.{h,cc}`.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

use super::{Malformed, Reader};

/// First byte of an address in the legacy encoding.
const MARKER_LEGACY: u8 = 0;
/// First byte of an address.
const MARKER_ADDR: u8 = 1;
/// The version of the encoding, and the oldest that its reader must know.
const VERSION: u8 = 1;

/// Linux's numbers, whatever the host's are.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// The sizes of Linux's `sockaddr_in` and `sockaddr_in6`.
const SOCKADDR_IN: usize = 16;
const SOCKADDR_IN6: usize = 28;
/// The size of Linux's `sockaddr_storage`, which the legacy encoding has in full.
const SOCKADDR_STORAGE: usize = 128;
/// The longest encoded address that is accepted, in bytes.
const MAX_ADDR: usize = 256;

// Family, port, address, and what pads or follows it.
const _: () = assert!(SOCKADDR_IN == 2 + 2 + 4 + 8);
const _: () = assert!(SOCKADDR_IN6 == 2 + 2 + 4 + 16 + 4);

/// What protocol is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum AddrType {
    /// No address.
    #[default]
    None = 0,
    /// Messenger v1.
    Legacy = 1,
    /// Messenger v2.
    Msgr2 = 2,
    /// Any: a client's own address, where nobody can connect.
    Any = 3,
    /// A range of addresses.
    Cidr = 4,
}

impl AddrType {
    const NAMES: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("v1", Self::Legacy),
        ("v2", Self::Msgr2),
        ("any", Self::Any),
        ("cidr", Self::Cidr),
    ];

    fn from_number(number: u32) -> Result<Self, Malformed> {
        let known = |(_, kind): &(_, Self)| *kind as u32 == number;
        let value = number.into();
        let found = Self::NAMES.into_iter().find(known);
        found.map(|(_, kind)| kind).ok_or(Malformed::UnknownValue {
            what: "address type",
            value,
        })
    }
}

/// One address of an entity: protocol, socket address, and a nonce that tells apart entities which
/// share it over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntityAddr {
    /// What is spoken there.
    pub kind: AddrType,
    /// Which entity it is.
    pub nonce: u32,
    /// Where it is.
    pub socket: Option<SocketAddr>,
}

impl EntityAddr {
    /// An address where messenger v2 is spoken.
    pub const fn msgr2(socket: SocketAddr, nonce: u32) -> Self {
        Self {
            kind: AddrType::Msgr2,
            nonce,
            socket: Some(socket),
        }
    }

    /// The address of a client, where nobody can connect.
    pub const fn any(socket: SocketAddr, nonce: u32) -> Self {
        Self {
            kind: AddrType::Any,
            nonce,
            socket: Some(socket),
        }
    }

    /// The same address with `ip`, if it has none of its own.
    #[must_use]
    pub fn with_ip_if_unspecified(mut self, ip: IpAddr) -> Self {
        if let Some(socket) = &mut self.socket
            && socket.ip().is_unspecified()
        {
            socket.set_ip(ip);
        }
        self
    }

    /// The order that decides races between two connections of the same peers: by the bytes of
    /// type, nonce, and socket address as a little-endian Linux host has them in memory.
    pub fn race_cmp(&self, other: &Self) -> Ordering {
        self.memory_image().cmp(&other.memory_image())
    }

    fn memory_image(&self) -> [u8; 4 + 4 + SOCKADDR_IN6] {
        let mut image = [0; 4 + 4 + SOCKADDR_IN6];
        let mut unused = image.as_mut_slice();
        unused.put_u32_le(self.kind as u32);
        unused.put_u32_le(self.nonce);
        put_sockaddr(&mut unused, self.socket);
        image
    }

    /// Appends the encoded address.
    pub fn encode(&self, out: &mut BytesMut) {
        let socket_len = match self.socket {
            Some(SocketAddr::V4(_)) => SOCKADDR_IN,
            // Ceph sends an address without a family at this length too.
            Some(SocketAddr::V6(_)) | None => SOCKADDR_IN6,
        };
        out.put_u8(MARKER_ADDR);
        out.put_u8(VERSION);
        out.put_u8(VERSION);
        out.put_u32_le(3 * 4 + socket_len as u32);
        out.put_u32_le(self.kind as u32);
        out.put_u32_le(self.nonce);
        out.put_u32_le(socket_len as u32);
        put_sockaddr(out, self.socket);
    }

    /// Parses an address, also in the legacy encoding.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8("address marker")? {
            MARKER_LEGACY => Self::decode_legacy(reader),
            MARKER_ADDR => Self::decode_versioned(reader),
            marker => Err(Malformed::UnknownValue {
                what: "address marker",
                value: marker.into(),
            }),
        }
    }

    /// Behind the marker 0: 3 bytes of padding, nonce, `sockaddr_storage` with a big-endian family.
    fn decode_legacy(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.bytes("legacy address padding", 3)?;
        let nonce = reader.u32("nonce")?;
        let storage = reader.bytes("legacy socket address", SOCKADDR_STORAGE)?;
        let family = u16::from_be_bytes([storage[0], storage[1]]);
        let socket = get_sockaddr(family, &mut Reader::new(&storage[2..]))?;
        let kind = if socket.is_some() {
            AddrType::Legacy
        } else {
            AddrType::None
        };
        Ok(Self {
            kind,
            nonce,
            socket,
        })
    }

    /// Behind the marker 1: version, compatible version, length; the rest may grow at its end.
    fn decode_versioned(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.u8("address version")?;
        let compatible = reader.u8("compatible address version")?;
        if compatible > VERSION {
            return Err(Malformed::UnknownValue {
                what: "compatible address version",
                value: compatible.into(),
            });
        }
        let len = reader.count("address", MAX_ADDR)?;
        let mut fields = Reader::new(reader.bytes("address", len)?);
        let kind = AddrType::from_number(fields.u32("address type")?)?;
        let nonce = fields.u32("nonce")?;
        let len = fields.count("socket address", SOCKADDR_IN6)?;
        let mut socket = Reader::new(fields.bytes("socket address", len)?);
        let socket = match len {
            0 => None,
            _ => get_sockaddr(socket.u16("address family")?, &mut socket)?,
        };
        Ok(Self {
            kind,
            nonce,
            socket,
        })
    }
}

/// The structure as on Linux: family in the host's order (little-endian here), port and address in
/// network order.
fn put_sockaddr(out: &mut impl BufMut, socket: Option<SocketAddr>) {
    match socket {
        Some(SocketAddr::V4(socket)) => {
            out.put_u16_le(AF_INET);
            out.put_u16(socket.port());
            out.put_slice(&socket.ip().octets());
            out.put_bytes(0, 8);
        }
        Some(SocketAddr::V6(socket)) => {
            out.put_u16_le(AF_INET6);
            out.put_u16(socket.port());
            out.put_slice(&socket.flowinfo().to_be_bytes());
            out.put_slice(&socket.ip().octets());
            out.put_u32_le(socket.scope_id());
        }
        None => out.put_bytes(0, SOCKADDR_IN6),
    }
}

/// What follows the family of a socket address.
fn get_sockaddr(family: u16, tail: &mut Reader<'_>) -> Result<Option<SocketAddr>, Malformed> {
    const WHAT: &str = "socket address";
    let port = |tail: &mut Reader<'_>| tail.u16(WHAT).map(u16::swap_bytes);
    match family {
        0 => Ok(None),
        AF_INET => {
            let port = port(tail)?;
            let mut ip = [0; 4];
            ip.copy_from_slice(tail.bytes(WHAT, 4)?);
            Ok(Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into()))
        }
        AF_INET6 => {
            let port = port(tail)?;
            let flowinfo = tail.u32(WHAT)?.swap_bytes();
            let mut ip = [0; 16];
            ip.copy_from_slice(tail.bytes(WHAT, 16)?);
            let scope = tail.u32(WHAT)?;
            Ok(Some(
                SocketAddrV6::new(Ipv6Addr::from(ip), port, flowinfo, scope).into(),
            ))
        }
        family => Err(Malformed::UnknownValue {
            what: "address family",
            value: family.into(),
        }),
    }
}

impl fmt::Display for EntityAddr {
    /// As Ceph writes it: `v2:127.0.0.1:6800/123`, `v2:[::1]:6800/123`, `-` for no address. Unlike
    /// Ceph's, the text keeps the type `any:` and the scope of a link-local address, and so can be
    /// parsed again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == AddrType::None {
            return f.write_str("-");
        }
        let (name, _) = AddrType::NAMES[self.kind as usize];
        write!(f, "{name}:")?;
        match self.socket {
            Some(socket) => write!(f, "{socket}/{}", self.nonce),
            None => write!(f, "/{}", self.nonce),
        }
    }
}

/// A text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address, for example v2:127.0.0.1:6800/0 or v2:[::1]:6800/0")]
pub struct ParseAddrError(pub(super) String);

impl FromStr for EntityAddr {
    type Err = ParseAddrError;

    /// Without a type it is messenger v2, without a nonce that is 0.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        let error = || ParseAddrError(text.to_owned());
        if text == "-" {
            return Ok(Self::default());
        }
        let typed =
            |(name, kind): (&str, _)| Some((text.strip_prefix(name)?.strip_prefix(':')?, kind));
        let with_type = AddrType::NAMES.into_iter().skip(1).find_map(typed);
        let (rest, kind) = with_type.unwrap_or((text, AddrType::Msgr2));
        let (socket, nonce) = match rest.split_once('/') {
            // As we write an address that is only a type and a nonce.
            Some(("", nonce)) if with_type.is_some() => (None, Some(nonce)),
            Some((socket, nonce)) => (Some(socket), Some(nonce)),
            None => (Some(rest), None),
        };
        let socket = socket.map(str::parse).transpose().map_err(|_| error())?;
        let nonce = nonce.map_or(Ok(0), str::parse).map_err(|_| error())?;
        Ok(Self {
            kind,
            nonce,
            socket,
        })
    }
}

#[cfg(test)]
mod tests;
