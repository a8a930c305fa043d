//! SQLite under the contract.

use std::sync::Arc;

use zexio::host::clock::SystemClock;
use zexio::store::{Db, MasterKey};

#[test]
fn sqlite_keeps_the_contract() {
    super::hold(|claim| {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::parse(&"ab".repeat(32)).unwrap();
        claim(&Db::open(&dir.path().join("zexio.db"), &master, Arc::new(SystemClock)).unwrap());
    });
}
