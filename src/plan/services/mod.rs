//! Host services: which version matches, what to do for a service, and its status. A service without a request is never
//! touched; what was installed before the first request stays after the last one.

mod advance;
mod job;
mod needs;
mod presence;
mod status;
mod steps;
mod versions;

pub use advance::advance;
pub use job::{NO_PACKAGE_MANAGER, PackageJob, Task, VERSION_UNAVAILABLE};
pub use needs::gate_on_services;
pub use status::{needs_operator, status};
pub use steps::steps;
pub use versions::{AvailablePackage, choose_package, matching};
