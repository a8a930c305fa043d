//! What the server itself looks like now: processors, memory, disks, and the agent on it. These are the API's own names.

use serde::{Deserialize, Serialize};

use super::quantity::Timestamp;

/// The server's figures of one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemStats {
    /// When.
    pub at: Timestamp,
    /// The processors.
    pub cpu: Cpu,
    /// The memory.
    pub memory: Memory,
    /// The swap space; all zero where there is none.
    pub swap: Swap,
    /// The load.
    pub load: Load,
    /// The local file systems, by where they are mounted.
    pub disks: Vec<Disk>,
    /// How long the server is up.
    pub uptime_seconds: u64,
    /// The agent itself.
    pub agent: AgentStats,
}

/// The processors over the last second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// How many.
    pub count: usize,
    /// How busy they were together: 100 is all of them.
    pub percent: f32,
    /// How busy each was.
    pub cores: Vec<f32>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// In use.
    pub used_bytes: u64,
    /// What a new process could have: free, or given back by the kernel's caches.
    pub available_bytes: u64,
}

/// Swap space, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// All of it.
    pub total_bytes: u64,
    /// In use.
    pub used_bytes: u64,
}

/// How many processes ran or wanted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// On average over a minute.
    pub one: f64,
    /// Over five.
    pub five: f64,
    /// Over fifteen.
    pub fifteen: f64,
}

/// A local file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// Its kind: `ext4`, `xfs` …
    pub kind: String,
    /// Its size.
    pub total_bytes: u64,
    /// What may still be written, without what is kept for root.
    pub free_bytes: u64,
    /// How many inodes it has; null where it makes them as it needs them.
    pub inodes: Option<u64>,
    /// How many of them are free.
    pub inodes_free: Option<u64>,
}

/// What the agent uses of the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentStats {
    /// Its memory.
    pub rss_bytes: u64,
    /// Processor time since it was started.
    pub cpu_seconds: f64,
    /// How long it runs.
    pub uptime_seconds: u64,
}
