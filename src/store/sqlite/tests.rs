//! What SQLite alone shows: bytes on disk, damaged rows, other versions. What every store promises is tested in
//! `tests/sim/contract`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::desired::{Intent, OperatorSuspension, Owner, Refusal, RefusalKind};
use crate::model::document;
use crate::model::event::By;
use crate::model::names::{KeyId, Ports, ProjectId, SecretName};
use crate::model::problem::SpecError;
use crate::model::progress::ProjectProgress;
use crate::model::quantity::Timestamp;
use crate::model::spec::Plain;
use crate::plan::accept::admit::{Admitted, Origin, UrlCheck, admit};
use crate::port::{DesiredStore, ProgressStore, WriteError};

/// A clock that stands.
pub struct At(pub Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Opens the database in a directory, at a time that stands.
pub fn db(dir: &tempfile::TempDir) -> Db {
    open(dir).unwrap()
}

fn open(dir: &tempfile::TempDir) -> Result<Db, String> {
    let master = MasterKey::parse(&"ab".repeat(32)).unwrap();
    Db::open(&dir.path().join("zexio.db"), &master, Arc::new(At(Timestamp(5_000))))
}

fn by() -> By {
    By::Key(KeyId::parse("admin").unwrap())
}

fn shop() -> ProjectId {
    ProjectId::parse("shop").unwrap()
}

fn spec(artifact: &str, env: &str) -> Result<Admitted, SpecError> {
    let text = format!(
        "zexio: 1\nproject: shop\nartifact: {{ {artifact} }}\nenv: {{ {env} }}\nprocesses: {{ web: {{ run: ./x }} }}"
    );
    let origin = Origin::Request { stored: None, now: Timestamp(1) };
    let any: UrlCheck = Arc::new(|_| Ok(()));
    document::parse(text.as_bytes()).and_then(|document| admit(text.as_bytes(), document, origin, &any))
}

const ONE: &str = "url: 'https://a.example.com/1'";
const TWO: &str = "url: 'https://a.example.com/2'";

#[test]
fn every_write_is_timed() {
    let dir = tempfile::tempdir().unwrap();
    let db = db(&dir);
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("writes", "", db.writes());
    let count = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("writes_count ")).unwrap();
        line.parse::<u32>().unwrap()
    };
    let before = count();
    db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    db.delete(&shop(), &Owner::Api, false, &by()).unwrap();
    assert_eq!(count(), before + 2);
}

#[test]
fn no_value_stands_in_the_database_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let db = db(&dir);
    let sentinel = "sentinel-4711-value";
    db.put(spec(ONE, &format!("A: {sentinel}")).unwrap(), &Owner::Api, None, &by()).unwrap();
    let secret = SecretName::parse("S").unwrap();
    db.set_secret(&shop(), &secret, &Plain::parse(sentinel.into()).unwrap(), &By::File("shop.yaml".into())).unwrap();
    assert_eq!(db.open_secret(&shop(), &secret).unwrap().unwrap().as_str(), sentinel);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(sentinel.len()).any(|window| window == sentinel.as_bytes()));
    }
}

#[test]
fn a_nonce_is_good_once_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyId::parse("admin").unwrap();
    assert!(db(&dir).take_nonce(&key, "aa", Timestamp(5_000_000)).unwrap());
    assert!(!db(&dir).take_nonce(&key, "aa", Timestamp(5_000_000)).unwrap());
    assert!(db(&dir).take_nonce(&KeyId::parse("other").unwrap(), "aa", Timestamp(5_000_000)).unwrap());
}

#[test]
fn a_suspension_stays_whatever_becomes_of_the_spec_and_is_no_change_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = Owner::File("shop.yaml".into());
    let suspension =
        OperatorSuspension { by: "key ops".into(), since: Timestamp(1), reason: Some("night".into()), until: None };
    let held = |db: &Db| db.desired_project(&shop()).unwrap().map(|wanted| (wanted.generation, wanted.suspension));
    assert_eq!(db(&dir).set_suspension(&shop(), Some(&suspension), &by()), Err(WriteError::Unknown(shop())));
    db(&dir).put(spec(ONE, "").unwrap(), &file, None, &by()).unwrap();
    db(&dir).set_suspension(&shop(), Some(&suspension), &by()).unwrap();
    assert_eq!(held(&db(&dir)), Some((1, Some(suspension.clone()))), "after a restart too");
    db(&dir).put(spec(TWO, "").unwrap(), &file, None, &by()).unwrap();
    assert_eq!(held(&db(&dir)), Some((2, Some(suspension.clone()))));
    db(&dir).delete(&shop(), &file, false, &by()).unwrap();
    assert_eq!(held(&db(&dir)), Some((3, Some(suspension))));
    // The removal waits, so the same spec reverts it.
    assert!(db(&dir).put(spec(TWO, "").unwrap(), &file, None, &by()).unwrap().changed);
    assert!(db(&dir).desired_project(&shop()).unwrap().unwrap().spec().is_some());
    db(&dir).delete(&shop(), &file, false, &by()).unwrap();
    db(&dir).set_suspension(&shop(), None, &by()).unwrap();
    assert_eq!(held(&db(&dir)), Some((5, None)));
    assert_eq!(db(&dir).put(spec(TWO, "").unwrap(), &file, None, &by()), Err(WriteError::Deleting(shop())));
}

fn wiki() -> ProjectId {
    ProjectId::parse("wiki").unwrap()
}

