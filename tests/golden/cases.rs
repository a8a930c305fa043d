//! Decisions that no scene leads to: they are made between two looks at the machine, or of no project.

use std::collections::BTreeMap;
use std::time::Duration;

use zexio::model::failure::PortError;
use zexio::model::names::{ProjectId, ReleaseNo};
use zexio::model::progress::{Evidence, Release, ReleaseState, Rollout};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::reason::Reason;
use zexio::model::services::{Service, Version};
use zexio::model::spec::Tls;
use zexio::model::status::{Condition, ConditionKind, ProjectState, ServiceState, ServiceStatus, Status};
use zexio::plan::services::{AvailablePackage, choose_package};
use zexio::plan::{Action, Plan, ProjectAction, Step, StepReason, events, retry, routes, status};
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
    let (_, _, mut all_progress, _) = Scene::read(TRIAL).stage();
    let progress = all_progress.projects.values_mut().next().unwrap();
    let refused = PortError::permanent(Reason::ArtifactFailed, "there is no directory public in it");
    retry::record_failed_step(progress, &refused, NOW);
    let states: Vec<ReleaseState> = progress.releases.keys().map(|number| progress.state_of(*number)).collect();
    assert_eq!(states, [ReleaseState::Serving, ReleaseState::Rejected]);
    assert_eq!((progress.candidate(), progress.kept_for_inspection(), &progress.backoff), (None, None, &None));
    assert_eq!(progress.stalled.as_ref().unwrap().reason, Reason::ArtifactFailed);
    let refused = PortError::permanent(Reason::UnitTampered, "systemd does not read it");
    retry::record_failed_step(progress, &refused, NOW);
    let stall = progress.stalled.as_ref().unwrap();
    assert_eq!(
        (stall.reason, stall.message.as_str(), stall.since),
        (Reason::UnitTampered, "systemd does not read it", NOW)
    );
    let states: Vec<ReleaseState> = progress.releases.keys().map(|number| progress.state_of(*number)).collect();
    assert_eq!(states, [ReleaseState::Serving, ReleaseState::Rejected]);
}

#[test]
fn a_release_that_fails_again_has_the_evidence_of_that_failure() {
    let (_, _, mut all_progress, _) = Scene::read(TRIAL).stage();
    let progress = all_progress.projects.values_mut().next().unwrap();
    let refused = PortError::permanent(Reason::ArtifactFailed, "there is no directory public in it");
    retry::record_failed_step(progress, &refused, NOW);
    let rejected = progress.releases.get_mut(&ReleaseNo(2)).and_then(Release::rejected_mut).unwrap();
    rejected.evidence = Some(Evidence::default());
    progress.begin_rollout(Rollout::begin(ReleaseNo(2), NOW, [].into_iter()));
    assert_eq!(progress.release(ReleaseNo(2)).unwrap().end, None);
    retry::record_failed_step(progress, &refused, NOW);
    let evidence = |release: &Release| release.rejected().unwrap().evidence.clone();
    assert_eq!(progress.release(ReleaseNo(2)).map(evidence), Some(None), "it is gathered again");
}

#[test]
fn a_step_that_may_pass_is_tried_again_later() {
    let (_, _, mut all_progress, _) = Scene::read(TRIAL).stage();
    let progress = all_progress.projects.values_mut().next().unwrap();
    let since = progress.backoff.as_ref().unwrap().since;
    retry::record_failed_step(progress, &PortError::transient(Reason::DiskFull, "the disk is full"), NOW);
    let backoff = progress.backoff.as_ref().unwrap();
    assert_eq!((backoff.failures, backoff.until, backoff.since), (3, NOW.after(Span::seconds(20)), since));
    assert_eq!((backoff.reason, backoff.message.as_str()), (Reason::DiskFull, "the disk is full"));
    assert!(progress.candidate().is_some() && progress.stalled.is_none());
}

