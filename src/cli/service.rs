//! Host services on the command line.

use serde_json::{Value, json};

use super::Session;
use super::args::{Format, ServiceVerb, Task};
use super::client::{Ask, Client};
use super::failure::Failure;
use super::output::say;
use super::show;
use super::text::{clean, table};
use super::wait::{WaitState, watch};
use crate::model::quantity::Span;
use crate::model::reason::Reason;
use crate::model::services::Service;
use crate::plan::services::{PackageJob, Task as Work, needs_operator};

/// Runs a verb on host services.
///
/// # Errors
/// The agent refused, or the wait failed.
pub fn service(session: &Session, verb: ServiceVerb) -> Result<(), Failure> {
    match verb {
        ServiceVerb::List => {
            session.show(&Ask::get("/v1/services"), |answer| Ok(listed(show::list(answer, "services"))))
        }
        ServiceVerb::Install { service, version, wait } => {
            let body = version.map_or_else(|| json!({}), |version| json!({ "version": version }));
            let answer = session.client.value(&Ask::json("PUT", place(service), &body))?;
            session.done(&answer, &format!("{service}  is wanted"))?;
            finish(session, service, wait.wait)
        }
        ServiceVerb::Remove { service, purge, wait } => {
            let flag = if purge { "?purge=true" } else { "" };
            let ask = Ask { method: "DELETE", target: place(service) + flag, ..Ask::default() };
            let answer = session.client.value(&ask)?;
            session.done(&answer, &format!("{service}  is not wanted any more"))?;
            finish(session, service, wait.wait)
        }
    }
}

fn finish(session: &Session, service: Service, at_most: Option<Span>) -> Result<(), Failure> {
    let Some(at_most) = at_most else { return Ok(()) };
    let said = for_service(&session.client, service, at_most)?;
    if session.format == Format::Table { say(&format!("{service}  {said}\n")) } else { Ok(()) }
}

/// Waits until a service is in its desired state.
///
/// # Errors
/// It failed, or the time is up.
pub fn for_service(client: &Client, service: Service, at_most: Span) -> Result<String, Failure> {
    watch(&place(service), service.as_str(), client, at_most, |view, fresh| Ok(judge(&view.unwrap_or_default(), fresh)))
}

/// Requests the service in a document; returns the desired generation, and whether it is new.
///
/// # Errors
/// The agent refused.
pub fn put(client: &Client, service: Service, version: &str) -> Result<(u64, &'static str), Failure> {
    let before = client.value(&Ask::get(place(service)))?;
    let body = if version == service.default_name() { json!({}) } else { json!({ "version": version }) };
    let answer = client.send(&Ask::json("PUT", place(service), &body))?;
    let generation = answer.value()?["generation"].as_u64().unwrap_or_default();
    let outcome = match before["desired"]["generation"].as_u64() {
        _ if answer.status == 201 => "new",
        Some(before) if before == generation => "unchanged",
        _ => "changed",
    };
    Ok((generation, outcome))
}

