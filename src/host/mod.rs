//! The adapters: each does one thing to this server or to the network, and reports failure as a [`PortError`].
//!
//! [`PortError`]: crate::port::PortError

pub mod artifacts;
pub mod blob;
pub mod bundles;
pub mod caddy;
pub mod cgroup;
pub mod clock;
pub mod disk;
pub mod endings;
pub mod journal;
pub mod packaged;
pub mod probe;
pub mod services;
pub mod signals;
pub mod stats;
pub mod systemd;
pub mod turn;
pub mod usage;
pub mod users;

use std::io;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use crate::model::reason::Reason;
use crate::port::PortError;

/// The error for one of our file operations: disk space may be freed or the disk repaired, so it is transient.
fn disk_error(what: &str, error: &io::Error) -> PortError {
    let (reason, mend) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Reason::DiskFull, "; make room, `zexio doctor` says where there is none")
        }
        _ => (Reason::DiskFailed, ""),
    };
    PortError::transient(reason, format!("could not {what}: {error}{mend}"))
}

/// Returns the settings that all requests of the agent share: no proxy, no redirects, no decoding, and each status is
/// an answer.
fn plain_http() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .accept_encoding("identity")
        .user_agent("zexio")
}
