//! Zexio Agent: makes a server match a written desired state, over systemd and Caddy.

pub mod api;
pub mod bell;
pub mod host;
pub mod model;
pub mod plan;
pub mod port;
pub mod pulse;
pub mod render;
pub mod settings;
pub mod sign;
