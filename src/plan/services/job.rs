//! A job for the package manager.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::services::{Service, Version};

/// Exit status of the package job if the desired version is not available.
pub const VERSION_UNAVAILABLE: i32 = 3;

/// Exit status of the package job if it finds no supported package manager.
pub const NO_PACKAGE_MANAGER: i32 = 4;

/// A job for the package manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageJob {
    pub service: Service,
    pub task: Task,
}

/// What the package manager can do for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Install it, or finish installing it.
    Install(Version),
    Remove {
        /// The majors to remove; others stay.
        majors: BTreeSet<u32>,
        /// Whether its data is deleted too.
        purge: bool,
    },
}

impl fmt::Display for PackageJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.task.text(self.service))
    }
}

impl Task {
    /// Describes the task in words.
    pub fn text(&self, service: Service) -> String {
        match self {
            Self::Install(version) => format!("install {service} {}", version.shown(service)),
            Self::Remove { purge: false, .. } => format!("remove {service} and keep its data"),
            Self::Remove { purge: true, .. } => format!("remove {service} and its data"),
        }
    }
}
