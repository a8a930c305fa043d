//! The specs that an operator writes: one document with every kind of process, of which a project takes some.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use zexio::model::document;
use zexio::model::names::{EnvName, Hostname, ProcessName, ProjectId};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::services::Service;
use zexio::model::spec::{
    Artifact, Document, Given, Instances, Keep, OnFailure, Plain, ProbePath, Strategy, Suspend, Suspension, Verify,
};

use super::options::Kinds;
use super::oracle::SENTINEL;
use crate::chance::Chance;

const EVERYTHING: &str = "
zexio: 1
project: all
artifact: { url: 'https://a.example.com/x' }
release: { run: ./migrate }
processes:
  web:
    run: ./app
    ready: { http: /up, within: 10s }
    routes: [{ host: a.example.com }, { host: old.example.com, redirect: 'https://new.example.com' }]
  api: { run: ./api, ready: { http: /up, within: 10s }, routes: [{ host: a.example.com, path: /api/* }] }
  worker: { run: ./work }
  notifier: { run: ./notify, ready: { notify: true, within: 10s } }
  nightly: { run: ./report, schedule: daily }
  docs: { static: public, routes: [{ host: docs.example.com }] }
";

/// Everything of a spec but its artifact.
#[derive(Debug, Clone)]
pub struct Shape {
    host: String,
    instances: u32,
    web: bool,
    api: bool,
    worker: bool,
    notifier: bool,
    nightly: bool,
    docs: bool,
    command: bool,
    redirect: bool,
    recreate: bool,
    hold: bool,
    min_healthy: u64,
    drain: u64,
    deadline: u64,
    keep: u32,
    env: u64,
    pub suspend: Option<Option<Timestamp>>,
    pub needs: BTreeSet<Service>,
    /// The processes that have a strategy of their own.
    strategies: BTreeMap<&'static str, Strategy>,
    /// How long its verification may take, in milliseconds.
    verify: Option<u64>,
}

impl Shape {
    pub fn draw(kinds: Kinds, host: &str, chance: &mut Chance) -> Self {
        let mut often = |on: bool| on && chance.hits(500);
        let docs = often(kinds.sites);
        let web = !docs || often(true);
        Self {
            host: host.to_owned(),
            instances: if often(kinds.instances) { 2 } else { 1 },
            web,
            api: web && often(kinds.second_web),
            worker: often(kinds.workers),
            notifier: often(kinds.notify),
            nightly: often(kinds.timers),
            docs,
            command: often(kinds.commands),
            redirect: web && often(kinds.redirects),
            recreate: often(kinds.recreate),
            hold: often(kinds.hold),
            min_healthy: chance.pick(&[0, 1_000, 2_000, 5_000]),
            drain: chance.pick(&[0, 1_000, 10_000]),
            deadline: chance.pick(&[60_000, 120_000, 300_000]),
            keep: chance.pick(&[1, 1, 2, 5]),
            env: 0,
            suspend: None,
            needs: BTreeSet::new(),
            strategies: BTreeMap::new(),
            verify: None,
        }
    }

    /// Lets its releases be verified, or not.
    pub fn verify(&mut self, chance: &mut Chance) {
        self.verify = chance.pick(&[None, Some(1_000), Some(5_000), Some(10_000)]);
    }

    /// Gives some processes a strategy of their own.
    pub fn differ(&mut self, chance: &mut Chance) {
        let drawn = ["web", "api", "worker", "notifier"].into_iter().filter_map(|name| {
            let own = [None, None, Some(Strategy::Handover), Some(Strategy::Recreate)];
            Some((name, own[chance.below(4) as usize]?))
        });
        self.strategies = drawn.collect();
    }

    /// Needs some of the host's services. What differs in that differs in its variable too: whether a release was begun
    /// with what it needs is told by its content.
    pub fn need(&mut self, chance: &mut Chance) {
        self.needs = Service::ALL.into_iter().filter(|_| chance.hits(300)).collect();
        self.env = chance.below(1_000_000);
    }

    /// Changes the value of the variable: another release with the same artifact.
    pub fn renew(&mut self) {
        self.env += 1;
    }

    pub fn document(&self, project: &ProjectId, artifact: Artifact) -> Document {
        let mut spec = everything().clone();
        spec.project = project.clone();
        spec.artifact = artifact;
        let value = Plain::parse(format!("{SENTINEL}{}", self.env)).expect("a value");
        spec.env.insert(EnvName::parse("TOKEN").expect("a name"), Given::Clear(value));
        let keeps = |name: &str| match name {
            "web" => self.web,
            "api" => self.api,
            "worker" => self.worker,
            "notifier" => self.notifier,
            "nightly" => self.nightly,
            _ => self.docs,
        };
        spec.processes.retain(|name, _| keeps(name.as_str()));
        if !self.command {
            spec.release = None;
        }
        let name = |name: &str| ProcessName::parse(name).expect("a process name");
        let host = |host: &str| Hostname::parse(host).expect("a host");
        if let Some(web) = spec.processes.get_mut(&name("web")) {
            web.routes[0].host = host(&self.host);
            web.routes[1].host = host(&format!("old.{}", self.host));
            web.routes.truncate(if self.redirect { 2 } else { 1 });
            web.instances = Instances::try_from(self.instances).expect("a number of instances");
        }
        if let Some(api) = spec.processes.get_mut(&name("api")) {
            api.routes[0].host = host(&self.host);
        }
        if let Some(docs) = spec.processes.get_mut(&name("docs")) {
            docs.routes[0].host = host(&format!("docs.{}", self.host));
        }
        for (process, strategy) in &self.strategies {
            if let Some(process) = spec.processes.get_mut(&name(process)) {
                process.strategy = Some(*strategy);
            }
        }
        spec.deploy.strategy = if self.recreate { Strategy::Recreate } else { Strategy::Handover };
        spec.deploy.on_failure = if self.hold { OnFailure::Hold } else { OnFailure::Rollback };
        spec.deploy.min_healthy = Span(self.min_healthy);
        spec.deploy.drain = Span(self.drain);
        spec.deploy.deadline = Span(self.deadline);
        spec.deploy.verify = self.verify.map(|within| Verify {
            http: ProbePath::try_from("/up".to_owned()).expect("a path"),
            within: Span(within),
        });
        spec.needs.clone_from(&self.needs);
        spec.keep = Keep::try_from(self.keep).expect("a number of releases");
        spec.suspend = match self.suspend {
            Some(until) => Suspend::Yes(Suspension { reason: None, until }),
            None => Suspend::No,
        };
        spec
    }
}

fn everything() -> &'static Document {
    static ALL: OnceLock<Document> = OnceLock::new();
    ALL.get_or_init(|| document::parse(EVERYTHING.as_bytes()).expect("the document with everything"))
}

#[test]
fn every_spec_that_an_operator_writes_is_one_that_the_agent_takes() {
    let mut chance = Chance::of(1);
    let all = Kinds {
        instances: true,
        workers: true,
        timers: true,
        sites: true,
        commands: true,
        second_web: true,
        redirects: true,
        recreate: true,
        hold: true,
        notify: true,
    };
    let shop = ProjectId::parse("shop").unwrap();
    for _ in 0..500 {
        let mut shape = Shape::draw(all, "shop.example.com", &mut chance);
        shape.differ(&mut chance);
        shape.verify(&mut chance);
        let document = shape.document(&shop, everything().artifact.clone());
        assert_eq!(zexio::model::spec_rules::problems(&document), Vec::new(), "{shape:?}");
    }
}
