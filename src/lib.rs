//! Zexio Agent: makes a server match a written desired state, over systemd and Caddy.

pub mod agent;
pub mod bell;
pub mod doors;
pub mod host;
pub mod launch;
pub mod model;
pub mod plan;
pub mod port;
pub mod reconcile;
pub mod render;
pub mod settings;
pub mod spec_dir;
pub mod store;
#[cfg(test)]
mod tidy;
pub mod unpack;
