//! The door as a whole: a real directory, a real watcher, and wishes that only remember.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use super::decide::PRUNE_REFUSED;
use super::*;
use crate::bell::bell;
use crate::model::desired::{Complaint, Desired, Hold, Intent, SecretVersion, Wanted};
use crate::model::event::Event;
use crate::model::names::{EnvName, KeyId, SecretName};
use crate::model::progress::{Progress, ProjectProgress};
use crate::model::quantity::Timestamp;
use crate::model::services::{Service, ServiceIntent, Version};
use crate::model::spec::{Artifact, Document, Plain, Sealed};
use crate::model::status::Status;
use crate::port::{Delivery, PortError, Put, SecretInfo};
use crate::store::{Db, MasterKey};
use zeroize::Zeroizing;

/// What is wanted, in memory.
#[derive(Default)]
struct Book {
    wanted: Mutex<Desired>,
    puts: Mutex<u32>,
    notes: Mutex<BTreeMap<String, String>>,
}

impl Memory for Book {
    fn desired(&self) -> Result<Desired, PortError> {
        Ok(self.wanted.lock().unwrap().clone())
    }
    fn progress(&self) -> Result<Progress, PortError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn remember(&self, _: &BTreeMap<ProjectId, ProjectProgress>, _: &[Event]) -> Result<(), PortError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn statuses(&self) -> Result<BTreeMap<ProjectId, Status>, PortError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn record(&self, _: &[Status], _: &[Event]) -> Result<(), PortError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn open_values(
        &self,
        _: &ProjectId,
        _: &BTreeMap<EnvName, Sealed>,
        _: &BTreeMap<EnvName, SecretVersion>,
    ) -> Result<BTreeMap<EnvName, Zeroizing<String>>, PortError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn forget(&self, _: &ProjectId, _: u64) -> Result<(), PortError> {
        unreachable!("the watched directory does not ask for this")
    }
}

impl Wishes for Book {
    fn put(&self, document: Document, owner: &Owner, _: Option<u64>, _: &By) -> Result<Put, WishError> {
        *self.puts.lock().unwrap() += 1;
        let project = document.project.clone();
        let spec = document.try_map_env(|_, _| Ok::<_, WishError>(Sealed { sealed: 1 }))?;
        let intent = Intent::Run(Arc::new(spec));
        let mut all = self.wanted.lock().unwrap();
        let before = all.0.get(&project).cloned();
        let changed = before.as_ref().is_none_or(|before| before.intent != intent);
        let generation = before.as_ref().map_or(0, |before| before.generation) + u64::from(changed);
        let complaint = before.as_ref().and_then(|before| before.complaint.clone());
        let owner = owner.clone();
        all.0.insert(project, Wanted { generation, intent, owner, secrets: BTreeMap::new(), complaint, hold: None });
        Ok(Put { generation, created: before.is_none(), changed })
    }
    fn delete(&self, project: &ProjectId, _: &Owner, _: bool, _: &By) -> Result<u64, WishError> {
        self.wanted.lock().unwrap().0.remove(project);
        Ok(1)
    }
    fn adopt(&self, project: &ProjectId, _: &Owner, to: &Owner) -> Result<(), WishError> {
        self.wanted.lock().unwrap().0.get_mut(project).unwrap().owner = to.clone();
        Ok(())
    }
    fn overlay(&self, _: &ProjectId, _: &Artifact, _: &By) -> Result<Put, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn hold(&self, _: &ProjectId, _: Option<&Hold>, _: &By) -> Result<(), WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn wanted(&self, project: &ProjectId) -> Result<Option<Wanted>, WishError> {
        Ok(self.wanted.lock().unwrap().0.get(project).cloned())
    }
    fn rehearse(&self, _: Document, _: &Owner) -> Result<Wanted, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn complain(&self, project: &ProjectId, owner: &Owner, complaint: Option<&Complaint>) -> Result<(), WishError> {
        let mut all = self.wanted.lock().unwrap();
        let placeholder = Wanted {
            generation: 0,
            intent: Intent::Nothing,
            owner: owner.clone(),
            secrets: BTreeMap::new(),
            complaint: None,
            hold: None,
        };
        let wanted = all.0.entry(project.clone()).or_insert(placeholder);
        wanted.complaint = complaint.cloned();
        if wanted.intent == Intent::Nothing && complaint.is_none() {
            all.0.remove(project);
        }
        Ok(())
    }
    fn set_secret(&self, _: &ProjectId, _: &SecretName, _: &Plain) -> Result<u32, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn remove_secret(&self, _: &ProjectId, _: &SecretName) -> Result<bool, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn secrets(&self, _: &ProjectId) -> Result<Vec<SecretInfo>, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn open_secret(&self, _: &ProjectId, _: &SecretName) -> Result<Option<Zeroizing<String>>, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn take_nonce(&self, _: &KeyId, _: &str, _: Timestamp) -> Result<bool, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn deliver(&self, _: &ProjectId, _: &Artifact, _: &Delivery) -> Result<Option<Put>, WishError> {
        unreachable!("the watched directory does not ask for this")
    }
    fn note(&self, key: &str) -> Option<String> {
        self.notes.lock().unwrap().get(key).cloned()
    }
    fn set_note(&self, key: &str, value: &str) {
        self.notes.lock().unwrap().insert(key.into(), value.into());
    }
}

