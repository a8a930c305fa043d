//! Where desired state and recorded progress are stored: SQLite. Each store loads, asks the rules of `plan::accept`, and
//! saves; the values of variables and secrets are sealed before they reach it.

mod seal;
mod sqlite;

pub use seal::{MasterKey, Sealer};
pub use sqlite::Db;
