//! What a process may use and how closed it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::quantity::{Bytes, CpuShare};

/// What each process may use at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory; at least 4M.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor time, in percent of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuShare>,
    /// Threads and processes, at most.
    pub tasks: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, cpu: None, tasks: 512 }
    }
}

/// How closed a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// A read-only system, no devices, no other app's files: all that does not break a usual runtime.
    #[default]
    Standard,
    /// Also no memory that is writable and executable: right for Go and Rust, wrong for Node and other just-in-time compilers.
    Strict,
    /// Only its own user.
    Off,
}