/// A watched directory, ended with the test.
struct Watched {
    dir: tempfile::TempDir,
    book: Arc<Book>,
    db: Arc<Db>,
    troubles: Troubles,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watched {
    fn new() -> Self {
        let (dir, book) = (tempfile::tempdir().unwrap(), Arc::new(Book::default()));
        fs::create_dir(dir.path().join("specs")).unwrap();
        let (troubles, stop) = (Troubles::default(), Arc::new(AtomicBool::new(false)));
        let master = MasterKey::parse(&"ab".repeat(32)).unwrap();
        let db = Arc::new(Db::open(&dir.path().join("zexio.db"), &master).unwrap());
        let mut made = Self { dir, book, db, troubles, stop, thread: None };
        let thread = watch(
            made.specs(),
            Books {
                wishes: made.book.clone(),
                memory: made.book.clone(),
                service_wishes: made.db.clone(),
                service_memory: made.db.clone(),
            },
            bell().0,
            1,
            made.troubles.clone(),
            made.stop.clone(),
        );
        made.thread = Some(thread);
        made
    }

    fn specs(&self) -> PathBuf {
        self.dir.path().join("specs")
    }

    fn write(&self, name: &str, text: &str) {
        let temporary = self.specs().join(format!(".{name}.tmp"));
        fs::write(&temporary, text).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(&temporary, self.specs().join(name)).unwrap();
    }

    fn wanted(&self, project: &str) -> Option<Wanted> {
        self.book.wanted.lock().unwrap().0.get(&project.parse().unwrap()).cloned()
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < until, "never: {what}; troubles: {:?}", self.troubles.lock().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn spec(project: &str) -> String {
    format!(
        "zexio: 1\nproject: {project}\nartifact: {{ url: https://a.example.com/x }}\nprocesses: {{ web: {{ run: ./x }} }}\n"
    )
}

#[test]
fn a_file_lives_through_its_whole_life() {
    let door = Watched::new();
    door.write("shop.yaml", &spec("shop"));
    door.eventually("the spec is taken", |door| door.wanted("shop").is_some_and(|wanted| wanted.spec().is_some()));

    door.write("shop.yaml", "zexio: 1\nproject: shop\nnonsense: [");
    door.eventually("the broken file is told", |door| {
        door.wanted("shop").is_some_and(|wanted| wanted.complaint.is_some() && wanted.spec().is_some())
    });
    door.write("shop.yaml", &spec("shop"));
    door.eventually("the complaint is gone", |door| door.wanted("shop").is_some_and(|w| w.complaint.is_none()));

    fs::rename(door.specs().join("shop.yaml"), door.specs().join("store.yaml")).unwrap();
    door.eventually("the new name has it", |door| {
        door.wanted("shop").is_some_and(|wanted| wanted.owner == Owner::File("store.yaml".into()))
    });
    fs::remove_file(door.specs().join("store.yaml")).unwrap();
    door.eventually("the project goes", |door| door.wanted("shop").is_none());
}

#[test]
fn a_host_file_lives_through_its_whole_life() {
    let door = Watched::new();
    let intent = |door: &Watched, service| door.db.wanted_services().unwrap().get(&service).map(|wanted| wanted.intent);
    let gone = Some(ServiceIntent::Remove { purge: false });
    door.write("host.yaml", "zexio: 1\nkind: host\nservices: { redis: {}, postgresql: { version: \"15\" } }\n");
    let fifteen = Some(ServiceIntent::Install(Version::Major(15)));
    door.eventually("the services are wanted", |door| {
        intent(door, Service::Postgresql) == fifteen && intent(door, Service::Redis).is_some()
    });
    door.write(
        "host.yaml",
        "zexio: 1\nkind: host\nservices: { postgresql: { version: \"15\" }, redis: { version: 7 } }\n",
    );
    let told =
        |door: &Watched| door.db.wanted_service(Service::Redis).unwrap().unwrap().complaint.map(|told| told.message);
    door.eventually("the mistake is told", |door| {
        told(door).is_some_and(|told| told.contains("services.redis.version"))
    });
    door.write("host.yaml", "zexio: 1\nkind: host\nservices: { postgresql: { version: \"15\" } }\n");
    door.eventually("one is let go", |door| intent(door, Service::Redis) == gone);
    fs::remove_file(door.specs().join("host.yaml")).unwrap();
    door.eventually("the other is let go", |door| intent(door, Service::Postgresql) == gone);
}

#[test]
fn a_directory_that_vanishes_takes_nothing_along() {
    let door = Watched::new();
    door.write("shop.yaml", &spec("shop"));
    door.eventually("the spec is taken", |door| door.wanted("shop").is_some());
    fs::rename(door.specs(), door.dir.path().join("elsewhere")).unwrap();
    let refused = |door: &Watched| door.wanted("shop").and_then(|w| w.complaint).map(|c| c.reason);
    door.eventually("the removal is refused", |door| refused(door).as_deref() == Some(PRUNE_REFUSED));
    fs::rename(door.dir.path().join("elsewhere"), door.specs()).unwrap();
    door.eventually("all is well again", |door| door.wanted("shop").is_some() && refused(door).is_none());
}

#[test]
fn its_own_reading_does_not_make_it_look_again() {
    let door = Watched::new();
    door.write("shop.yaml", &spec("shop"));
    door.eventually("the spec is taken", |door| door.wanted("shop").is_some());
    let event = |kind| notify::Event::new(notify::EventKind::Access(kind));
    use notify::event::{AccessKind, AccessMode};
    assert!(!ear::matters(&event(AccessKind::Open(AccessMode::Any))));
    assert!(!ear::matters(&event(AccessKind::Close(AccessMode::Read))));
    assert!(ear::matters(&event(AccessKind::Close(AccessMode::Write))));
    assert_eq!(*door.book.puts.lock().unwrap(), 1);
}
