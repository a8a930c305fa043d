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
pub use job::{NO_MANAGER, NOT_ON_OFFER, PackageJob, Task};
pub use needs::gate_on_services;
pub use status::{status, waits_for_somebody};
pub use steps::steps;
pub use versions::{Offer, choose, matching};
