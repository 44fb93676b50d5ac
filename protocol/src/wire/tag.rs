//! [`Tag`]: the types of frames.

use std::fmt;

macro_rules! tags {
    ($($number:literal $variant:ident $name:literal,)*) => {
        /// The type of a frame, its first byte. The names are the specification's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Tag {
            $($variant = $number,)*
        }

        impl Tag {
            /// Every type of frame.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the specification.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl TryFrom<u8> for Tag {
            /// The number, which names no frame.
            type Error = u8;

            fn try_from(number: u8) -> Result<Self, u8> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    unknown => Err(unknown),
                }
            }
        }
    };
}

tags! {
    1 Hello "HELLO",
    2 AuthRequest "AUTH_REQUEST",
    3 AuthBadMethod "AUTH_BAD_METHOD",
    4 AuthReplyMore "AUTH_REPLY_MORE",
    5 AuthRequestMore "AUTH_REQUEST_MORE",
    6 AuthDone "AUTH_DONE",
    7 AuthSignature "AUTH_SIGNATURE",
    8 ClientIdent "CLIENT_IDENT",
    9 ServerIdent "SERVER_IDENT",
    10 IdentMissingFeatures "IDENT_MISSING_FEATURES",
    11 SessionReconnect "SESSION_RECONNECT",
    12 SessionReset "SESSION_RESET",
    13 SessionRetry "SESSION_RETRY",
    14 SessionRetryGlobal "SESSION_RETRY_GLOBAL",
    15 SessionReconnectOk "SESSION_RECONNECT_OK",
    16 Wait "WAIT",
    17 Message "MESSAGE",
    18 Keepalive2 "KEEPALIVE2",
    19 Keepalive2Ack "KEEPALIVE2_ACK",
    20 Ack "ACK",
    21 CompressionRequest "COMPRESSION_REQUEST",
    22 CompressionDone "COMPRESSION_DONE",
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
