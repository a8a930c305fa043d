//! Asks apps whether they are well: on their own port before they get traffic, through Caddy after it; and finds out
//! which process a port belongs to.

pub mod language;
pub mod listener;
pub mod prober;
mod sockets;
mod visit;
mod visitor;
