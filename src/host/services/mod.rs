//! Host services: what each of them is on this kind of host, how it is looked at, and how its packages come and go.

pub mod catalogue;
mod installed;
mod manager;
mod observe;
pub mod packages;

pub use observe::Host;
