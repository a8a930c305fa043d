//! Zexio Agent: makes a server match a written desired state, over systemd and Caddy.

pub mod api;
pub mod bell;
pub mod cli;
pub mod model;
pub mod plan;
pub mod port;
pub mod render;
pub mod settings;
pub mod sign;
pub mod spec_dir;