#[test]
fn each_wait_is_twice_as_long_up_to_five_minutes() {
    let error = PortError::transient(Reason::Systemd, "it was busy");
    let mut backoff = None;
    let mut waits = Vec::new();
    for _ in 0..9 {
        backoff = Some(retry::record_failure(backoff.as_ref(), &error, NOW));
        waits.push(backoff.as_ref().unwrap().until.since(NOW).0 / 1000);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
}

#[test]
fn another_side_may_ask_for_a_longer_wait_of_at_most_ten_minutes() {
    let wait = |asked| {
        let error = PortError {
            retry_after: Some(Duration::from_secs(asked)),
            ..PortError::transient(Reason::Systemd, "busy")
        };
        retry::record_failure(None, &error, NOW).until.since(NOW).0 / 1000
    };
    assert_eq!([wait(1), wait(90), wait(600), wait(100_000)], [5, 90, 600, 600]);
}

#[test]
fn the_wanted_version_is_chosen_from_what_is_on_offer() {
    let offers: Vec<AvailablePackage> = [(20, "20.2"), (20, "20.1"), (21, "21.1"), (18, "18.1")]
        .map(|(major, exact)| AvailablePackage { major, exact: exact.into() })
        .into();
    let chosen = |service, version| choose_package(service, version, &offers).map(|offer| offer.exact.as_str());
    assert_eq!(
        chosen(Service::Nodejs, Version::Default),
        Ok("20.2"),
        "the newest of the newest with long-term support"
    );
    assert_eq!(chosen(Service::Postgresql, Version::Default), Ok("21.1"), "the newest");
    assert_eq!(chosen(Service::Nodejs, Version::Major(18)), Ok("18.1"));
    assert_eq!(
        chosen(Service::Nodejs, Version::Major(22)),
        Err("the package manager does not offer nodejs 22; on offer: 18, 20, 21. Ask for one of these, or add a package source that has it".into())
    );
    assert!(
        choose_package(Service::Redis, Version::Major(7), &offers)
            .unwrap_err()
            .contains("redis 7; on offer: 18, 20, 21")
    );
    assert!(choose_package(Service::Redis, Version::Default, &[]).unwrap_err().contains("redis default; none is"));
}

#[test]
fn only_the_sites_that_caddy_refuses_are_left_out() {
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
    let found = routes::refused_hosts(&sites, |tries| {
        tried.push(tries.len());
        tries.iter().find(|site| site.host.as_str() == "d.example.com").map(|site| format!("{} is odd", site.host))
    });
    assert_eq!(tried, [1, 3, 2, 3, 3], "what was refused is not offered with the next");
    let found: Vec<String> = found.iter().map(|(project, hosts)| format!("{project} {hosts:?}")).collect();
    assert_eq!(found, [r#"shop {Hostname("d.example.com"): "d.example.com is odd"}"#]);
}

#[test]
fn caddy_is_told_the_directories_of_sites_and_as_many_addresses_as_there_are_instances() {
    let (_, _, all_progress, rules) = Scene::read(
        "
projects:
  docs:
    spec: { artifact: v1, processes: { whole: { static: ., routes: [{ host: a.example.com }] }, part: { static: public, routes: [{ host: b.example.com, tls: 'off' }] } } }
    remembered: { serving: 1 }
  shop:
    spec: { artifact: v2, processes: { web: { run: ./shop, instances: 3, routes: [{ host: c.example.com, tls: internal }] } } }
    remembered: { serving: 1, target: 2, trial: { since: 990 }, releases: { 1: { artifact: v1, with: { processes: { web: { run: ./shop, instances: 2, routes: [{ host: c.example.com }] } } } }, 2: {} } }
",
    )
    .stage();
    let sites = routes::sites(&all_progress, &rules.layout);
    let routes: Vec<_> = sites.iter().flat_map(|site| &site.routes).collect();
    let roots: Vec<_> = routes.iter().map(|route| route.root.as_deref()).collect();
    assert_eq!(roots, [Some("/zexio/apps/docs/bundle"), Some("/zexio/apps/docs/bundle/public"), None]);
    let widths: Vec<_> = routes.iter().map(|route| (route.a.len(), route.b.len())).collect();
    assert_eq!(widths, [(0, 0), (0, 0), (2, 3)]);
    let public: Vec<String> =
        routes::public_hosts(&all_progress, &rules.proxy).iter().map(ToString::to_string).collect();
    assert_eq!(public, ["a.example.com", "c.example.com"], "the others' certificates come from elsewhere");
    let behind = zexio::render::caddyfile::Proxy { behind: Some(7480), ..rules.proxy.clone() };
    assert!(routes::public_hosts(&all_progress, &behind).is_empty(), "the web server in front has the certificates");
}

/// A project that runs, with these conditions: kind, status, reason.
fn status_of(conditions: &[(ConditionKind, bool, Reason)]) -> Status {
    let conditions = conditions.iter().map(|&(kind, holds, reason)| Condition {
        kind,
        holds,
        reason,
        message: "process web exited with status 1".into(),
        since: NOW,
    });
    Status {
        project: ProjectId::parse("shop").unwrap(),
        generation: 1,
        observed_generation: 1,
        observed_at: NOW,
        owner: "api".into(),
        state: ProjectState::Running,
        conditions: conditions.collect(),
        serving: Some(ReleaseNo(1)),
        candidate: None,
        last_good: None,
        rejected: Vec::new(),
        processes: Vec::new(),
        routes: Vec::new(),
    }
}

#[test]
fn only_a_project_that_falls_by_itself_is_told_as_that() {
    let statuses = |ready: bool, change: fn(&mut Status)| {
        let mut status = status_of(&[(ConditionKind::Ready, ready, Reason::ProcessDown)]);
        change(&mut status);
        BTreeMap::from([(status.project.clone(), status)])
    };
    let turn = |was, is, change| {
        let told = events::ready_changes(&statuses(was, |_| {}), &statuses(is, change), NOW);
        told.iter().map(crate::plans::event).collect::<String>()
    };
    let down = "# warns shop generation 1 release 1: ProcessDown: process web exited with status 1\n";
    assert_eq!(turn(true, false, |_| {}), down);
    assert_eq!(turn(false, true, |_| {}), down.replace("warns", "tells"));
    for (was, is) in [(true, true), (false, false)] {
        assert_eq!(turn(was, is, |_| {}), "", "{was} {is}");
    }
    assert_eq!(turn(true, false, |status| status.generation = 2), "", "a new spec was written");
    assert_eq!(turn(true, false, |status| status.candidate = Some(ReleaseNo(2))), "", "a release is tried");
    let stalls = |status: &mut Status| {
        let stalled = Condition { kind: ConditionKind::Stalled, ..status.conditions[0].clone() };
        status.conditions.push(stalled);
    };
    assert_eq!(turn(true, false, stalls), "", "a release was rejected");
    let contested = |status: &mut Status| {
        let reason = Reason::Conflict;
        status.conditions.push(Condition { kind: ConditionKind::Stalled, reason, ..status.conditions[0].clone() });
    };
    assert_eq!(turn(true, false, contested), down, "another file claims it too, and did not bring it down");
}

#[test]
fn bytes_that_failed_are_known_again_by_their_digest_or_their_address() {
    let (_, _, all_progress, _) = Scene::read(
        "
projects:
  shop:
    spec: { artifact: v1, processes: { web: { run: ./shop } } }
    remembered:
      serving: 1
      releases:
        1: {}
        2: { artifact: v2, state: rejected }
        3: { artifact: { url: 'https://dl.example.com/v3', sha256: '3333333333333333333333333333333333333333333333333333333333333333' }, vetoed: true, good: true }
",
    )
    .stage();
    let progress = all_progress.projects.values().next().unwrap();
    let against =
        |artifact: &str| progress.release_blocking(&serde_saphyr::from_str(artifact).unwrap()).map(|number| number.0);
    let (three, four) = ("3".repeat(64), "4".repeat(64));
    assert_eq!(against("url: https://dl.example.com/v2.tar.gz"), Some(2));
    assert_eq!(against("url: https://dl.example.com/v1.tar.gz"), None, "that one serves");
    assert_eq!(against(&format!("url: https://other.example.com/x\nsha256: '{three}'")), Some(3), "the same bytes");
    assert_eq!(against(&format!("url: https://dl.example.com/v3\nsha256: '{four}'")), None, "other bytes");
    assert_eq!(against("release: 2"), None, "whoever names a release means it");
}

#[test]
fn a_service_is_told_of_when_it_got_on_and_a_failure_with_what_its_message_does_not_have() {
    let status = |state: ServiceState, message: &str, evidence: &[&str]| ServiceStatus {
        service: Service::Redis,
        observed_generation: 1,
        installed: None,
        state,
        reason: Reason::Installing,
        message: message.into(),
        evidence: evidence.iter().map(|line| (*line).to_owned()).collect(),
        since: NOW,
    };
    let told = |before: Option<&ServiceStatus>, now: &ServiceStatus| {
        events::for_service(before, now, NOW).map(|event| format!("{:?} {}", event.level, event.message))
    };
    let (reading, unpacking) =
        (status(ServiceState::Installing, "reading", &["E: odd"]), status(ServiceState::Installing, "unpacking", &[]));
    assert_eq!(told(None, &reading).unwrap(), "Info redis: reading");
    assert_eq!(told(Some(&reading), &ServiceStatus { since: Timestamp(1), ..reading.clone() }), None);
    assert_eq!(told(Some(&reading), &unpacking).unwrap(), "Info redis: unpacking");
    let other_reason = ServiceStatus { reason: Reason::Removing, ..reading.clone() };
    assert_eq!(told(Some(&reading), &other_reason).unwrap(), "Info redis: reading");
    assert_eq!(told(None, &ServiceStatus { observed_generation: 0, ..reading.clone() }), None, "nobody asks for it");
    let failed = status(ServiceState::Failed, "no such package", &["1", "2", "3", "4", "5", "E: no such package"]);
    assert_eq!(
        told(Some(&reading), &failed).unwrap(),
        "Warning redis: no such package; its last output: 2 | 3 | 4 | 5 | E: no such package"
    );
    let said = status(ServiceState::Failed, "E: no such package", &["E: no such package"]);
    assert_eq!(told(Some(&reading), &said).unwrap(), "Warning redis: E: no such package");
}

#[test]
fn a_host_that_is_left_out_stays_out_with_the_next_one() {
    let (_, _, mut all_progress, _) = Scene::read(TRIAL).stage();
    let progress = all_progress.projects.values_mut().next().unwrap();
    let refused = |host: &str| BTreeMap::from([(host.parse().unwrap(), format!("{host} is odd"))]);
    routes::quarantine(progress, refused("a.example.com"), "then".into(), Timestamp(1));
    routes::quarantine(progress, refused("b.example.com"), "now".into(), NOW);
    let quarantine = progress.quarantine.as_ref().unwrap();
    assert_eq!((quarantine.since, &*quarantine.surroundings), (NOW, "now"), "all are tried again together");
    let hosts: Vec<String> = quarantine.hosts.iter().map(|(host, why)| format!("{host}: {why}")).collect();
    assert_eq!(hosts, ["a.example.com: a.example.com is odd", "b.example.com: b.example.com is odd"]);
}

/// A status is as the last pass saw it; a suspension is as it is wanted now.
#[test]
fn a_suspension_shows_before_a_pass_has_seen_it_and_is_gone_before_one_has_seen_that() {
    let kinds = |status: &Status| {
        let told = status.conditions.iter().map(|one| format!("{} {} {}", one.kind.name(), one.holds, one.reason));
        format!("{}: {}", status.state, told.collect::<Vec<_>>().join(", "))
    };
    let wanted = |suspended: bool| {
        let hold = if suspended { "suspension: 2000, " } else { "" };
        let text = format!(
            "projects:\n  shop: {{ {hold}spec: {{ artifact: v1, processes: {{ web: {{ run: ./shop }} }} }} }}\n"
        );
        Scene::read(&text).stage().0.0.into_values().next().unwrap()
    };
    let (held, free) = (wanted(true), wanted(false));
    let busy =
        status_of(&[(ConditionKind::Ready, false, Reason::Trial), (ConditionKind::Reconciling, true, Reason::Trial)]);
    let shown = status::with_current_intent(busy.clone(), &held, NOW);
    assert_eq!(kinds(&shown), "suspended: Ready false Trial, Suspended true Suspended");
    assert_eq!(kinds(&status::with_current_intent(shown, &free, NOW)), "pending: Ready false Trial");
    let waits = status_of(&[
        (ConditionKind::Ready, false, Reason::Suspended),
        (ConditionKind::Suspended, true, Reason::Suspended),
    ]);
    let resumed = status::with_current_intent(waits, &free, NOW);
    assert_eq!(kinds(&resumed), "deploying: Ready false Pending, Reconciling true Pending");
    assert_eq!(status::with_current_intent(busy.clone(), &free, NOW).conditions, busy.conditions);
}

#[test]
fn a_project_without_steps_that_is_not_as_it_should_be_is_told_of() {
    let named = |project: &str, conditions: &[(ConditionKind, bool, Reason)]| Status {
        project: ProjectId::parse(project).unwrap(),
        ..status_of(conditions)
    };
    let all = [
        named(
            "fine",
            &[(ConditionKind::Ready, true, Reason::Serving), (ConditionKind::Suspended, false, Reason::Resumed)],
        ),
        named(
            "stuck",
            &[
                (ConditionKind::Ready, false, Reason::SecretMissing),
                (ConditionKind::Stalled, true, Reason::SecretMissing),
            ],
        ),
        named(
            "paused",
            &[(ConditionKind::Ready, true, Reason::Serving), (ConditionKind::Suspended, true, Reason::Suspended)],
        ),
        named("new", &[(ConditionKind::Ready, false, Reason::Pending)]),
    ];
    let action = Action::Project(ProjectId::parse("new").unwrap(), ProjectAction::Prepare { readable_by_caddy: false });
    let step = Step { action, reason: StepReason::ProjectNew };
    let plan = Plan { steps: vec![step], ..Plan::default() };
    let statuses = all.into_iter().map(|status| (status.project.clone(), status)).collect();
    let told = status::waiting_projects(&plan, &statuses);
    let told: Vec<String> = told.iter().map(|one| format!("{} {}", one.project, one.reason)).collect();
    assert_eq!(told, ["paused Suspended", "stuck SecretMissing"]);
}
