//! SQLite under the contract.

use zexio::store::{Db, MasterKey};

#[test]
fn sqlite_keeps_the_contract() {
    super::hold(|claim| {
        let dir = tempfile::tempdir().unwrap();
        claim(&Db::open(&dir.path().join("zexio.db"), &MasterKey::parse(&"ab".repeat(32)).unwrap()).unwrap());
    });
}
