//! What Caddy should serve: the active routes of every project whose serving release has the process.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::model::desired::{Workload, WorkloadKind};
use crate::model::failure::PortError;
use crate::model::layout::Layout;
use crate::model::names::{Hostname, ProcessName, ProjectId, Slot};
use crate::model::observed::{Facet, Observed, ProxySeen};
use crate::model::progress::{Progress, ProjectProgress, Quarantine};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::spec::Tls;

use crate::render::caddyfile::{self, Proxy, Site, SiteRoute};

use super::{Action, Plan, PlanConfig, ProxyAction, RoutesOrder, Step, StepReason};

/// Refused routes are loaded again after this long, whatever the reason for the refusal.
const QUARANTINE: Span = Span::seconds(600);

/// Adds the step that Caddy needs, if any; returns whether it has the desired routes, or is not installed.
pub fn steps(observed: &Observed, all_progress: &Progress, config: &PlanConfig, plan: &mut Plan) -> bool {
    let Facet::Known(proxy) = &observed.proxy else { return true };
    let sites = sites(all_progress, &config.layout);
    let Ok(text) = caddyfile::text(&config.proxy, &sites) else { return true };
    if all_progress.projects.values().any(|progress| progress.quarantine.is_some()) {
        // What blocks a host is for the operator to change, and the change is found only by observing.
        plan.requeue_by(observed.now.after(Span::seconds(2)));
    }
    if !proxy.runs {
        plan.steps.push(Step { action: Action::Proxy(ProxyAction::Start), reason: StepReason::ProxyDown });
    }
    if !proxy.up {
        plan.requeue_by(observed.now.after(Span::seconds(2)));
        return true;
    }
    if has(proxy, &text) {
        return true;
    }
    if blocked_by(all_progress).is_some() {
        return false;
    }
    if proxy.apart.is_some() {
        // For the operator to change; the present routes keep working.
        plan.requeue_by(observed.now.after(Span::seconds(2)));
        return true;
    }
    plan.steps.push(Step {
        action: Action::Proxy(ProxyAction::LoadRoutes(Box::new(RoutesOrder { text, sites }))),
        reason: StepReason::RoutesDiffer,
    });
    false
}

/// Returns why Caddy keeps its present routes: those of a project whose progress could not be read cannot be rendered.
pub fn blocked_by(all_progress: &Progress) -> Option<PortError> {
    let (project, _) = all_progress.unreadable.iter().find(|(_, unreadable)| !unreadable.hosts.is_empty())?;
    let message = format!("Caddy keeps the routes that it has, since those of project {project} could not be read");
    Some(PortError::transient(Reason::Database, message))
}

/// Returns whether Caddy serves this text now and will after a restart.
pub fn has(proxy: &ProxySeen, text: &str) -> bool {
    proxy.up && proxy.live && proxy.text.as_deref() == Some(text)
}

/// Returns the hosts that Caddy does not serve as desired. Each is judged by itself, so that one whose routes wait or
/// are refused does not affect the others. `differing` compares what Caddy has with an order, host by host.
pub fn unserved(
    observed: &Observed,
    all_progress: &Progress,
    config: &PlanConfig,
    differing: impl FnOnce(&RoutesOrder) -> BTreeSet<Hostname>,
) -> BTreeSet<Hostname> {
    let sites = sites(all_progress, &config.layout);
    let all = || sites.iter().map(|site| site.host.clone()).collect();
    let Some(proxy) = observed.proxy.known().filter(|proxy| proxy.up) else { return all() };
    match caddyfile::text(&config.proxy, &sites) {
        Err(_) => all(),
        Ok(text) if has(proxy, &text) => BTreeSet::new(),
        Ok(text) => differing(&RoutesOrder { text, sites }),
    }
}

