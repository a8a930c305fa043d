//! The adapters: each does one thing to this server or to the network, and says in a [`PortError`] why it could not.
//!
//! [`PortError`]: crate::port::PortError

pub mod journal;
pub mod uploads;