/// Confirms removals of services that were held back; returns the agent's answer to each.
///
/// # Errors
/// The agent refused.
pub fn confirm_removals(session: &Session) -> Result<Vec<Value>, Failure> {
    let answer = session.client.value(&Ask::get("/v1/services"))?;
    let held =
        show::list(&answer, "services").iter().filter(|view| text(view, "reason") == Reason::PruneRefused.name());
    let held: Vec<Service> = held.filter_map(|view| text(view, "service").parse().ok()).collect();
    let mut answers = Vec::new();
    for service in held {
        let answer = session.client.value(&Ask { method: "DELETE", target: place(service), ..Ask::default() })?;
        if session.format == Format::Table {
            say(&format!("{service}  is not wanted any more\n"))?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// Parses a package job as the agent writes it.
///
/// # Errors
/// The service has no such version.
pub fn order(
    task: Task,
    service: Service,
    version: Option<&str>,
    majors: Vec<u32>,
    purge: bool,
) -> Result<PackageJob, Failure> {
    let task = match task {
        Task::Install => Work::Install(service.version(version)?),
        Task::Remove => Work::Remove { majors: majors.into_iter().collect(), purge },
    };
    Ok(PackageJob { service, task })
}

fn place(service: Service) -> String {
    format!("/v1/services/{service}")
}

fn text<'a>(view: &'a Value, key: &str) -> &'a str {
    view[key].as_str().unwrap_or_default()
}

/// Judges the agent's status of a service for a wait. As with projects, a temporary failure is not final: the agent
/// retries, and reports when.
fn judge(view: &Value, fresh: bool) -> WaitState {
    let said = format!("{}: {}", clean(text(view, "reason")), clean(text(view, "message")));
    let desired = &view["desired"];
    let seen = view["observed_generation"].as_u64() == desired["generation"].as_u64().or(Some(0));
    match text(view, "state") {
        _ if !seen || !fresh => WaitState::Going(said),
        "failed" if Reason::named(text(view, "reason")).is_some_and(needs_operator) => WaitState::Failed(said),
        "installed" | "running" | "absent" if desired["remove"].is_null() => WaitState::Ready(said),
        _ => WaitState::Going(said),
    }
}

fn listed(services: &[Value]) -> String {
    let rows: Vec<Vec<String>> = services.iter().map(row).collect();
    table(&["SERVICE", "WANTED", "INSTALLED", "STATE", "REASON", "MESSAGE"], &rows)
}

fn row(view: &Value) -> Vec<String> {
    let desired = &view["desired"];
    let wanted = match (desired["version"].as_str(), desired["remove"].is_null()) {
        (Some(version), _) => version,
        (None, false) => "gone",
        (None, true) => "-",
    };
    let installed = view["installed"].as_str().unwrap_or("-");
    let cells =
        [text(view, "service"), wanted, installed, text(view, "state"), text(view, "reason"), text(view, "message")];
    cells.into_iter().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(desired: Value, observed: u64, state: &str) -> Value {
        json!({ "service": "redis", "desired": desired, "observed_generation": observed, "state": state,
            "reason": "R", "message": "m", "installed": null })
    }

    #[test]
    fn a_request_is_waited_for_until_its_own_generation_ended() {
        let install = json!({ "version": "default", "generation": 2 });
        let remove = json!({ "remove": true, "generation": 3 });
        let said = || "R: m".to_owned();
        for (view, turn) in [
            (view(install.clone(), 1, "failed"), WaitState::Going(said())),
            (view(install.clone(), 2, "installing"), WaitState::Going(said())),
            (view(install.clone(), 2, "failed"), WaitState::Going(said())),
            (view(install, 2, "running"), WaitState::Ready(said())),
            (view(remove.clone(), 2, "running"), WaitState::Going(said())),
            (view(remove, 3, "absent"), WaitState::Going(said())),
            (view(Value::Null, 3, "absent"), WaitState::Going(said())),
            (view(Value::Null, 0, "absent"), WaitState::Ready(said())),
            (view(Value::Null, 0, "installed"), WaitState::Ready(said())),
        ] {
            assert_eq!(judge(&view, true), turn, "{view}");
        }
    }

    #[test]
    fn only_a_failure_that_waits_for_somebody_is_an_end() {
        for (reason, ends) in
            [(Reason::PackagesFailed, false), (Reason::ServiceDown, false), (Reason::VersionUnavailable, true)]
        {
            let mut view = view(json!({ "version": "default", "generation": 2 }), 2, "failed");
            view["reason"] = json!(reason);
            let said = format!("{reason}: m");
            assert_eq!(judge(&view, true), if ends { WaitState::Failed(said) } else { WaitState::Going(said) });
        }
    }

    #[test]
    fn the_list_says_what_is_wanted_and_what_is_there() {
        let text = listed(&[
            view(json!({ "version": "default", "generation": 2 }), 2, "running"),
            view(Value::Null, 0, "absent"),
        ]);
        assert!(text.contains("redis    default  -          running  R       m"), "{text}");
        assert!(text.contains("redis    -        -          absent   R       m"), "{text}");
    }
}
