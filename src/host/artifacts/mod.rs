//! How an artifact comes to this server: from which addresses, fetched or uploaded, and unpacked by an unprivileged
//! helper.

pub mod address;
pub mod fetch;
pub mod meaning;
pub mod unpack;
pub mod uploads;
