//! [`State`]: how far a connection has come, and which frames may come next.
//!
//! ```text
//!   connector                                        acceptor
//!   BANNER_CONNECTING   ── banner ──▶ ◀── banner ──   BANNER_ACCEPTING
//!   HELLO_CONNECTING    ── HELLO ───▶ ◀── HELLO ───   HELLO_ACCEPTING
//!   AUTH_CONNECTING     ── AUTH_REQUEST ──────────▶   AUTH_ACCEPTING
//!                       ◀─ AUTH_BAD_METHOD, or ────
//!                       ◀─ AUTH_REPLY_MORE, or ────
//!                       ── AUTH_REQUEST_MORE ─────▶   AUTH_ACCEPTING_MORE
//!                       ◀──────────── AUTH_DONE ───
//!   AUTH_CONNECTING_SIGN ─ AUTH_SIGNATURE, both ───   AUTH_ACCEPTING_SIGN
//!   COMPRESSION_CONNECTING COMPRESSION_REQUEST ▶     COMPRESSION_ACCEPTING
//!                       ◀───── COMPRESSION_DONE ───   (both only if both banners offer it)
//!   SESSION_CONNECTING  ── CLIENT_IDENT ──────────▶   SESSION_ACCEPTING
//!                       ◀── SERVER_IDENT, or ──────
//!                       ◀──────────────── WAIT ────
//!   SESSION_RECONNECTING ─ SESSION_RECONNECT ─────▶   SESSION_ACCEPTING
//!                       ◀─ SESSION_RECONNECT_OK, or
//!                       ◀─ RETRY, RETRY_GLOBAL, RESET (ask again), WAIT
//!   READY               ── MESSAGE, ACK, KEEPALIVE2 ─ READY
//! ```
//!
//! A session between two connections is in `START_CONNECT` (about to connect), STANDBY (until there
//! is something to send, or the peer comes) or WAIT (the peer said that its own connection comes).
//!
//! Source: msgr2 specification, "Message flow"; the states are those of Ceph's
//! `src/msg/async/ProtocolV2.h`.

use std::fmt;

use crate::wire::Tag;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // The names are the protocol's own.
pub enum State {
    BannerConnecting,
    HelloConnecting,
    AuthConnecting,
    SignConnecting,
    CompressionConnecting,
    SessionConnecting,
    SessionReconnecting,
    BannerAccepting,
    HelloAccepting,
    AuthAccepting,
    AuthAcceptingMore,
    SignAccepting,
    CompressionAccepting,
    SessionAccepting,
    Ready,
    StartConnect,
    Standby,
    Wait,
    Closed,
}

impl State {
    /// Every state, in the order of the picture above.
    pub const ALL: [Self; 19] = [
        Self::BannerConnecting,
        Self::HelloConnecting,
        Self::AuthConnecting,
        Self::SignConnecting,
        Self::CompressionConnecting,
        Self::SessionConnecting,
        Self::SessionReconnecting,
        Self::BannerAccepting,
        Self::HelloAccepting,
        Self::AuthAccepting,
        Self::AuthAcceptingMore,
        Self::SignAccepting,
        Self::CompressionAccepting,
        Self::SessionAccepting,
        Self::Ready,
        Self::StartConnect,
        Self::Standby,
        Self::Wait,
        Self::Closed,
    ];

    /// Whether this is on the connector's side of a handshake.
    pub const fn is_connecting(self) -> bool {
        matches!(
            self,
            Self::BannerConnecting
                | Self::HelloConnecting
                | Self::AuthConnecting
                | Self::SignConnecting
                | Self::CompressionConnecting
                | Self::SessionConnecting
                | Self::SessionReconnecting
        )
    }

    /// Whether this is on the acceptor's side of a handshake.
    pub const fn is_accepting(self) -> bool {
        matches!(
            self,
            Self::BannerAccepting
                | Self::HelloAccepting
                | Self::AuthAccepting
                | Self::AuthAcceptingMore
                | Self::SignAccepting
                | Self::CompressionAccepting
                | Self::SessionAccepting
        )
    }

    /// The frames that are legal in this state. Any other ends the connection.
    pub const fn expects(self) -> &'static [Tag] {
        match self {
            Self::BannerConnecting
            | Self::BannerAccepting
            | Self::StartConnect
            | Self::Standby
            | Self::Wait
            | Self::Closed => &[],
            Self::HelloConnecting | Self::HelloAccepting => &[Tag::Hello],
            Self::AuthConnecting => &[Tag::AuthBadMethod, Tag::AuthReplyMore, Tag::AuthDone],
            Self::AuthAccepting => &[Tag::AuthRequest],
            Self::AuthAcceptingMore => &[Tag::AuthRequestMore],
            Self::SignConnecting | Self::SignAccepting => &[Tag::AuthSignature],
            Self::CompressionConnecting => &[Tag::CompressionDone],
            Self::CompressionAccepting => &[Tag::CompressionRequest],
            Self::SessionConnecting => &[Tag::ServerIdent, Tag::IdentMissingFeatures, Tag::Wait],
            Self::SessionReconnecting => &[
                Tag::SessionReconnectOk,
                Tag::SessionReset,
                Tag::SessionRetry,
                Tag::SessionRetryGlobal,
                Tag::Wait,
            ],
            Self::SessionAccepting => &[Tag::ClientIdent, Tag::SessionReconnect],
            Self::Ready => &[Tag::Message, Tag::Ack, Tag::Keepalive2, Tag::Keepalive2Ack],
        }
    }

    /// The name as Ceph logs it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BannerConnecting => "BANNER_CONNECTING",
            Self::HelloConnecting => "HELLO_CONNECTING",
            Self::AuthConnecting => "AUTH_CONNECTING",
            Self::SignConnecting => "AUTH_CONNECTING_SIGN",
            Self::CompressionConnecting => "COMPRESSION_CONNECTING",
            Self::SessionConnecting => "SESSION_CONNECTING",
            Self::SessionReconnecting => "SESSION_RECONNECTING",
            Self::BannerAccepting => "BANNER_ACCEPTING",
            Self::HelloAccepting => "HELLO_ACCEPTING",
            Self::AuthAccepting => "AUTH_ACCEPTING",
            Self::AuthAcceptingMore => "AUTH_ACCEPTING_MORE",
            Self::SignAccepting => "AUTH_ACCEPTING_SIGN",
            Self::CompressionAccepting => "COMPRESSION_ACCEPTING",
            Self::SessionAccepting => "SESSION_ACCEPTING",
            Self::Ready => "READY",
            Self::StartConnect => "START_CONNECT",
            Self::Standby => "STANDBY",
            Self::Wait => "WAIT",
            Self::Closed => "CLOSED",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
