//! The projects' hosts: whether clients reach each of them. This judges what the agent's last pass observed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Finding, advice, ok, wrong};
use crate::cli::show;
use crate::model::reason::Reason;
use crate::model::status::{ProjectState, Status};

/// Judges each project's hosts, and what keeps a project from its desired state.
pub fn findings(projects: &[Value]) -> Vec<Finding> {
    let (mut found, mut served) = (Vec::new(), 0);
    for view in projects {
        let Ok(status) = show::status_of(view) else { continue };
        // While its record cannot be read, its routes are unknown: Caddy keeps those that it has.
        let is_damaged = show::leading(&status).is_some_and(|said| said.reason == Reason::Database);
        let wanted = if is_damaged { BTreeSet::new() } else { wanted_hosts(view) };
        found.extend(judge(&status, &wanted));
        served += wanted.len();
    }
    if found.iter().all(|finding| finding.state != super::State::Wrong) && served > 0 {
        let plural = if served == 1 { "host is" } else { "hosts are" };
        found.push(ok("routes", format!("{served} {plural} served, all that projects want")));
    }
    found
}

fn wanted_hosts(view: &Value) -> BTreeSet<&str> {
    let processes = view.pointer("/spec/processes").and_then(Value::as_object);
    let processes = processes.into_iter().flat_map(|processes| processes.values());
    let routes = processes.filter_map(|process| process.get("routes")?.as_array()).flatten();
    routes.filter_map(|route| route.get("host")?.as_str()).collect()
}

fn judge(status: &Status, wanted: &BTreeSet<&str>) -> Option<Finding> {
    let Status { project, state, .. } = status;
    if *state == ProjectState::Deleting {
        return None;
    }
    let is_served = |host: &str| {
        let mut routes = status.routes.iter().filter(|route| route.host.as_str() == host).peekable();
        routes.peek().is_some() && routes.all(|route| route.live)
    };
    let routed = status.routes.iter().map(|route| route.host.as_str());
    let hosts: BTreeSet<&str> = wanted.iter().copied().chain(routed).collect();
    let unserved: Vec<&str> = hosts.into_iter().filter(|host| !is_served(host)).collect();
    let why = show::leading(status).map_or_else(String::new, |said| format!(": {}: {}", said.reason, said.message));
    let mend = format!("what it names; `zexio why {project}` says more");
    if !unserved.is_empty() {
        let are = if unserved.len() == 1 { "is" } else { "are" };
        return Some(wrong("routes", format!("{} of {project} {are} not served{why}", unserved.join(", ")), mend));
    }
    match state {
        ProjectState::Down => Some(wrong("projects", format!("{project} is down{why}"), mend)),
        ProjectState::Failed | ProjectState::Unknown => {
            Some(advice("projects", format!("{project} is {state}{why}"), mend))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    fn view(state: &str, reason: &str, routes: &[(&str, bool)]) -> Value {
        let routes: Vec<Value> =
            routes.iter().map(|(host, live)| json!({ "host": host, "to": "127.0.0.1:1", "live": live })).collect();
        let ready = if reason == "Serving" { "True" } else { "False" };
        json!({ "project": "shop", "spec": { "processes": { "web": { "routes": [{ "host": "a.com" }, { "host": "b.com" }] },
                "worker": { "run": "x" } } },
            "status": { "project": "shop", "generation": 1, "observed_generation": 1,
                "observed_at": "2026-12-01T08:00:00Z", "owner": "api", "state": state,
                "conditions": [{ "type": "Ready", "status": ready, "reason": reason, "message": "m", "since": "2026-12-01T08:00:00Z" }],
                "serving": 1, "candidate": null, "last_good": 1, "rejected": [], "processes": [], "routes": routes } })
    }

    #[test]
    fn a_host_that_is_wanted_or_was_served_and_is_not_reached_is_wrong() {
        let both: &[(&str, bool)] = &[("a.com", true), ("b.com", true)];
        for (state, reason, routes, judged, says) in [
            ("running", "Serving", both, State::Ok, "2 hosts are served"),
            (
                "failed",
                "RouteRefused",
                &[("a.com", true), ("b.com", false)],
                State::Wrong,
                "b.com of shop is not served: RouteRefused: m",
            ),
            (
                "deploying",
                "RouteFailing",
                &[("a.com", false), ("b.com", false)],
                State::Wrong,
                "a.com, b.com of shop are not served",
            ),
            // The spec names a host that another project has: no route is made for it.
            ("failed", "Conflict", &[("a.com", true)], State::Wrong, "b.com of shop is not served: Conflict"),
            ("running", "Serving", &[both, &[("a.com", false)]].concat(), State::Wrong, "a.com of shop"),
            ("suspended", "Suspended", &[], State::Wrong, "a.com, b.com of shop are not served"),
            ("down", "ProcessDown", both, State::Wrong, "shop is down: ProcessDown: m"),
            ("failed", "HealthCheckFailed", both, State::Advice, "shop is failed: HealthCheckFailed: m"),
            ("deploying", "Trial", both, State::Ok, "2 hosts are served"),
            // Its record cannot be read: Caddy keeps its routes, whatever they are.
            ("failed", "Database", &[], State::Advice, "shop is failed: Database: m"),
        ] {
            let found = findings(&[view(state, reason, routes)]);
            assert_eq!((found[0].state, found[0].message.contains(says)), (judged, true), "{reason}: {:?}", found[0]);
        }
        assert_eq!(
            findings(&[view("deleting", "Deleting", &[])]).iter().filter(|one| one.state == State::Wrong).count(),
            0
        );
        assert_eq!(findings(&[]), []);
    }
}
