//! What Caddy does with its routes: each of them, which wait or fail, and their certificates.

use std::collections::BTreeSet;

use crate::model::names::Hostname;
use crate::model::observed::{CertificateSeen, ProxySeen, Visit};
use crate::model::reason::Reason;
use crate::model::spec::{Route, Tls};
use crate::model::status::{ConditionKind, RouteStatus, Status};
use crate::plan::visits;

use super::input::{Finding, StatusInput};

pub(super) fn routes(view: &StatusInput<'_>) -> Vec<RouteStatus> {
    let slot = view.progress.routed().and_then(|routed| view.progress.release(routed)).map(|release| release.slot);
    let checks = visits::checks(view.project, view.seen, view.progress);
    let unanswered: Vec<(&Route, &str)> = unanswered(view, &checks).collect();
    view.progress
        .routes
        .iter()
        .flat_map(|(process, routes)| routes.iter().map(move |route| (process, route)))
        .map(|(process, route)| {
            let upstream = slot.and_then(|slot| Some(view.progress.ports.get(process)?.first()?.of(slot)));
            let bundle = (!view.progress.ports.contains_key(process)).then(|| "bundle".to_owned());
            let redirect = route.redirect.as_ref().map(|site| site.as_str().to_owned());
            let to = redirect.or(upstream.map(|port| format!("127.0.0.1:{port}"))).or(bundle);
            let has = !view.unserved.contains(&route.host) && !view.progress.leaves_out(&route.host);
            let failing = unanswered.iter().find(|(asked, _)| has && *asked == route).map(|(_, said)| said.to_string());
            RouteStatus {
                host: route.host.clone(),
                path: route.path.as_ref().map(|path| path.as_str().to_owned()),
                to: to.unwrap_or_default(),
                live: has && failing.is_none(),
                failing,
                certificate: certificate(view, route),
            }
        })
        .collect()
}

/// Returns why Caddy does not serve hosts of this project as desired; none if it does.
pub(super) fn pending_routes(view: &StatusInput<'_>) -> Option<Finding> {
    let hosts = view.progress.routes.values().flatten().map(|route| &route.host);
    let pending: BTreeSet<&Hostname> = hosts.filter(|host| view.unserved.contains(*host)).collect();
    if pending.is_empty() {
        return None;
    }
    Some(match (view.route_trouble, view.observed.proxy.known()) {
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
pub(super) fn failing_routes(view: &StatusInput<'_>) -> Option<Finding> {
    let checks = visits::checks(view.project, view.seen, view.progress);
    let failing: Vec<&str> = unanswered(view, &checks).map(|(_, said)| said).collect();
    if !failing.is_empty() {
        return Some((Reason::RouteFailing, failing.join("; ")));
    }
    let was_ready = |status: &Status| status.condition(ConditionKind::Ready).is_some_and(|condition| condition.holds);
    if view.before.is_some_and(|status| status.serving == view.progress.serving && was_ready(status)) {
        return None;
    }
    let open = checks.iter().find(|(_, visit)| !view.seen.visits.contains_key(visit));
    open.map(|(route, _)| (Reason::RouteCheck, format!("{} is asked through Caddy for the first time", route.host)))
}

/// Returns the routes that Caddy gets no answer on, and what it reports.
fn unanswered<'a>(
    view: &StatusInput<'a>,
    checks: &'a [(&'a Route, Visit)],
) -> impl Iterator<Item = (&'a Route, &'a str)> {
    let visits = &view.seen.visits;
    checks.iter().filter_map(|(route, visit)| {
        let visited = visits.get(visit).filter(|visited| visited.unanswered)?;
        Some((*route, visited.last.as_str()))
    })
}

pub(super) fn certificate(view: &StatusInput<'_>, route: &Route) -> Option<String> {
    let seen = view.observed.proxy.known()?.certificates.get(&route.host).filter(|_| route.tls == Tls::Auto)?;
    Some(match seen {
        CertificateSeen::Issued => "issued".to_owned(),
        CertificateSeen::Missing(None) => "pending".to_owned(),
        CertificateSeen::Missing(Some(why)) => format!("none yet, Caddy tries again: {why}"),
    })
}

/// A missing certificate does not make a running app broken, but must be reported.
pub(super) fn missing_certificates(view: &StatusInput<'_>) -> String {
    let routes = view.progress.routes.values().flatten();
    let missing = routes.filter_map(|route| Some((route, certificate(view, route).filter(|state| state != "issued")?)));
    missing.map(|(route, state)| format!("; certificate of {}: {state}", route.host)).collect()
}

pub(super) fn template_trouble(view: &StatusInput<'_>) -> String {
    let routed = view.progress.routes.values().any(|routes| !routes.is_empty());
    let trouble = view.template_trouble.filter(|_| routed);
    trouble.map_or_else(String::new, |why| format!("; the changed template of the Caddyfile does not hold: {why}"))
}
