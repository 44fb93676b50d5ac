//! [`System`]: the system's clock and its random numbers, for authentication.

use std::time::SystemTime;

use msgr_protocol::Timestamp;
use msgr_protocol::auth::Surroundings;

/// The system's clock and its random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Surroundings for System {
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let since_1970 = since_1970.unwrap_or_default();
        Timestamp {
            sec: since_1970.as_secs() as u32,
            nsec: since_1970.subsec_nanos(),
        }
    }

    /// # Panics
    /// If the system has no random numbers: nothing that depends on them would be safe.
    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has random numbers");
    }
}
