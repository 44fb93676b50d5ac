//! Middleware: transports that wrap a transport.
//!
//! [`Tracer`] tells what is called and what happens, [`Counter`] counts it, [`FaultInjector`] ends
//! connections by chance, [`Fallback`] makes one transport of two. Each wraps any
//! [`Transport`](crate::Transport), a boxed one too, and they nest. What they add belongs to no
//! particular transport; what a transport must do itself does not belong here.

mod boxed;
mod counter;
mod fallback;
mod fault_injector;
mod tracer;

pub use counter::{Counter, Counts, Tally};
pub use fallback::Fallback;
pub use fault_injector::{FaultInjector, Injection};
pub use tracer::Tracer;
