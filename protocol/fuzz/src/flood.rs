//! A peer that keeps asking, and maybe does not read the answers.

use super::acceptor::accept;
use super::connector::connect;
use super::driver::Volume;
use super::input::Input;

/// As [`acceptor`](super::acceptor()) or [`connector`](super::connector()), with as many frames as
/// it takes to reach every bound: apart from these, because it is slow.
pub fn flood(data: &[u8]) {
    let input = &mut Input::new(&data[..data.len().min(64)]);
    if input.u8() & 1 == 0 {
        accept(input, Volume::Flood);
    } else {
        connect(input, Volume::Flood);
    }
}
