//! The API over a real database: requests, answers, and what they wrote.

mod doors;
mod events;
mod fake;
mod keys;
mod services;
mod stats;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use serde_json::Value;
use tokio::sync::watch;

use crate::heartbeat::Heartbeat;
use crate::host::artifacts::uploads::DiskUploads;
use crate::host::clock::SystemClock;
use crate::model::desired::Owner;
use crate::model::layout::Layout;
use crate::model::names::{KeyId, ProjectId, ReleaseNo};
use crate::model::progress::{Cause, End, ProjectProgress, Release};
use crate::model::quantity::{Span, Timestamp};
use crate::model::spec::{Plain, Source};
use crate::plan::{Action, Plan, ProjectAction, Step, StepReason};
use crate::port::{DesiredStore, ProgressStore};
use crate::sign::{Head, Nonce, Stamp, digest, sign};
use crate::store::{Db, MasterKey};
use crate::trigger::{DryRun, Trigger};

use super::{ApiState, In, Origin, Slots, handle};
use crate::keys::{Keys, Scope};
pub use fake::Still;
use fake::{Lines, Stopped};

const NOW: Timestamp = Timestamp(1_767_225_600_000);
const HOSTNAME: &str = "agent.example.com:8443";

fn spec(project: &str, rest: &str) -> String {
    format!(
        "zexio: 1\nproject: {project}\nartifact: {{ url: 'https://a.example.com/x.tar?sig=abc', updates: webhook }}\nenv: {{ TOKEN: hidden }}\nprocesses: {{ web: {{ run: ./x }} }}\n{rest}\n"
    )
}

fn shop() -> ProjectId {
    ProjectId::parse("shop").unwrap()
}

fn file() -> Owner {
    Owner::File("shop.yaml".into())
}

/// An API with one key of each scope.
pub struct Bench {
    state: Arc<ApiState>,
    db: Arc<Db>,
    layout: Layout,
    journal: Arc<Lines>,
    stats: Arc<Still>,
    changes: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

/// An answer.
pub struct Answered {
    pub status: u16,
    headers: HeaderMap,
    pub text: String,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
    pub fn outcome(&self) -> (u16, String) {
        (self.status, self.code())
    }
}

/// A request before it is signed, and the ways to spoil it.
#[derive(Clone)]
pub struct Ask {
    kid: &'static str,
    method: &'static str,
    target: String,
    content_type: &'static str,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
    host: &'static str,
    at: u64,
    nonce: Option<Nonce>,
}

pub fn ask(method: &'static str, target: &str) -> Ask {
    Ask {
        kid: "admin",
        method,
        target: target.to_owned(),
        content_type: "",
        body: Vec::new(),
        headers: Vec::new(),
        host: HOSTNAME,
        at: NOW.0 / 1000,
        nonce: None,
    }
}

impl Ask {
    pub fn by(self, kid: &'static str) -> Self {
        Self { kid, ..self }
    }
    fn body(self, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { content_type, body: body.into(), ..self }
    }
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(dir.path());
        for (kid, scope) in [("admin", "admin"), ("read", "read"), ("ci", "deploy:shop"), ("other", "deploy:other")] {
            keys.create(&KeyId::parse(kid).unwrap(), &Scope::parse(scope).unwrap()).unwrap();
        }
        let master = MasterKey::parse(&"ab".repeat(32)).unwrap();
        let db = Arc::new(Db::open(&dir.path().join("zexio.db"), &master, Arc::new(SystemClock)).unwrap());
        let layout = Layout::parse(dir.path().to_str().unwrap()).unwrap();
        let (journal, stats) = (Arc::new(Lines::default()), Arc::new(Still::default()));
        let (trigger, changes) = answering_loop();
        let state = ApiState {
            progress: db.clone(),
            desired_store: db.clone(),
            service_progress: db.clone(),
            desired_services: db.clone(),
            journal: journal.clone(),
            events: db.clone(),
            uploads: Arc::new(DiskUploads::new(&layout, 1 << 20)),
            clock: Arc::new(Stopped(NOW)),
            trigger,
            keys,
            check_url: Arc::new(|url| match url.starts_with("https://") {
                true => Ok(()),
                false => Err("only https".to_owned()),
            }),
            heartbeat: Heartbeat::default(),
            pulse_within: Span::seconds(180),
            stats: stats.clone(),
            metrics: Default::default(),
            slots: Slots::default(),
            troubles: Default::default(),
        };
        let (state, stop) = (Arc::new(state), watch::channel(false).0);
        Self { state, db, layout, journal, stats, changes, stop, _dir: dir }
    }

