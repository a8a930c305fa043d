//! Decisions that no scene leads to: they are made between two looks at the machine, or of no project.

use std::time::Duration;

use zexio::model::failure::PortError;
use zexio::model::names::ProjectId;
use zexio::model::progress::ReleaseState;
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::services::{Service, Version};
use zexio::model::spec::Tls;
use zexio::plan::services::{Offer, choose};
use zexio::plan::{routes, verdict};
use zexio::render::caddyfile::Site;

use crate::scene::Scene;

const TRIAL: &str = "
projects:
  shop:
    spec: { artifact: v2, deploy: { on_failure: hold }, processes: { web: { run: ./shop } } }
    generation: 2
    remembered: { serving: 1, target: 2, trial: { since: 990 }, backoff: 990, releases: { 1: { artifact: v1 }, 2: {} } }
";

const NOW: Timestamp = Timestamp(1_000_000);

#[test]
fn a_step_that_failed_for_good_rejects_the_candidate_and_without_one_stalls_the_project() {
    let (_, _, mut progress, _) = Scene::read(TRIAL).stage();
    let memory = progress.projects.values_mut().next().unwrap();
    let refused = PortError::lasting("LayoutInvalid", "there is no directory public in it");
    verdict::of_failed_step(memory, &refused, NOW);
    let states: Vec<ReleaseState> = memory.releases.values().map(|release| release.state).collect();
    assert_eq!(states, [ReleaseState::Serving, ReleaseState::Rejected]);
    assert_eq!((memory.candidate(), memory.held, &memory.backoff), (None, None, &None));
    assert_eq!(memory.stalled.as_ref().unwrap().reason, "LayoutInvalid");
    let refused = PortError::lasting("UnitRefused", "systemd does not read it");
    verdict::of_failed_step(memory, &refused, NOW);
    let stall = memory.stalled.as_ref().unwrap();
    assert_eq!(
        (stall.reason.as_str(), stall.message.as_str(), stall.since),
        ("UnitRefused", "systemd does not read it", NOW)
    );
    let states: Vec<ReleaseState> = memory.releases.values().map(|release| release.state).collect();
    assert_eq!(states, [ReleaseState::Serving, ReleaseState::Rejected]);
}

#[test]
fn a_step_that_may_pass_is_tried_again_later() {
    let (_, _, mut progress, _) = Scene::read(TRIAL).stage();
    let memory = progress.projects.values_mut().next().unwrap();
    let since = memory.backoff.as_ref().unwrap().since;
    verdict::of_failed_step(memory, &PortError::passing("DiskFull", "the disk is full"), NOW);
    let backoff = memory.backoff.as_ref().unwrap();
    assert_eq!((backoff.strikes, backoff.until, backoff.since), (3, NOW.after(Span::seconds(20)), since));
    assert_eq!((backoff.reason.as_str(), backoff.message.as_str()), ("DiskFull", "the disk is full"));
    assert!(memory.candidate().is_some() && memory.stalled.is_none());
}

#[test]
fn each_wait_is_twice_as_long_up_to_five_minutes() {
    let error = PortError::passing("Busy", "it was busy");
    let mut backoff = None;
    let mut waits = Vec::new();
    for _ in 0..9 {
        backoff = Some(verdict::strike(backoff.as_ref(), &error, NOW));
        waits.push(backoff.as_ref().unwrap().until.since(NOW).0 / 1000);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn another_side_may_ask_for_a_longer_wait_of_at_most_ten_minutes() {
    let wait = |asked| {
        let error = PortError { retry_after: Some(Duration::from_secs(asked)), ..PortError::passing("Busy", "busy") };
        verdict::strike(None, &error, NOW).until.since(NOW).0 / 1000
    };
    assert_eq!([wait(1), wait(90), wait(600), wait(100_000)], [5, 90, 600, 600]);
}

#[test]
fn the_wanted_version_is_chosen_from_what_is_on_offer() {
    let offers: Vec<Offer> = [(20, "20.2"), (20, "20.1"), (21, "21.1"), (18, "18.1")]
        .map(|(major, exact)| Offer { major, exact: exact.into() })
        .into();
    let chosen = |service, version| choose(service, version, &offers).map(|offer| offer.exact.as_str());
    assert_eq!(chosen(Service::Nodejs, Version::Usual), Ok("20.2"), "the newest of the newest with long-term support");
    assert_eq!(chosen(Service::Postgresql, Version::Usual), Ok("21.1"), "the newest");
    assert_eq!(chosen(Service::Nodejs, Version::Major(18)), Ok("18.1"));
    assert_eq!(
        chosen(Service::Nodejs, Version::Major(22)),
        Err("the package manager does not offer nodejs 22; on offer: 18, 20, 21. Ask for one of these, or add a package source that has it".into())
    );
    assert!(choose(Service::Redis, Version::Usual, &[]).unwrap_err().contains("redis default; none is"));
}

#[test]
fn only_projects_whose_sites_caddy_refuses_are_left_out() {
    let site = |project: &str, host: &str| Site {
        project: ProjectId::parse(project).unwrap(),
        host: host.parse().unwrap(),
        tls: Tls::Auto,
        redirect: None,
        routes: Vec::new(),
    };
    let sites = [
        site("wiki", "a.example.com"),
        site("shop", "b.example.com"),
        site("blog", "c.example.com"),
        site("shop", "d.example.com"),
    ];
    let mut tried = Vec::new();
    let found = routes::culprits(&sites, |tries| {
        tried.push(tries.len());
        tries.iter().find(|site| site.host.as_str() == "d.example.com").map(|site| format!("{} is odd", site.host))
    });
    assert_eq!(tried, [1, 3, 2], "what was refused is not offered with the next");
    let found: Vec<(&str, &str)> = found.iter().map(|(project, why)| (project.as_str(), why.as_str())).collect();
    assert_eq!(found, [("shop", "d.example.com is odd")]);
}
