//! The steps, one of each kind: how it is shown, counted, and told when it was taken or failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use zexio::model::desired::DesiredServices;
use zexio::model::failure::PortError;
use zexio::model::names::ProjectId;
use zexio::model::progress::{Progress, ProjectProgress};
use zexio::model::quantity::Timestamp;
use zexio::model::reason::Reason;
use zexio::model::services::{Service, Version};
use zexio::plan::check::Breach;
use zexio::plan::services::Task;
use zexio::plan::step::Subject;
use zexio::plan::{Action, ServiceAction, Step, StepReason, advance, events, plan};

use crate::plans::{event, scenes};
use crate::scene::Scene;

/// Returns a step of every kind that some scene leads to, and of each of the services' kinds.
fn steps() -> BTreeMap<&'static str, Step> {
    let mut found = BTreeMap::new();
    for path in scenes() {
        let (desired, observed, mut all_progress, rules) = Scene::read(&fs::read_to_string(path).unwrap()).stage();
        advance::advance(&desired, &DesiredServices::new(), &observed, &mut all_progress, &rules);
        for step in plan(&desired, &DesiredServices::new(), &observed, &all_progress, &rules).steps {
            found.entry(step.action.facts().kind).or_insert(step);
        }
    }
    let packages = |task| Action::Service(Service::Postgresql, ServiceAction::Packages(task));
    let start = ServiceAction::Start("redis-server.service".into());
    let of_services = [
        (packages(Task::Install(Version::Major(17))), StepReason::ServiceMissing),
        (Action::Service(Service::Redis, start), StepReason::ServiceDown),
        (Action::Service(Service::Redis, ServiceAction::Enable), StepReason::ServiceDown),
        (Action::Service(Service::Nodejs, ServiceAction::DeleteRecord), StepReason::ServiceGone),
    ];
    for (action, reason) in of_services {
        found.insert(action.facts().kind, Step { action, reason });
    }
    let remove = |purge| packages(Task::Remove { majors: BTreeSet::from([17]), purge });
    let removals = [("packages, a removal", remove(false)), ("packages, a purge", remove(true))];
    for (name, action) in removals {
        found.insert(name, Step { action, reason: StepReason::ServiceUnwanted });
    }
    found
}

#[test]
fn every_kind_of_step_is_shown_and_told() {
    let now = Timestamp(1_000_000);
    let shop = ProjectProgress { generation: 3, ..ProjectProgress::default() };
    let all_progress = Progress { projects: [(ProjectId::parse("shop").unwrap(), shop)].into(), ..Progress::default() };
    let error = PortError::transient(Reason::Systemd, "it was busy");
    let mut text = String::new();
    for (name, step) in steps() {
        let service = match step.action.subject() {
            Subject::Service(service) => format!(", for {service}"),
            Subject::Project(_) | Subject::Proxy | Subject::Artifacts => String::new(),
        };
        text += &format!("{name}: {}{service}\n", step.action.facts().sign);
        text += &event(&events::for_step(&step, &all_progress, now));
        text += &event(&events::for_failed_step(&step, &error, &all_progress, now));
    }
    for project in ["shop", "wiki"] {
        let project = ProjectId::parse(project).unwrap();
        let breach = Breach { project, action: "stop it".into(), rule: "S2: it is not stopped" };
        text += &event(&events::for_breach(&breach, &all_progress, now));
    }
    crate::assert_golden("steps.txt", &text);
}
