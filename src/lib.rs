//! Zexio Agent: makes a server match a written desired state, over systemd and Caddy.

pub mod host;
pub mod model;
pub mod port;
pub mod unpack;
