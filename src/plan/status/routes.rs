//! The routes in a project's status: each of them, which are pending or failing, and their certificates.

use std::collections::BTreeSet;

use crate::model::names::{Hostname, ProcessName};
use crate::model::observed::{CertificateSeen, ProxySeen, Visit};
use crate::model::reason::Reason;
use crate::model::spec::{Route, Tls};
use crate::model::status::{ConditionKind, RouteStatus, Status};
use crate::plan::visits;

use super::input::{Finding, StatusInput};
use super::processes::fallen;

pub(super) fn routes(input: &StatusInput<'_>) -> Vec<RouteStatus> {
    let slot = input.progress.routed().and_then(|routed| input.progress.release(routed)).map(|release| release.slot);
    let checks = visits::checks(input.project, input.seen, input.progress);
    let unanswered: Vec<(&Route, &str)> = unanswered(input, &checks).collect();
    input
        .progress
        .routes
        .iter()
        .flat_map(|(process, routes)| routes.iter().map(move |route| (process, route)))
        .map(|(process, route)| {
            let upstream = slot.and_then(|slot| Some(input.progress.ports.get(process)?.first()?.of(slot)));
            let bundle = (!input.progress.ports.contains_key(process)).then(|| "bundle".to_owned());
            let redirect = route.redirect.as_ref().map(|site| site.as_str().to_owned());
            let to = redirect.or(upstream.map(|port| format!("127.0.0.1:{port}"))).or(bundle);
            let has = !input.unserved.contains(&route.host) && !input.progress.is_quarantined(&route.host);
            let asked = || unanswered.iter().find(|(asked, _)| *asked == route).map(|(_, said)| said.to_string());
            let failing = Some(()).filter(|()| has).and_then(|()| fallen_app(input, process, route).or_else(asked));
            RouteStatus {
                host: route.host.clone(),
                path: route.path.as_ref().map(|path| path.as_str().to_owned()),
                to: to.unwrap_or_default(),
                live: has && failing.is_none(),
                failing,
                certificate: certificate(input, route),
            }
        })
        .collect()
}

/// Returns why Caddy does not serve hosts of this project as desired; none if it does.
pub(super) fn pending_routes(input: &StatusInput<'_>) -> Option<Finding> {
    let hosts = input.progress.routes.values().flatten().map(|route| &route.host);
    let pending: BTreeSet<&Hostname> = hosts.filter(|host| input.unserved.contains(*host)).collect();
    if pending.is_empty() {
        return None;
    }
    Some(match (input.route_error, input.observed.proxy.known()) {
        (Some(error), _) => (
            error.reason.to_owned(),
            format!("the app runs, its routes wait: {}; it is tried again every 10 s", error.message),
        ),
        (None, Some(ProxySeen { apart: Some(why), .. })) => {
            (Reason::RoutePending, format!("the app runs, its routes wait: {why}"))
        }
        (None, Some(proxy)) if proxy.up => {
            let hosts: Vec<&str> = pending.into_iter().map(Hostname::as_str).collect();
            (Reason::RoutePending, format!("Caddy does not have the routes of {} yet", hosts.join(", ")))
        }
        (None, Some(proxy)) if proxy.runs => (
            Reason::RoutePending,
            "Caddy runs and does not answer on its admin socket; the app runs, its routes wait".into(),
        ),
        (None, Some(_)) => (
            Reason::ProxyDown,
            "Caddy does not run, so no request arrives; the agent starts it, and `systemctl status caddy` says why it \
             stopped; the app itself runs"
                .into(),
        ),
        (None, None) => (Reason::RoutePending, "Caddy could not be asked what it serves; the app runs".into()),
    })
}

/// Returns which routes lead to an app that Caddy gets no answer from. A release that just got the traffic counts as
/// well only after Caddy was asked.
pub(super) fn failing_routes(input: &StatusInput<'_>) -> Option<Finding> {
    if let Some(failing) = unanswered_routes(input) {
        return Some(failing);
    }
    let checks = visits::checks(input.project, input.seen, input.progress);
    let was_ready = |status: &Status| status.condition(ConditionKind::Ready).is_some_and(|condition| condition.holds);
    if input.before.is_some_and(|status| status.serving == input.progress.serving && was_ready(status)) {
        return None;
    }
    let open = checks.iter().find(|(_, visit)| !input.seen.visits.contains_key(visit));
    open.map(|(route, _)| (Reason::RouteCheck, format!("{} is requested through Caddy for the first time", route.host)))
}

pub(super) fn unanswered_routes(input: &StatusInput<'_>) -> Option<Finding> {
    let checks = visits::checks(input.project, input.seen, input.progress);
    let failing: Vec<&str> = unanswered(input, &checks).map(|(_, said)| said).collect();
    (!failing.is_empty()).then(|| (Reason::RouteFailing, failing.join("; ")))
}

/// Returns how the app of a route has fallen: nothing has to be asked to know that no answer comes.
fn fallen_app(input: &StatusInput<'_>, process: &ProcessName, route: &Route) -> Option<String> {
    let serves = route.redirect.is_none() && input.progress.routed() == input.progress.serving;
    if serves && input.progress.ports.contains_key(process) { fallen(input, process) } else { None }
}

/// Returns the routes that Caddy gets no answer on, and what it reports.
fn unanswered<'a>(
    input: &StatusInput<'a>,
    checks: &'a [(&'a Route, Visit)],
) -> impl Iterator<Item = (&'a Route, &'a str)> {
    let visits = &input.seen.visits;
    checks.iter().filter_map(|(route, visit)| {
        let visited = visits.get(visit).filter(|visited| visited.unanswered)?;
        Some((*route, visited.last.as_str()))
    })
}

pub(super) fn certificate(input: &StatusInput<'_>, route: &Route) -> Option<String> {
    let seen = input.observed.proxy.known()?.certificates.get(&route.host).filter(|_| route.tls == Tls::Auto)?;
    Some(match seen {
        CertificateSeen::Issued => "issued".to_owned(),
        CertificateSeen::Missing(None) => "pending".to_owned(),
        CertificateSeen::Missing(Some(why)) => format!("none yet, Caddy tries again: {why}"),
    })
}

/// A missing certificate does not make a running app broken, but must be reported.
pub(super) fn missing_certificates(input: &StatusInput<'_>) -> String {
    let routes = input.progress.routes.values().flatten();
    let missing =
        routes.filter_map(|route| Some((route, certificate(input, route).filter(|state| state != "issued")?)));
    missing.map(|(route, state)| format!("; certificate of {}: {state}", route.host)).collect()
}

pub(super) fn template_error(input: &StatusInput<'_>) -> String {
    let routed = input.progress.routes.values().any(|routes| !routes.is_empty());
    let trouble = input.template_error.filter(|_| routed);
    trouble.map_or_else(String::new, |why| format!("; the changed Caddyfile template is not used: {why}"))
}
