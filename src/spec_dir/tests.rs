//! The whole input: a real directory, a real watcher, a real database.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::host::clock::SystemClock;
use crate::model::desired::{DesiredProject, Intent, ServiceIntent};
use crate::model::reason::Reason;
use crate::model::services::{Service, Version};
use crate::store::{Db, MasterKey};
use crate::trigger::channel;

/// A watched directory that stops with the test.
struct Watched {
    dir: tempfile::TempDir,
    db: Arc<Db>,
    troubles: FileErrors,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watched {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("specs")).unwrap();
        let (troubles, stop) = (FileErrors::default(), Arc::new(AtomicBool::new(false)));
        let master = MasterKey::parse(&"ab".repeat(32)).unwrap();
        let db = Arc::new(Db::open(&dir.path().join("zexio.db"), &master, Arc::new(SystemClock)).unwrap());
        let mut made = Self { dir, db, troubles, stop, thread: None };
        let thread = watch(
            made.specs(),
            DesiredStores {
                desired_store: made.db.clone(),
                progress: made.db.clone(),
                desired_services: made.db.clone(),
                service_progress: made.db.clone(),
            },
            Arc::new(|_| Ok(())),
            channel().0,
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

    fn wanted(&self, project: &str) -> Option<DesiredProject> {
        self.db.desired_project(&project.parse().unwrap()).unwrap()
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
        door.wanted("shop").is_some_and(|wanted| wanted.refusal.is_some() && wanted.spec().is_some())
    });
    door.write("shop.yaml", &spec("shop"));
    door.eventually("the refusal is gone", |door| door.wanted("shop").is_some_and(|w| w.refusal.is_none()));

    fs::rename(door.specs().join("shop.yaml"), door.specs().join("store.yaml")).unwrap();
    door.eventually("the new name has it", |door| {
        door.wanted("shop").is_some_and(|wanted| wanted.owner == Owner::File("store.yaml".into()))
    });
    fs::remove_file(door.specs().join("store.yaml")).unwrap();
    let goes = Intent::Delete { keep_data: false };
    door.eventually("the project goes", |door| door.wanted("shop").is_some_and(|wanted| wanted.intent == goes));
}

#[test]
fn a_host_file_lives_through_its_whole_life() {
    let door = Watched::new();
    let intent =
        |door: &Watched, service| door.db.desired_services().unwrap().get(&service).map(|wanted| wanted.intent);
    let gone = Some(ServiceIntent::Remove { purge: false });
    door.write("host.yaml", "zexio: 1\nkind: host\nservices: { redis: {}, postgresql: { version: \"15\" } }\n");
    let fifteen = Some(ServiceIntent::Install(Version::Major(15)));
    door.eventually("the services are wanted", |door| {
        intent(door, Service::Postgresql) == fifteen && intent(door, Service::Redis).is_some()
    });
    door.write(
        "host.yaml",
        "zexio: 1\nkind: host\nservices: { postgresql: { version: \"15\" }, redis: { version: new } }\n",
    );
    let told =
        |door: &Watched| door.db.desired_service(Service::Redis).unwrap().unwrap().refusal.map(|told| told.message);
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
    let refused = |door: &Watched| door.wanted("shop").and_then(|w| w.refusal).map(|c| c.kind.reason());
    door.eventually("the removal is refused", |door| refused(door) == Some(Reason::PruneRefused));
    fs::rename(door.dir.path().join("elsewhere"), door.specs()).unwrap();
    door.eventually("all is well again", |door| door.wanted("shop").is_some() && refused(door).is_none());
}

#[test]
fn its_own_reading_does_not_make_it_look_again() {
    let event = |kind| notify::Event::new(notify::EventKind::Access(kind));
    use notify::event::{AccessKind, AccessMode};
    assert!(!watcher::matters(&event(AccessKind::Open(AccessMode::Any))));
    assert!(!watcher::matters(&event(AccessKind::Close(AccessMode::Read))));
    assert!(watcher::matters(&event(AccessKind::Close(AccessMode::Write))));
}
