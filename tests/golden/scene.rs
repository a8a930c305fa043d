//! A scene as a person writes it down: what is wanted, what is remembered, what is seen, in words. Whatever it does not
//! say is as it should be: units as they were written, links and markers where the serving release needs them.
//! Times are seconds; it is 1000 unless the scene says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use zexio::model::desired::{
    Content, Desired, DesiredProject, DesiredServices, Intent, OperatorSuspension, Owner, Refusal, Workload,
    WorkloadKind,
};
use zexio::model::document;
use zexio::model::failure::PortError;
use zexio::model::layout::Layout;
use zexio::model::names::{Hostname, Ports, ProcessName, ProjectId, ReleaseNo, SecretName, Sha256, Slot, UnitId};
use zexio::model::observed::{
    ActiveState, BundlesSeen, CertificateSeen, Exit, Facet, FetchSeen, Observed, ObservedProject, OpenPort, Probed,
    ProxySeen, TimerSeen, UnitSeen, Visit, Visited,
};
use zexio::model::progress::{
    Backoff, Cause, Draining, EarlierRun, End, FailedFetch, Phase, Progress, ProjectProgress, Quarantine, Rejected,
    Release, ReleaseState, Rollout, Switched, Target,
};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::reason::Reason;
use zexio::model::services::Service;
use zexio::model::spec::{Route, Sealed, Source, Spec};
use zexio::plan::{PlanConfig, RoutesOrder, ports, routes, visits};
use zexio::render::caddyfile;
use zexio::render::unit;
use zexio::settings::Settings;

use crate::services::ServiceInWords;

/// A whole scene.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    #[serde(default = "usual_now")]
    now: u64,
    /// First and last port.
    #[serde(default = "usual_ports")]
    ports: (u16, u16),
    /// `current`, `behind`, `foreign`, `other live`, `silent`, `down` or `unknown`.
    #[serde(default = "current")]
    proxy: String,
    /// Why Caddy did not take the routes.
    trouble: Option<String>,
    /// What surrounds our sites now; it was `as before` when Caddy refused what is left out.
    surroundings: Option<String>,
    /// Whether an operator asked to offer Caddy again what it refused.
    #[serde(default)]
    offer_again: bool,
    /// The TCP ports on which any program listens.
    #[serde(default)]
    ports_in_use: BTreeSet<u16>,
    /// How many times longer than on an idle machine everything takes.
    #[serde(default = "idle")]
    slowdown: u32,
    /// The hosts that a Caddy which is not `current` serves otherwise than they are wanted; missing: all.
    unserved: Option<BTreeSet<Hostname>>,
    /// The certificates that Caddy has, `issued`, or why it has none.
    #[serde(default)]
    certificates: BTreeMap<Hostname, Option<String>>,
    /// A digest, as one hex digit or as the name whose digest it is, and when it came; missing: not looked at.
    artifacts: Option<BTreeMap<String, u64>>,
    /// The public name of the agent's API.
    hostname: Option<Hostname>,
    /// Put before the shipped template.
    #[serde(default)]
    template: String,
    #[serde(default)]
    projects: BTreeMap<ProjectId, Project>,
    #[serde(default)]
    services: BTreeMap<Service, ServiceInWords>,
    /// Whether the services could not be looked at.
    #[serde(default)]
    blind_to_services: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Project {
    /// Without `zexio` and `project`; `artifact: v1` is a file of that name on a server.
    spec: Map<String, Value>,
    /// Be gone instead.
    delete: Option<Delete>,
    /// Nothing readable was ever asked.
    #[serde(default)]
    nothing: bool,
    #[serde(default = "one")]
    generation: u64,
    #[serde(default)]
    secrets: BTreeMap<SecretName, u32>,
    /// Why its spec is not the newest: `SpecInvalid: why`.
    refusal: Option<String>,
    /// A webhook moved the artifact.
    #[serde(default)]
    moved: bool,
    /// Somebody said stop; until when.
    suspension: Option<Option<u64>>,
    remembered: Option<Remembered>,
    #[serde(default)]
    seen: SeenInWords,
    /// Nobody looked at it.
    #[serde(default)]
    unseen: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    keep_data: bool,
}

