//! The host's services of a scene, as a person writes them down, and how a golden text tells of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use zexio::model::desired::{DesiredService, DesiredServices, Owner, ServiceIntent};
use zexio::model::observed::{ActiveState, DaemonSeen, Exit, Installation, Observed, PackageJobSeen, ServiceSeen};
use zexio::model::progress::{Backoff, Progress, ServiceProgress};
use zexio::model::services::{Service, Version};
use zexio::model::status::ServiceStatus;
use zexio::plan::services;

use crate::plans::seconds;
use crate::scene::{at, backoff, refusal};

/// One service: what is wanted, remembered and seen of it.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceInWords {
    /// `install`, `install 17`, `remove` or `purge`; missing: nobody asks.
    want: Option<String>,
    /// Why the last thing that was asked could not be taken: `VersionUnavailable: why`.
    refusal: Option<String>,
    generation: u64,
    remembered: Option<ServiceMemoryInWords>,
    /// By major: `running`, `starting`, `stopped` or `failed`, and after commas `not enabled`, `half`, `no daemon`.
    installed: BTreeMap<u32, String>,
    data: bool,
    /// `runs`, `exit 3`, `fell`, and what it said after a colon.
    work: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ServiceMemoryInWords {
    generation: u64,
    before: Option<BTreeSet<u32>>,
    begun: Option<u64>,
    /// Whether the failed work that is seen was counted.
    counted: bool,
    /// Failures in a row, and when the next try is.
    failed: Option<(u32, u64)>,
    evidence: Vec<String>,
}

impl ServiceInWords {
    /// Returns what is wanted of it.
    pub fn wanted(&self) -> Option<DesiredService> {
        let intent = match self.want.as_deref()?.split_once(' ') {
            Some(("install", major)) => ServiceIntent::Install(Version::Major(major.parse().expect("a major"))),
            _ => match self.want.as_deref()? {
                "install" => ServiceIntent::Install(Version::Default),
                "remove" => ServiceIntent::Remove { purge: false },
                "purge" => ServiceIntent::Remove { purge: true },
                "unreadable" => ServiceIntent::Unreadable,
                other => panic!("want: {other}"),
            },
        };
        let refusal = self.refusal.as_deref().map(refusal);
        Some(DesiredService { generation: self.generation, intent, owner: Owner::Api, refusal })
    }

    /// Returns what is remembered of it.
    pub fn progress(&self) -> Option<ServiceProgress> {
        let words = self.remembered.as_ref()?;
        Some(ServiceProgress {
            generation: words.generation,
            preexisting: words.before.clone(),
            started_at: words.begun.map(at),
            last_failed_run: words.counted.then(|| "run".to_owned()),
            backoff: words.failed.map(|(failures, until)| backoff(failures, until)),
            evidence: words.evidence.clone(),
        })
    }

    /// Returns what the machine shows of it.
    pub fn seen(&self, service: Service) -> ServiceSeen {
        let installed = self.installed.iter().map(|(major, words)| (*major, installation(service, *major, words)));
        let work = self.work.as_ref().map(|words| {
            let (how, said) = words.split_once(": ").unwrap_or((words, ""));
            let exit = how.strip_prefix("exit ").map(|status| Exit::Status(status.parse().expect("a status")));
            let log = if how == "runs" { Vec::new() } else { vec!["E: it did not work".to_owned()] };
            PackageJobSeen { running: how == "runs", status_text: said.into(), exit, invocation: "run".into(), log }
        });
        ServiceSeen { installed: installed.collect(), data: self.data, job: work }
    }
}

fn installation(service: Service, major: u32, words: &str) -> Installation {
    let mut daemon = DaemonSeen { unit: format!("{service}.service"), state: ActiveState::Inactive, enabled: true };
    let mut found = Installation { version: format!("{major}.4"), fully_installed: true, daemon: None };
    for word in words.split(", ") {
        match word {
            "running" => daemon.state = ActiveState::Active,
            "starting" => daemon.state = ActiveState::Activating,
            "stopped" => daemon.state = ActiveState::Inactive,
            "failed" => daemon.state = ActiveState::Failed,
            "not enabled" => daemon.enabled = false,
            "half" => found.fully_installed = false,
            "no daemon" => {}
            other => panic!("{service} {major}: {other}"),
        }
    }
    found.daemon = (!words.contains("no daemon")).then_some(daemon);
    found
}

/// Shows each service that could be looked at; `before` is how they were.
pub fn statuses(
    wanted: &DesiredServices,
    observed: &Observed,
    all_progress: &Progress,
    before: &BTreeMap<Service, ServiceStatus>,
) -> BTreeMap<Service, ServiceStatus> {
    let shown = Service::ALL.into_iter().filter_map(|service| {
        let status = services::status(service, wanted.get(&service), observed, all_progress, before.get(&service))?;
        Some((service, status))
    });
    shown.collect()
}

/// Tells what is remembered of the services.
pub fn progress_of(all_progress: &Progress) -> String {
    all_progress.services.iter().map(|(service, progress)| of_memory(*service, progress)).collect()
}

fn of_memory(service: Service, progress: &ServiceProgress) -> String {
    let before = progress.preexisting.as_ref().map_or("nobody looked".to_owned(), |majors| format!("{majors:?}"));
    let mut text = format!("# {service}: generation {}; before {before}", progress.generation);
    text += &progress.started_at.map_or(String::new(), |at| format!("; work begun {}", seconds(at)));
    text += &progress.last_failed_run.as_ref().map_or(String::new(), |run| format!("; counted {run}"));
    if let Some(Backoff { failures, until, reason, message, .. }) = &progress.backoff {
        text += &format!("; failed {failures} times, next at {}: {reason}: {message}", seconds(*until));
    }
    text + "\n"
}

/// Tells how a service is.
pub fn of_status(status: &ServiceStatus) -> String {
    let ServiceStatus { service, observed_generation, state, reason, message, evidence, .. } = status;
    let installed = status.installed.as_deref().unwrap_or("nothing");
    let evidence = if evidence.is_empty() { String::new() } else { format!("; {evidence:?}") };
    let since = seconds(status.since);
    format!(
        "# {service} is {state} since {since}: generation {observed_generation}, {installed} installed\n#   {reason}: {message}{evidence}\n"
    )
}
