//! Zexio Agent: reconciles a server with a declared desired state, over systemd and Caddy.

pub mod agent;
pub mod api;
pub mod cli;
pub mod event_log;
pub mod files;
pub mod heartbeat;
pub mod host;
pub mod keys;
pub mod launch;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod port;
pub mod reconcile;
pub mod render;
pub mod serve;
pub mod settings;
pub mod sign;
pub mod spec_dir;
pub mod store;
pub mod template;
#[cfg(test)]
mod tidy;
pub mod trigger;
pub mod unpack;