/// What is remembered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    generation: Option<u64>,
    target: Option<u32>,
    serving: Option<u32>,
    trial: Option<TrialInWords>,
    draining: Option<(u32, u64)>,
    held: Option<u32>,
    /// `Conflict: why`, since 900.
    stalled: Option<String>,
    /// Since when its routes are refused.
    quarantine: Option<u64>,
    backoff: Option<u64>,
    suspended: Option<u64>,
    /// Other routes than those of the serving release's spec.
    routes: Option<BTreeMap<ProcessName, Vec<Route>>>,
    /// Other hosts than those of the serving release's spec.
    hosts: Option<BTreeSet<Hostname>>,
    #[serde(default)]
    releases: BTreeMap<u32, ReleaseInWords>,
    /// Ports besides those of the releases.
    #[serde(default)]
    ports: BTreeMap<ProcessName, Vec<(u16, u16)>>,
    /// The newest number ever, where it is not among the releases.
    newest: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialInWords {
    since: u64,
    #[serde(default)]
    proven: bool,
    #[serde(default)]
    released: bool,
    #[serde(default)]
    room: bool,
    /// Units with a run from before, and how often each was restarted by then; -1: it was on its way down.
    #[serde(default)]
    earlier: BTreeMap<String, i32>,
    /// Fetches that failed, and when the next try is.
    fetch: Option<(u32, u64)>,
    /// Until when an artifact is waited for.
    awaits: Option<u64>,
    /// Since when it has the traffic and is verified.
    switched: Option<u64>,
    /// Since when one of its starts waits for those of others, and for how long they waited before.
    queued: Option<u64>,
    #[serde(default)]
    waited: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ReleaseInWords {
    artifact: Option<Value>,
    /// What of the project's spec was otherwise.
    with: Map<String, Value>,
    state: Option<ReleaseState>,
    slot: Option<Slot>,
    good: Option<bool>,
    generation: Option<u64>,
    since: Option<u64>,
    vetoed: bool,
    unfetched: bool,
    turn: u32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SeenInWords {
    /// The releases on disk; a pair names what it was made from.
    disk: Vec<OnDisk>,
    link: Option<u32>,
    markers: Option<BTreeSet<ProcessName>>,
    /// Whether user and directories are there.
    prepared: Option<bool>,
    user: Option<bool>,
    directory: Option<bool>,
    fronts: Option<bool>,
    open: Option<bool>,
    data: Option<bool>,
    /// Where it listens for others than this machine: `[0.0.0.0, 3000]`.
    past_caddy: BTreeSet<(String, u16)>,
    /// `1: running` for every unit of a release, `web-r1: running` for one.
    units: BTreeMap<String, String>,
    fetches: BTreeMap<u32, String>,
    /// Since when the probes of a unit succeed, or what the last one found.
    health: BTreeMap<String, Health>,
    /// What Caddy answers by each route: `well`, `unanswered`, or another answer; `not asked`.
    routes: Option<String>,
    /// What it answers where the candidate is verified.
    verified: Option<String>,
    /// Facets that could not be read.
    unknown: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OnDisk {
    AsNamed(u32),
    MadeFrom(u32, String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Health {
    Since(u64),
    Found(String),
}

fn idle() -> u32 {
    1
}

fn usual_now() -> u64 {
    1000
}

fn usual_ports() -> (u16, u16) {
    (21000, 21999)
}

fn current() -> String {
    "current".into()
}

fn one() -> u64 {
    1
}

/// Returns the moment that a scene means.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

/// Returns the digest that a name stands for: a hex digit for 64 of it.
fn digest(name: &str) -> Sha256 {
    let sum = name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let text = if name.len() == 1 { name.repeat(64) } else { format!("{sum:064x}") };
    Sha256::parse(&text).expect("64 hex digits")
}

/// Reads `Conflict: why`.
pub fn refusal(words: &str) -> Refusal {
    let Cause { reason, message, .. } = stall(words, 0);
    serde_json::from_value(serde_json::json!({ "reason": reason, "message": message })).expect("a refusal")
}

pub fn stall(words: &str, since: u64) -> Cause {
    let (reason, message) = words.split_once(": ").unwrap_or((words, "it was said before"));
    Cause {
        reason: Reason::named(reason).unwrap_or_else(|| panic!("no such reason: {reason}")),
        message: message.into(),
        since: at(since),
    }
}

/// Returns failures in a row.
pub fn backoff(failures: u32, until: u64) -> Backoff {
    let (since, last) = (at(until.saturating_sub(60)), at(until.saturating_sub(20)));
    Backoff { failures, until: at(until), reason: Reason::Systemd, message: "it was busy".into(), last, since }
}

impl Scene {
    /// Reads a scene.
    pub fn read(text: &str) -> Self {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("a scene: {error}"))
    }

    /// Returns what the planner is given.
    pub fn stage(&self) -> (Desired, Observed, Progress, PlanConfig) {
        let layout = Layout::parse("/zexio").expect("a root");
        let template = format!("{}{}", self.template, include_str!("../../Caddyfile.tmpl"));
        let settings = Settings { hostname: self.hostname.clone(), ..Settings::default() };
        let rules = PlanConfig { layout, ports: self.ports, proxy: settings.proxy(template, false) };
        let (mut desired, mut all_progress) = (Desired::default(), Progress::default());
        for (name, project) in &self.projects {
            desired.0.insert(name.clone(), project.wanted(name));
            if let Some(progress) = project.progress(name) {
                all_progress.projects.insert(name.clone(), progress);
                self.allot(name, &mut all_progress);
            }
        }
        all_progress.services =
            self.services.iter().filter_map(|(service, words)| Some((*service, words.progress()?))).collect();
        let seen = self.projects.iter().filter(|(_, project)| !project.unseen);
        let nothing = ProjectProgress::default();
        let projects = seen.map(|(name, project)| {
            let progress = all_progress.projects.get(name).unwrap_or(&nothing);
            (name.clone(), project.seen(name, progress, &rules.layout, (self.now, self.slowdown)))
        });
        let observed = Observed {
            now: at(self.now),
            projects: projects.collect(),
            proxy: self.proxy(&all_progress, &rules),
            retry_refused_routes: self.offer_again,
            ports_in_use: self.ports_in_use.clone(),
            artifacts: match &self.artifacts {
                Some(found) => Facet::Known(found.iter().map(|(name, came)| (digest(name), at(*came))).collect()),
                None => Facet::Unknown("not looked at".into()),
            },
            services: match self.blind_to_services {
                true => Facet::Unknown("the package manager does not answer".into()),
                false => Facet::Known(
                    self.services.iter().map(|(service, words)| (*service, words.seen(*service))).collect(),
                ),
            },
        };
        (desired, observed, all_progress, rules)
    }

    /// Returns what is wanted of the services.
    pub fn desired_services(&self) -> DesiredServices {
        self.services.iter().filter_map(|(service, words)| Some((*service, words.wanted()?))).collect()
    }

    /// Tells whether the scene is about services.
    pub fn has_services(&self) -> bool {
        !self.services.is_empty()
    }

    /// Returns why Caddy did not take the routes.
    pub fn route_trouble(&self) -> Option<PortError> {
        self.trouble.as_ref().map(|message| PortError::transient(Reason::RouteRefused, message.clone()))
    }

    /// Returns the hosts of these routes that Caddy serves otherwise.
    pub fn differing(&self, order: &RoutesOrder) -> BTreeSet<Hostname> {
        let differs = |host: &&Hostname| self.unserved.as_ref().is_none_or(|unserved| unserved.contains(*host));
        order.sites.iter().map(|site| &site.host).filter(differs).cloned().collect()
    }

    /// Returns the same sight, a minute earlier.
    pub fn a_minute_ago(&self, observed: &Observed) -> Observed {
        Observed { now: at(self.now - 60), ..observed.clone() }
    }

    fn allot(&self, name: &ProjectId, all_progress: &mut Progress) {
        let mut taken = ports::taken(all_progress);
        let progress = all_progress.projects.get_mut(name).expect("it was just added");
        for number in progress.releases.keys().copied().collect::<Vec<_>>() {
            ports::allocate(progress, number, &mut taken, usual_ports()).expect("there are ports enough");
        }
    }

    fn proxy(&self, all_progress: &Progress, rules: &PlanConfig) -> Facet<ProxySeen> {
        let text = caddyfile::text(&rules.proxy, &routes::sites(all_progress, &rules.layout)).ok();
        let certificates = self.certificates.iter().map(|(host, found)| {
            let found = match found.as_deref() {
                Some("issued") => CertificateSeen::Issued,
                why => CertificateSeen::Missing(why.map(str::to_owned)),
            };
            (host.clone(), found)
        });
        let certificates = certificates.collect();
        let surroundings = self.surroundings.clone();
        let current = ProxySeen { up: true, runs: true, live: true, text, certificates, apart: None, surroundings };
        Facet::Known(match self.proxy.as_str() {
            "current" => current,
            "behind" => ProxySeen { text: Some("an older text of ours".into()), ..current },
            "foreign" => ProxySeen { text: None, live: false, ..current },
            "other live" => ProxySeen { live: false, ..current },
            "silent" => ProxySeen { up: false, live: false, ..current },
            "down" => ProxySeen { up: false, runs: false, live: false, ..current },
            "unknown" => return Facet::Unknown("Caddy could not be asked".into()),
            other => panic!("proxy: {other}"),
        })
    }
}

/// Reads a spec as a scene writes it.
fn spec(project: &ProjectId, written: &Map<String, Value>) -> Spec {
    let mut whole = written.clone();
    whole.insert("zexio".into(), json!(1));
    whole.insert("project".into(), json!(project));
    if let Some(Value::String(version)) = whole.get("artifact") {
        whole.insert("artifact".into(), json!({ "url": format!("https://dl.example.com/{version}.tar.gz") }));
    }
    let text = Value::Object(whole).to_string();
    let document = document::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{project}: {error}"));
    document
        .try_map_env(|_, value| value.clear().unwrap_or_default().parse().map(|sealed| Sealed { sealed }))
        .expect("env values are versions")
}

/// Returns the digest of what an artifact's name stands for.
fn made_from(content: &Content) -> Sha256 {
    let name = match &content.source {
        Source::Url { url, .. } => url.rsplit('/').next().unwrap_or_default().trim_end_matches(".tar.gz"),
        Source::File { name, .. } => name.as_str(),
    };
    content.source.sha256().cloned().unwrap_or_else(|| digest(name))
}

impl Project {
    fn wanted(&self, name: &ProjectId) -> DesiredProject {
        let intent = match &self.delete {
            _ if self.nothing => Intent::Nothing,
            Some(delete) => Intent::Delete { keep_data: delete.keep_data },
            None => Intent::Run(Arc::new(spec(name, &self.spec))),
        };
        let suspension = self.suspension.as_ref().map(|until| OperatorSuspension {
            by: "key ops".into(),
            since: at(900),
            reason: None,
            until: until.map(at),
        });
        DesiredProject {
            generation: self.generation,
            intent,
            owner: Owner::Api,
            secrets: self.secrets.clone(),
            refusal: self.refusal.as_deref().map(refusal),
            suspension,
            artifact_from_webhook: self.moved,
        }
    }

    /// Returns the spec that a release was made of.
    fn spec_of(&self, name: &ProjectId, release: &ReleaseInWords) -> Spec {
        let mut written = self.spec.clone();
        written.extend(release.with.clone());
        written.extend(release.artifact.clone().map(|artifact| ("artifact".to_owned(), artifact)));
        spec(name, &written)
    }

    /// Returns every host of the spec, each refused for the same reason.
    fn refused(&self, name: &ProjectId) -> BTreeMap<Hostname, String> {
        let spec = spec(name, &self.spec);
        let routes = spec.processes.values().flat_map(|process| &process.routes);
        routes.map(|route| (route.host.clone(), "it was said before".to_owned())).collect()
    }

    fn progress(&self, name: &ProjectId) -> Option<ProjectProgress> {
        let words = self.remembered.as_ref()?;
        let mut progress = ProjectProgress {
            generation: words.generation.unwrap_or(self.generation),
            target: words.target(),
            serving: words.serving.map(ReleaseNo),
            draining: words.draining.map(|(release, until)| Draining { release: ReleaseNo(release), until: at(until) }),
            stalled: words.stalled.as_ref().map(|words| stall(words, 900)),
            quarantine: words.quarantine.map(|since| Quarantine {
                since: at(since),
                hosts: self.refused(name),
                surroundings: "as before".into(),
            }),
            backoff: words.backoff.map(|until| backoff(2, until)),
            suspended: words.suspended.map(at),
            ..ProjectProgress::default()
        };
        let usual = ReleaseInWords::default();
        let named = words.releases.iter().map(|(number, release)| (*number, release));
        let serving = words.serving.filter(|serving| !words.releases.contains_key(serving));
        for (number, release) in named.chain(serving.map(|serving| (serving, &usual))) {
            let spec = self.spec_of(name, release);
            progress.releases.insert(ReleaseNo(number), self.release(&progress, number, release, &spec));
            if progress.serving == Some(ReleaseNo(number)) {
                let routes = spec.processes.iter().map(|(name, process)| (name.clone(), process.routes.clone()));
                progress.routes = routes.filter(|(_, routes)| !routes.is_empty()).collect();
            }
        }
        progress.routes = words.routes.clone().unwrap_or(progress.routes);
        let before = progress.routes.clone();
        if let Some(Rollout { phase: Phase::Switched(switched), .. }) = progress.rollout_mut() {
            switched.previous_routes = before;
        }
        let routed = progress.routes.values().flatten().map(|route| route.host.clone()).collect();
        progress.hosts = words.hosts.clone().unwrap_or(routed);
        let pair = |(a, b): &(u16, u16)| Ports { a: *a, b: *b };
        progress.ports =
            words.ports.iter().map(|(process, all)| (process.clone(), all.iter().map(pair).collect())).collect();
        progress.newest_number = words.newest.or(progress.releases.keys().next_back().map(|last| last.0)).unwrap_or(0);
        Some(progress)
    }

    fn release(&self, progress: &ProjectProgress, number: u32, words: &ReleaseInWords, spec: &Spec) -> Release {
        let source = spec.artifact.source().expect("a release has a source").clone();
        let content = Content::of(spec, source, &self.secrets).expect("its secrets are stored");
        let serves = progress.serving == Some(ReleaseNo(number));
        let state = words.state.unwrap_or(match serves {
            true => ReleaseState::Serving,
            false if progress.candidate() == Some(ReleaseNo(number)) => ReleaseState::Trial,
            false => ReleaseState::Retired,
        });
        let generation = words.generation.unwrap_or(u64::from(number));
        let since = at(words.since.unwrap_or(u64::from(number)));
        let good = words.good.unwrap_or(matches!(state, ReleaseState::Serving | ReleaseState::Retired));
        Release {
            sha256: good.then(|| made_from(&content)),
            content: content.into(),
            version: spec.artifact.version.clone(),
            slot: words.slot.unwrap_or(if serves || progress.serving.is_none() { Slot::A } else { Slot::B }),
            created_at: since,
            since,
            was_healthy: good,
            promotion_seq: words.turn,
            end: match state {
                ReleaseState::Serving | ReleaseState::Trial => None,
                ReleaseState::Retired => Some(End::Retired(Cause::unknown(since))),
                ReleaseState::Rejected => Some(End::Rejected(Rejected {
                    cause: Cause::unknown(since),
                    generation,
                    fetched: !words.unfetched,
                    evidence: None,
                })),
                ReleaseState::Superseded => Some(End::Superseded(Cause::unknown(since))),
            },
            rolled_back: words.vetoed,
        }
    }

    fn seen(
        &self,
        name: &ProjectId,
        progress: &ProjectProgress,
        layout: &Layout,
        (now, slowdown): (u64, u32),
    ) -> ObservedProject {
        let words = &self.seen;
        let sight = |facet: &str| words.unknown.contains(facet);
        let units = self.units(name, progress, layout);
        let health = words.health.iter().map(|(stem, found)| {
            let unit = unit_named(name, progress, stem).pop().expect("a unit");
            let (ok_since, last) = match found {
                Health::Since(since) => (Some(at(*since)), "200 OK".to_owned()),
                Health::Found(found) => (None, found.clone()),
            };
            let invocation = Some("run".to_owned());
            (unit, Probed { invocation, at: at(now), ok_since, tries: 3, transcript: vec![last.clone()], last })
        });
        let health = health.collect();
        let mut seen = ObservedProject {
            units: if sight("units") { Facet::Unknown("the bus is away".into()) } else { Facet::Known(units) },
            bundles: match sight("bundles") {
                true => Facet::Unknown("the disk does not answer".into()),
                false => Facet::Known(self.bundles(progress)),
            },
            fetches: words.fetches.iter().map(|(number, words)| (ReleaseNo(*number), fetch(words, now))).collect(),
            health,
            visits: BTreeMap::new(),
            open_ports: words
                .past_caddy
                .iter()
                .map(|(address, port)| OpenPort { address: address.clone(), port: *port })
                .collect(),
            slowdown,
        };
        let routes = words.routes.as_deref().unwrap_or("well");
        let checks = visits::checks(name, &seen, progress).into_iter().map(|(_, visit)| (visit, routes));
        let wanted = self.wanted(name);
        let verify = wanted.spec().and_then(|spec| visits::verify(name, spec, &seen, progress));
        let all = checks.chain(verify.zip(words.verified.as_deref()));
        seen.visits =
            all.filter(|(_, words)| *words != "not asked").map(|(visit, words)| visited(visit, words, now)).collect();
        seen
    }

    fn bundles(&self, progress: &ProjectProgress) -> BundlesSeen {
        let words = &self.seen;
        let there = words.prepared.unwrap_or(progress.serving.is_some() || progress.rollout().is_some());
        let serving = progress.serving.and_then(|serving| progress.release(serving));
        let in_b = serving.filter(|release| release.slot == Slot::B);
        let markers = in_b.map(|release| release.content.web().cloned().collect());
        let content = |number: u32| progress.release(ReleaseNo(number)).map(|release| made_from(&release.content));
        let releases = words.disk.iter().map(|disk| match disk {
            OnDisk::AsNamed(number) => (ReleaseNo(*number), content(*number).unwrap_or_else(|| digest("unknown"))),
            OnDisk::MadeFrom(number, name) => (ReleaseNo(*number), digest(name)),
        });
        let releases: BTreeMap<ReleaseNo, Sha256> = releases.collect();
        let alive = progress.active_releases().into_iter().filter_map(|number| progress.release(number));
        let open = alive.map(|release| release.content.sites().count()).sum::<usize>() > 0;
        let usual_link = progress.serving.filter(|serving| releases.contains_key(serving));
        BundlesSeen {
            link: words.link.map_or(usual_link, |link| (link > 0).then_some(ReleaseNo(link))),
            markers: words.markers.clone().or(markers).unwrap_or_default(),
            releases,
            user: words.user.unwrap_or(there),
            directory: words.directory.unwrap_or(there),
            readable_by_caddy: words.open.unwrap_or(open),
            data: words.data.unwrap_or(there),
            fronts: words.fronts.unwrap_or(there),
        }
    }

    fn units(&self, name: &ProjectId, progress: &ProjectProgress, layout: &Layout) -> BTreeMap<UnitId, UnitSeen> {
        let mut units = BTreeMap::new();
        for (stem, words) in &self.seen.units {
            for unit in unit_named(name, progress, stem) {
                let seen = unit_seen(&unit, progress, layout, words);
                units.insert(unit, seen);
            }
        }
        units
    }
}

impl Remembered {
    fn target(&self) -> Target {
        let release = self.target.or(self.serving).map(ReleaseNo);
        match (release, &self.trial) {
            (Some(release), Some(trial)) => Target::Rollout(trial.read(release)),
            (Some(release), None) if self.serving != Some(release.0) => {
                Target::Failed { release, kept_for_inspection: self.held.is_some() }
            }
            _ => Target::Serving,
        }
    }
}

impl TrialInWords {
    fn read(&self, release: ReleaseNo) -> Rollout {
        let awaited_until = self.awaits.map(at);
        let fetch =
            self.fetch.map(|(failures, until)| FailedFetch { backoff: backoff(failures, until), awaited_until });
        Rollout {
            release,
            phase: match self.switched {
                Some(since) => Phase::Switched(Switched { since: at(since), previous_routes: BTreeMap::new() }),
                None if self.proven => Phase::Proven,
                None => Phase::Starting,
            },
            command_done: self.released,
            changeover_begun: self.room,
            fetch,
            earlier_runs: self.earlier.iter().map(|(unit, restarts)| (unit.clone(), earlier(*restarts))).collect(),
            since: at(self.since),
            queued_since: self.queued.map(at),
            queued_for: Span::seconds(self.waited),
        }
    }
}

fn earlier(restarts: i32) -> EarlierRun {
    EarlierRun { invocation: "run".into(), restarts: restarts.try_into().ok() }
}

fn visited(visit: Visit, words: &str, now: u64) -> (Visit, Visited) {
    let last = format!("GET https://{}{} answered {words}", visit.host, visit.path);
    let (well, unanswered) = (words == "well", words == "unanswered");
    (visit, Visited { at: at(now), well, unanswered, transcript: vec![last.clone()], last })
}

/// Reads `1`, `web-r1` or `web-r1-2`.
fn unit_named(project: &ProjectId, progress: &ProjectProgress, stem: &str) -> Vec<UnitId> {
    if let Ok(number) = stem.parse() {
        return progress.units_of(project, ReleaseNo(number));
    }
    let (process, rest) = stem.rsplit_once("-r").expect("a unit like web-r1");
    let (release, instance) = rest.split_once('-').map_or((rest, None), |(release, at)| (release, at.parse().ok()));
    let process = ProcessName::parse(process).expect("a process");
    let release = ReleaseNo(release.parse().expect("a release"));
    vec![UnitId { project: project.clone(), process, release, instance }]
}

/// Reads `running`, `starting`, `stopping`, `stopped`, `waiting`, `done`, `failed 3`, `signal 9`, `fell 2`, and after commas what is
/// not as it should be.
fn unit_seen(unit: &UnitId, progress: &ProjectProgress, layout: &Layout, words: &str) -> UnitSeen {
    let work = progress.workload_of(unit);
    let release = progress.release(unit.release);
    let serves = progress.serving == Some(unit.release);
    let mut seen = UnitSeen {
        text: work.zip(release).map(|(work, release)| {
            unit::text(unit, work, &release.content, release.slot, progress.port_of(unit), layout)
        }),
        launch_blob: true,
        enabled: serves && work.is_some_and(Workload::is_daemon),
        invocation: Some("run".into()),
        since: Some(at(0)),
        timer: work.zip(release).and_then(|(work, release)| match &work.kind {
            WorkloadKind::Scheduled(calendar) => Some(TimerSeen {
                text: Some(unit::timer_text(unit, calendar, release.slot)),
                active: serves,
                enabled: serves,
            }),
            _ => None,
        }),
        ..UnitSeen::default()
    };
    for word in words.split(", ") {
        let (word, number) = word.rsplit_once(' ').and_then(|(w, n)| Some((w, n.parse().ok()?))).unwrap_or((word, 0));
        let timer = &mut seen.timer;
        // What fell did so a second ago, unless the scene says when.
        if ["failed", "fell", "up again", "signal", "killed for memory", "timed out", "ended"].contains(&word) {
            seen.since = Some(at(999));
        }
        match word {
            "running" => (seen.state, seen.sub_state) = (ActiveState::Active, "running".into()),
            "starting" => (seen.state, seen.sub_state) = (ActiveState::Activating, "start".into()),
            "stopping" => seen.state = ActiveState::Deactivating,
            "stopped" | "waiting" => seen.state = ActiveState::Inactive,
            "done" => (seen.state, seen.sub_state) = (ActiveState::Active, "exited".into()),
            "failed" => (seen.state, seen.exit) = (ActiveState::Failed, Some(Exit::Status(number as i32))),
            "fell" => {
                (seen.state, seen.sub_state) = (ActiveState::Activating, "auto-restart".into());
                (seen.restarts, seen.exit) = ((number as u32).saturating_sub(1), Some(Exit::Status(3)));
            }
            "up again" => (seen.state, seen.restarts) = (ActiveState::Active, number as u32),
            "signal" => (seen.state, seen.exit) = (ActiveState::Failed, Some(Exit::Signal(number as i32))),
            "killed for memory" => (seen.state, seen.result) = (ActiveState::Failed, "oom-kill".into()),
            "timed out" => (seen.state, seen.result) = (ActiveState::Failed, "timeout".into()),
            "ended" => (seen.state, seen.result) = (ActiveState::Failed, "resources".into()),
            "since" => seen.since = Some(at(number)),
            "memory" => seen.memory_bytes = Some(number),
            "nanoseconds" => seen.cpu_nanos = Some(number),
            "other run" => seen.invocation = Some("other".into()),
            "edited" => seen.text = Some("[Service]\nExecStart=/bin/false\n".into()),
            "no file" => (seen.text, seen.launch_blob) = (None, false),
            "no launch blob" => seen.launch_blob = false,
            "enabled" => seen.enabled = true,
            "not enabled" => seen.enabled = false,
            "stale" => seen.needs_reload = true,
            "timer off" => timer.iter_mut().for_each(|timer| (timer.active, timer.enabled) = (false, false)),
            "timer on" => timer.iter_mut().for_each(|timer| (timer.active, timer.enabled) = (true, true)),
            "timer not enabled" => timer.iter_mut().for_each(|timer| timer.enabled = false),
            "timer edited" => timer.iter_mut().for_each(|timer| timer.text = Some("[Timer]\n".into())),
            other => panic!("{unit}: {other}"),
        }
    }
    seen
}

/// Reads `running`, `running, size unknown`, `running, of nothing`, `unpacking`, `failed`, `failed, wait 90`, `too slow`,
/// `missing` or `refused`.
fn fetch(words: &str, now: u64) -> FetchSeen {
    let failed = |error| FetchSeen::Failed { at: at(now), error };
    let passing = |reason| PortError::transient(reason, "it could not be had");
    match words.split_once(", wait ") {
        Some((_, seconds)) => {
            let retry_after = seconds.parse().ok().map(Duration::from_secs);
            failed(PortError { retry_after, ..passing(Reason::ArtifactFailed) })
        }
        None if words == "failed" => failed(passing(Reason::ArtifactFailed)),
        None if words == "too slow" => failed(passing(Reason::ArtifactTooSlow)),
        None if words == "missing" => failed(PortError::absent(Reason::ArtifactFailed, "the server answered 404")),
        None if words == "refused" => failed(PortError::permanent(Reason::HashMismatch, "it could not be had")),
        None if words == "running, size unknown" => FetchSeen::Running { bytes: 10, of: None, unpacking: false },
        None if words == "running, of nothing" => FetchSeen::Running { bytes: 0, of: Some(0), unpacking: false },
        None => FetchSeen::Running { bytes: 10, of: Some(20), unpacking: words == "unpacking" },
    }
}
