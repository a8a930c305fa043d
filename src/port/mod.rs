//! What the loop and the inputs need from the outside world, as small traits. One adapter each in `host` and `store`;
//! the fakes are with the tests.

mod machine;
mod observe;
mod store;

pub use crate::model::failure::{PortError, Retry};
pub use crate::plan::accept::project::Delivery;
pub use crate::plan::accept::{WriteError, WriteResult};
pub use machine::{Bundles, Routes, Services, Units, Upload, Uploads};
pub use observe::{Clock, Figures, Health, Journal, LogLine, LogLines, LogQuery, ProbeOrder, Stats, Tail};
pub use store::{
    DesiredServiceStore, DesiredStore, EventQuery, Events, FileErrors, ProgressStore, SecretInfo, ServiceProgressStore,
};
