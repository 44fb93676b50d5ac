//! [`KeyLog`]: where secrets go that somebody needs who looks at captures of his own traffic.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use super::Secrets;
use crate::wire::Mode;

/// Gets the secrets of every connection, as soon as they are agreed. Whoever reads them can read the
/// connection; there is none unless somebody asks for it.
pub trait KeyLog: fmt::Debug + Send + Sync {
    /// Takes a line: `MSGR2_SECRETS`, the sockets of connector and acceptor, the connection mode, the
    /// session key and the connection secret (hexadecimal, `-` for none), separated by spaces.
    fn write(&self, line: &str);
}

pub(crate) fn line(
    connector: SocketAddr,
    acceptor: SocketAddr,
    mode: Mode,
    secrets: &Secrets,
) -> String {
    let session_key = secrets.session_key.as_ref().map(|key| hex(key.bytes()));
    let connection = secrets
        .connection
        .as_ref()
        .map(|secret| hex(secret.bytes()));
    let none = || "-".to_owned();
    format!(
        "MSGR2_SECRETS {connector} {acceptor} {mode} {} {}",
        session_key.unwrap_or_else(none),
        connection.unwrap_or_else(none),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