/// Finds the hosts that Caddy refuses, by adding one project after the other to those it accepts, and for a refused
/// project, one host after the other. `refuses` returns why it refuses these sites, if it does.
pub fn refused_hosts(
    sites: &[Site],
    mut refuses: impl FnMut(&[Site]) -> Option<String>,
) -> BTreeMap<ProjectId, BTreeMap<Hostname, String>> {
    let mut owners: Vec<&ProjectId> = sites.iter().map(|site| &site.project).collect();
    owners.sort_unstable();
    owners.dedup();
    let (mut taken, mut found) = (Vec::new(), BTreeMap::new());
    for owner in owners {
        let before = taken.len();
        let its_own = || sites.iter().filter(|site| site.project == *owner).cloned();
        taken.extend(its_own());
        if refuses(&taken).is_none() {
            continue;
        }
        taken.truncate(before);
        let mut refused = BTreeMap::new();
        for site in its_own() {
            let host = site.host.clone();
            taken.push(site);
            if let Some(why) = refuses(&taken) {
                taken.pop();
                refused.insert(host, why);
            }
        }
        found.insert(owner.clone(), refused);
    }
    found
}

/// Quarantines hosts of a project, in addition to those that are quarantined already.
pub fn quarantine(
    progress: &mut ProjectProgress,
    refused: BTreeMap<Hostname, String>,
    surroundings: String,
    now: Timestamp,
) {
    let before = progress.quarantine.take().map(|quarantine| quarantine.hosts).unwrap_or_default();
    let hosts = before.into_iter().chain(refused).collect();
    progress.quarantine = Some(Quarantine { since: now, hosts, surroundings });
}

/// Ends a quarantine, so that the refused routes are loaded again: when the configuration around our sites changes, when
/// an operator asks for it, or after ten minutes.
pub fn retry_refused_hosts(progress: &mut ProjectProgress, observed: &Observed) {
    let surroundings = observed.proxy.known().and_then(|proxy| proxy.surroundings.as_ref());
    progress.quarantine = progress.quarantine.take().filter(|quarantine| {
        let same = surroundings.is_none_or(|surroundings| *surroundings == quarantine.surroundings);
        same && !observed.retry_refused_routes && observed.now < quarantine.since.after(QUARANTINE)
    });
}

/// Returns the hosts that need a public certificate; none if the web server in front of Caddy ends TLS.
pub fn public_hosts(all_progress: &Progress, proxy: &Proxy) -> BTreeSet<Hostname> {
    if proxy.behind.is_some() {
        return BTreeSet::new();
    }
    let routes = all_progress.projects.values().flat_map(|progress| progress.routes.values()).flatten();
    routes.filter(|route| route.tls == Tls::Auto).map(|route| route.host.clone()).collect()
}

/// Returns the sites that Caddy should serve, by host.
pub fn sites(all_progress: &Progress, layout: &Layout) -> Vec<Site> {
    let mut sites: BTreeMap<Hostname, Site> = BTreeMap::new();
    for (project, progress) in &all_progress.projects {
        add_sites(project, progress, layout, &mut sites);
    }
    let mut sites: Vec<Site> = sites.into_values().collect();
    for site in &mut sites {
        // Caddy takes the first route that matches: the longest path goes first, the one without a path last.
        let length = |route: &SiteRoute| route.path.as_ref().map_or(0, |path| path.as_str().len());
        site.routes.sort_by_key(|route| (Reverse(length(route)), route.name.clone()));
    }
    sites
}