    fn signature(&self, ask: &Ask) -> String {
        let (key, _) = self.state.keys.find(&KeyId::parse(ask.kid).unwrap()).unwrap();
        let (path, query) = ask.target.split_once('?').unwrap_or((&ask.target, ""));
        let head = Head { method: ask.method, host: ask.host, path, query, content_type: ask.content_type };
        let stamp = Stamp {
            kid: KeyId::parse(ask.kid).unwrap(),
            time: ask.at,
            nonce: ask.nonce.clone().unwrap_or_else(|| Nonce::generate().unwrap()),
            body: digest(&ask.body),
        };
        sign(&key, &head, stamp).to_string()
    }

    /// Signs and sends.
    pub async fn send(&self, ask: Ask) -> Answered {
        let signature = self.signature(&ask);
        self.send_bare(ask.header("x-signature", signature)).await
    }

    /// Sends without signing.
    async fn send_bare(&self, ask: Ask) -> Answered {
        let mut request = Request::builder().method(ask.method).uri(&ask.target);
        if !ask.host.is_empty() {
            request = request.header(HOST, ask.host);
        }
        if !ask.content_type.is_empty() {
            request = request.header(CONTENT_TYPE, ask.content_type);
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let body: In = Full::new(Bytes::from(ask.body)).map_err(|never| match never {}).boxed_unsync();
        let origin = Origin { local: false, stop: self.stop.subscribe(), flaws: Default::default() };
        let response = handle(Arc::clone(&self.state), origin, request.body(body).unwrap()).await;
        let (head, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        super::openapi::tests::hold_against(ask.method, &ask.target, head.status, &head.headers, &text);
        Answered { status: head.status.as_u16(), headers: head.headers, text }
    }

    /// Writes a project as the API would.
    pub async fn given(&self, project: &str, rest: &str) {
        let put = ask("PUT", &format!("/v1/projects/{project}")).body("application/yaml", spec(project, rest));
        assert_eq!(self.send(put).await.status, 201);
    }

    fn secret(&self, name: &str, value: &str) {
        let value = Plain::parse(value.to_owned()).unwrap();
        self.db
            .set_secret(
                &shop(),
                &name.parse().unwrap(),
                &value,
                &crate::model::event::By::Key(KeyId::parse("admin").unwrap()),
            )
            .unwrap();
    }

    /// Records releases of the shop, of which some were good; the last one serves.
    fn history(&self, good: &[bool]) {
        let wanted = self.db.desired_project(&shop()).unwrap().unwrap();
        let spec = wanted.spec().unwrap();
        let source = spec.artifact.source().unwrap().clone();
        let content = crate::model::desired::Content::of(spec, source, &Default::default()).unwrap();
        let mut progress = ProjectProgress::default();
        for (number, good) in (1..).zip(good) {
            let release = Release {
                content: Arc::new(content.clone()),
                sha256: None,
                version: None,
                slot: crate::model::names::Slot::A,
                created_at: Timestamp(u64::from(number)),
                since: Timestamp(u64::from(number)),
                was_healthy: *good,
                promotion_seq: 0,
                end: Some(End::Retired(Cause::unknown(Timestamp(u64::from(number))))),
                rolled_back: false,
            };
            progress.releases.insert(ReleaseNo(number), release);
            progress.serving = Some(ReleaseNo(number));
        }
        self.db.save_progress(&[(shop(), progress)].into(), &[]).unwrap();
    }

    /// Gives the shop to another owner.
    fn hand_over(&self, from: &Owner, to: &Owner) {
        self.db.change_owner(&shop(), from, to).unwrap();
    }

    async fn changes(&self) -> usize {
        // The loop handles messages in order: once it has answered, it has handled the earlier ones.
        self.state.trigger.plan(None).await.unwrap();
        self.changes.swap(0, Ordering::SeqCst)
    }

    fn artifact_url(&self) -> String {
        let wanted = self.db.desired_project(&shop()).unwrap().unwrap();
        match wanted.spec().unwrap().artifact.source() {
            Some(Source::Url { url, .. }) => url.clone(),
            Some(Source::File { .. }) | None => String::new(),
        }
    }
}

/// A loop that counts changes, and accepts any dry run.
fn answering_loop() -> (crate::trigger::TriggerSender, Arc<AtomicUsize>) {
    let (trigger, receiver) = crate::trigger::channel();
    let changes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&changes);
    std::thread::spawn(move || {
        loop {
            for ring in receiver.recv_all(Duration::from_secs(3600)) {
                match ring {
                    Trigger::Changed | Trigger::RetryRefusedRoutes => drop(count.fetch_add(1, Ordering::SeqCst)),
                    Trigger::DryRun(question) => {
                        let mut plan = Plan::default();
                        if let Some((project, _)) = question.assumed {
                            let action = Action::Project(project, ProjectAction::Prepare { readable_by_caddy: false });
                            plan.steps.push(Step { action, reason: StepReason::ProjectNew });
                        }
                        let _ = question.answer.send(Ok(DryRun { plan, ..DryRun::default() }));
                    }
                    Trigger::Stop => return,
                }
            }
        }
    });
    (trigger, changes)
}
