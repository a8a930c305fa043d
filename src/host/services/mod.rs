//! Host services: what each is on this kind of host, how it is observed, and how its packages are installed and
//! removed.

pub mod catalogue;
mod installed;
mod manager;
mod observe;
pub mod packages;

pub use observe::Host;