fn add_sites(project: &ProjectId, progress: &ProjectProgress, layout: &Layout, sites: &mut BTreeMap<Hostname, Site>) {
    let Some(serving) = progress.routed().and_then(|routed| progress.release(routed)) else { return };
    for (process, routes) in &progress.routes {
        let Some(workload) = serving.content.processes.get(process) else { continue };
        for (i, route) in routes.iter().enumerate().filter(|(_, route)| !progress.is_quarantined(&route.host)) {
            let site = sites.entry(route.host.clone()).or_insert_with(|| Site {
                project: project.clone(),
                host: route.host.clone(),
                tls: route.tls,
                redirect: route.redirect.as_ref().map(|site| site.as_str().to_owned()),
                routes: Vec::new(),
            });
            if route.redirect.is_none() {
                site.routes.push(SiteRoute {
                    name: format!("{project}_{process}_{i}"),
                    path: route.path.clone(),
                    project: project.clone(),
                    process: process.clone(),
                    a: upstreams(progress, process, workload, Slot::A),
                    b: upstreams(progress, process, workload, Slot::B),
                    a_h2c: speaks_h2c(progress, process, workload, Slot::A),
                    b_h2c: speaks_h2c(progress, process, workload, Slot::B),
                    root: root(workload, &layout.bundle(project)),
                    spa: matches!(workload.kind, WorkloadKind::Site { spa: true, .. }),
                    clean_urls: matches!(workload.kind, WorkloadKind::Site { clean_urls: true, .. }),
                    headers: route.headers.clone(),
                });
            }
        }
    }
}

/// The bundle link leads to the serving release, and Caddy follows it for each request: deploying a site means changing
/// the link.
fn root(workload: &Workload, bundle: &Path) -> Option<String> {
    match &workload.kind {
        WorkloadKind::Site { directory, .. } if directory.as_str() == "." => Some(bundle.display().to_string()),
        WorkloadKind::Site { directory, .. } => Some(bundle.join(directory.as_str()).display().to_string()),
        _ => None,
    }
}

/// Returns the addresses of a slot: as many as the release in it has instances; for an empty slot as many as the
/// serving release has, so that a deploy of the same width changes nothing here.
fn upstreams(progress: &ProjectProgress, process: &ProcessName, serving: &Workload, slot: Slot) -> Vec<String> {
    let width =
        workloads_in(progress, process, slot).map(|workload| workload.instances).max().unwrap_or(serving.instances)
            as usize;
    let ports = progress.ports.get(process).into_iter().flatten().take(width);
    ports.map(|ports| format!("127.0.0.1:{}", ports.of(slot))).collect()
}

/// Returns whether the release in a slot speaks h2c; for an empty slot, whether the serving one does.
fn speaks_h2c(progress: &ProjectProgress, process: &ProcessName, serving: &Workload, slot: Slot) -> bool {
    workloads_in(progress, process, slot).last().unwrap_or(serving).h2c
}

/// Returns what the releases in a slot run for a process, the newest last.
fn workloads_in<'a>(
    progress: &'a ProjectProgress,
    process: &'a ProcessName,
    slot: Slot,
) -> impl Iterator<Item = &'a Workload> {
    let alive = progress.active_releases().into_iter().filter_map(|number| progress.release(number));
    alive.filter(move |release| release.slot == slot).filter_map(|release| release.content.processes.get(process))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(project: &str, host: &str) -> Site {
        let (project, host) = (project.parse().unwrap(), host.parse().unwrap());
        Site { project, host, tls: Tls::Auto, redirect: None, routes: Vec::new() }
    }

    #[test]
    fn only_refused_hosts_are_quarantined() {
        let sites = [
            site("shop", "a.shop.com"),
            site("shop", "bad.shop.com"),
            site("shop", "c.shop.com"),
            site("wiki", "w.com"),
        ];
        let mut offers = 0;
        let refuses = |offered: &[Site]| {
            offers += 1;
            offered.iter().any(|site| site.host.as_str() == "bad.shop.com").then(|| "no".to_owned())
        };
        let found = refused_hosts(&sites, refuses);
        let hosts: Vec<String> = found.values().flat_map(BTreeMap::keys).map(ToString::to_string).collect();
        assert_eq!((found.len(), hosts), (1, vec!["bad.shop.com".to_owned()]));
        assert_eq!(offers, 5, "the hosts of a project that is taken are not offered one by one");
    }
}