/// Two projects with progress, a port and a host each; then a statement by hand.
fn damaged_by(dir: &tempfile::TempDir, sql: &str) -> Db {
    let db = db(dir);
    db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    db.lock().execute_batch("INSERT INTO projects SELECT 'wiki', generation, intent, keep_data, owner, replace(spec, 'shop', 'wiki'), NULL, NULL, NULL, NULL FROM projects").unwrap();
    let progress = |port: u16, host: &str| ProjectProgress {
        ports: [("web".parse().unwrap(), vec![Ports { a: port, b: port + 1 }])].into(),
        hosts: [host.parse().unwrap()].into(),
        ..ProjectProgress::default()
    };
    let both = [(shop(), progress(1, "a.example.com")), (wiki(), progress(3, "b.example.com"))];
    db.save_progress(&BTreeMap::from(both), &[]).unwrap();
    db.lock().execute_batch(sql).unwrap();
    db
}

fn told(db: &Db) -> String {
    let kept = crate::port::Events::read(db, &Default::default()).unwrap();
    kept.last().map(|kept| kept.event.message.clone()).unwrap_or_default()
}

#[test]
fn a_record_that_cannot_be_read_stops_its_project_alone_and_is_replaced_by_a_whole_spec_only() {
    let dir = tempfile::tempdir().unwrap();
    let db = damaged_by(&dir, "UPDATE projects SET spec = '{\"newer\":1}' WHERE project = 'shop'");
    let row = || -> (String, Option<String>, Option<String>) {
        let sql = "SELECT spec, complaint, hold FROM projects WHERE project = 'shop'";
        db.lock().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    };
    let before = row();
    let desired = db.desired().unwrap();
    assert!(desired.0[&wiki()].spec().is_some());
    let Intent::Unreadable(why) = &desired.0[&shop()].intent else { panic!("{:?}", desired.0[&shop()]) };
    assert!(why.contains("could not read a spec from the database: unknown field `newer`"), "{why}");
    assert_eq!(db.desired_project(&shop()).unwrap().unwrap(), desired.0[&shop()]);
    let suspension = OperatorSuspension { by: "key ops".into(), since: Timestamp(1), reason: None, until: None };
    assert!(matches!(db.set_suspension(&shop(), Some(&suspension), &by()), Err(WriteError::Unreadable { .. })));
    let refusal = Refusal { kind: RefusalKind::Conflict, message: "zz.yaml".into() };
    db.set_refusal(&shop(), &Owner::Api, Some(&refusal)).unwrap();
    assert!(matches!(db.fetch_again(&shop(), &by()), Err(WriteError::Unreadable { .. })));
    assert_eq!(row(), before, "nothing of it was overwritten");

    assert_eq!(db.put(spec(ONE, "").unwrap(), &Owner::Api, Some(1), &by()).unwrap().generation, 2);
    assert!(told(&db).starts_with("key admin wrote generation 2, which replaces a damaged record"), "{}", told(&db));
    assert!(db.desired().unwrap().0[&shop()].spec().is_some());
}

#[test]
fn a_suspension_that_cannot_be_read_stands() {
    let dir = tempfile::tempdir().unwrap();
    let db = damaged_by(&dir, "UPDATE projects SET hold = '{}' WHERE project = 'shop'");
    let wanted = db.desired_project(&shop()).unwrap().unwrap();
    assert!(wanted.spec().is_some() && wanted.operator_suspension_at(Timestamp(9)).is_some());
    db.set_suspension(&shop(), None, &by()).unwrap();
    assert_eq!(db.desired_project(&shop()).unwrap().unwrap().suspension, None);
}

#[test]
fn progress_that_cannot_be_read_is_kept_with_what_it_has_until_the_project_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let db = damaged_by(&dir, "UPDATE progress SET progress = '{\"target\":\"x\"}' WHERE project = 'shop'");
    let progress = db.progress().unwrap();
    assert_eq!(progress.projects.keys().collect::<Vec<_>>(), [&wiki()]);
    let unreadable = &progress.unreadable[&shop()];
    assert_eq!((&unreadable.ports, unreadable.hosts.len()), (&[1, 2].into(), 1));
    assert!(unreadable.why.starts_with("could not read progress from the database"), "{}", unreadable.why);
    assert!(db.put(spec(TWO, "").unwrap(), &Owner::Api, None, &by()).unwrap().changed, "that needs no progress");
    db.save_progress(&progress.projects, &[]).unwrap();
    let text = || {
        let sql = "SELECT progress FROM progress WHERE project = 'shop'";
        db.lock().query_row(sql, [], |row| row.get::<_, String>(0)).ok()
    };
    assert_eq!(text().as_deref(), Some("{\"target\":\"x\"}"));
    db.delete(&shop(), &Owner::Api, false, &by()).unwrap();
    assert_eq!((text(), db.progress().unwrap().unreadable), (None, BTreeMap::new()));
    assert!(told(&db).ends_with("and it is dropped"), "{}", told(&db));
}

#[test]
fn values_that_no_release_needs_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let db = db(&dir);
    for value in ["x", "y", "z"] {
        db.put(spec(ONE, &format!("A: {value}")).unwrap(), &Owner::Api, None, &by()).unwrap();
    }
    db.save_progress(&BTreeMap::from([(shop(), Default::default())]), &[]).unwrap();
    let count: u32 = db.lock().query_row("SELECT count(*) FROM sealed", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
    assert_eq!(db.progress().unwrap().projects.len(), 1);
}

#[test]
fn a_database_of_a_newer_agent_or_a_damaged_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(db(&dir));
    let path = dir.path().join("zexio.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(open(&dir).err().unwrap().contains("version 99"));
    std::fs::write(&path, b"not a database at all, but long enough to be looked at").unwrap();
    assert!(open(&dir).is_err());
    assert!(std::fs::read(&path).unwrap().starts_with(b"not a database"));
}
