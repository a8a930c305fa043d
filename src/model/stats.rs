//! What the server itself uses now: processors, memory, disks, and the agent on it. The names are the API's own.

use serde::{Deserialize, Serialize};

use super::quantity::Timestamp;

/// The server's figures at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemStats {
    pub at: Timestamp,
    pub cpu: Cpu,
    pub memory: Memory,
    /// All zero if there is none.
    pub swap: Swap,
    pub load: Load,
    /// The local file systems, by mount point.
    pub disks: Vec<Disk>,
    pub uptime_seconds: u64,
    pub agent: AgentStats,
}

/// The processors over the last second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    pub count: usize,
    /// Load of all cores together: 100 is fully busy.
    pub percent: f32,
    /// Load of each core.
    pub cores: Vec<f32>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub total_bytes: u64,
    pub used_bytes: u64,
    /// Available to a new process: free, or reclaimable from the kernel's caches.
    pub available_bytes: u64,
}

/// Swap space, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    pub total_bytes: u64,
    pub used_bytes: u64,
}

/// The load average: how many processes ran or wanted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
}

/// A local file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub mount: String,
    /// `ext4`, `xfs` …
    pub kind: String,
    pub total_bytes: u64,
    /// What may still be written, without root's reserve.
    pub free_bytes: u64,
    /// Null if the file system creates them on demand.
    pub inodes: Option<u64>,
    pub inodes_free: Option<u64>,
}

/// The agent's own resource use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentStats {
    pub rss_bytes: u64,
    /// Processor time since its start.
    pub cpu_seconds: f64,
    pub uptime_seconds: u64,
}
