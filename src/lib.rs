//! Zexio Agent: makes a server match a written desired state, over systemd and Caddy.

pub mod agent;
pub mod api;
pub mod bell;
pub mod cli;
pub mod doors;
pub mod files;
pub mod host;
pub mod launch;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod port;
pub mod pulse;
pub mod reconcile;
pub mod render;
pub mod settings;
pub mod sign;
pub mod spec_dir;
pub mod store;
pub mod tell;
#[cfg(test)]
mod tidy;
pub mod unpack;
