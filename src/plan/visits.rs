//! Which requests the agent sends to Caddy as a visitor would: to verify a release that just got the traffic, and to
//! check that each route leads to an app that speaks the expected protocol.

use crate::model::desired::{Workload, WorkloadKind};
use crate::model::names::{ProcessName, ProjectId, ReleaseNo};
use crate::model::observed::{ObservedProject, Purpose, Visit};
use crate::model::progress::ProjectProgress;
use crate::model::spec::{Check, Route, Spec};

/// Returns the request that verifies the candidate, from when it has the traffic.
pub fn verify(project: &ProjectId, spec: &Spec, seen: &ObservedProject, progress: &ProjectProgress) -> Option<Visit> {
    let verify = spec.deploy.verify.as_ref()?;
    let switched = progress.rollout()?.switched()?;
    let (process, route) = spec.verified_route()?;
    let purpose = Purpose::Verify { since: switched.since, until: switched.since.after(verify.within) };
    RouteRequest { process, route, path: verify.http.as_str(), purpose }.visit(
        project,
        progress.candidate()?,
        seen,
        progress,
    )
}

/// Returns a request to each route of an app that serves. A site has no app that could fail.
pub fn checks<'a>(
    project: &ProjectId,
    seen: &ObservedProject,
    progress: &'a ProjectProgress,
) -> Vec<(&'a Route, Visit)> {
    let Some(serving) = progress.serving.filter(|serving| progress.routed() == Some(*serving)) else {
        return Vec::new();
    };
    let routes = progress.routes.iter().flat_map(|(process, routes)| routes.iter().map(move |route| (process, route)));
    let request = routes.filter(|(_, route)| route.is_direct() && !progress.is_quarantined(&route.host));
    let visits = request.filter_map(|(process, route)| {
        let workload = progress
            .release(serving)?
            .content
            .processes
            .get(process)
            .filter(|workload| workload.kind == WorkloadKind::Web)?;
        let path = path_of(route, workload);
        let request = RouteRequest { process, route, path: &path, purpose: Purpose::Check };
        Some((route, request.visit(project, serving, seen, progress)?))
    });
    visits.collect()
}

/// The readiness check's path is made to be requested often; if the route does not cover it, the route's first path is
/// used.
fn path_of(route: &Route, workload: &Workload) -> String {
    match workload.ready.as_ref().map(|ready| &ready.check) {
        Some(Check::Http { path, .. }) if route.takes(path.as_str()) => path.as_str().to_owned(),
        _ => route.path.as_ref().map_or("/", |path| path.as_str().trim_end_matches('*')).to_owned(),
    }
}

/// A route to request, and the reason.
struct RouteRequest<'a> {
    process: &'a ProcessName,
    route: &'a Route,
    path: &'a str,
    purpose: Purpose,
}

impl RouteRequest<'_> {
    fn visit(
        &self,
        project: &ProjectId,
        release: ReleaseNo,
        seen: &ObservedProject,
        progress: &ProjectProgress,
    ) -> Option<Visit> {
        let unit = progress.units_of(project, release).into_iter().find(|unit| unit.process == *self.process);
        Some(Visit {
            project: project.clone(),
            release,
            process: self.process.clone(),
            host: self.route.host.clone(),
            tls: self.route.tls,
            path: self.path.to_owned(),
            port: unit.as_ref().and_then(|unit| progress.port_of(unit)),
            h2c: progress.release(release)?.content.processes.get(self.process).is_some_and(|workload| workload.h2c),
            run: unit.and_then(|unit| seen.units.known()?.get(&unit)?.invocation.clone()),
            purpose: self.purpose,
        })
    }
}
