//! The paths, their methods, and the permission that each needs. The one place for all three: a route without a
//! permission cannot be written.

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};

use crate::model::names::ProjectId;

use super::problem::Problem;
use crate::keys::Scope;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Whether the loop is alive.
    Health,
    ListProjects,
    PutProject,
    GetProject,
    DeleteProject,
    /// Move a project to another artifact.
    MoveArtifact,
    /// What the loop would do for a project.
    ProjectPlan,
    /// What the loop would do.
    Plan,
    /// Go back to an earlier release.
    Rollback,
    /// A project's history.
    Releases,
    /// Request a pass.
    Sync,
    Suspend,
    Resume,
    ProjectEvents,
    Events,
    /// Names and versions of a project's secrets.
    ListSecrets,
    PutSecret,
    DeleteSecret,
    ProjectLogs,
    /// The agent's log.
    SystemLogs,
    /// The server's figures.
    SystemStats,
    /// Metrics for Prometheus.
    Metrics,
    /// A CI provider's webhook.
    Hook,
    /// Our own webhook, with our own signature.
    GenericHook,
    Upload,
    OpenApi,
    ListServices,
    GetService,
    PutService,
    DeleteService,
}

/// The permission that a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// None, or a proof of the route's own.
    Nothing,
    /// A key that may read everything.
    Look,
    /// A key that may read everything, or this project.
    LookAtProject,
    /// A key that may move this project's artifact.
    DeployProject,
    /// A key that may move any project's artifact.
    Deploy,
    /// A key that may do everything.
    Admin,
}

impl Permission {
    /// Tells whether a key of this scope may use it; only admin's scope reaches a project that it does not name.
    pub fn is_met_by(self, scope: &Scope, project: Option<&ProjectId>) -> bool {
        match (self, scope) {
            (Permission::Nothing, _) | (_, Scope::Admin) => true,
            (Permission::Look | Permission::LookAtProject, Scope::Read) => true,
            (Permission::LookAtProject | Permission::DeployProject, Scope::Deploy(own)) => project == Some(own),
            (Permission::Deploy, Scope::Deploy(_)) => true,
            (Permission::Look | Permission::Deploy | Permission::DeployProject | Permission::Admin, _) => false,
        }
    }
}

/// Every route. `{project}` is a project's id, `{name}` the name of an item within it.
pub const TABLE: &[(&str, &str, Endpoint, Permission)] = &[
    ("GET", "/healthz", Endpoint::Health, Permission::Nothing),
    ("GET", "/v1/projects", Endpoint::ListProjects, Permission::Look),
    ("GET", "/v1/projects/{project}", Endpoint::GetProject, Permission::LookAtProject),
    ("PUT", "/v1/projects/{project}", Endpoint::PutProject, Permission::Admin),
    ("DELETE", "/v1/projects/{project}", Endpoint::DeleteProject, Permission::Admin),
    ("PUT", "/v1/projects/{project}/artifact", Endpoint::MoveArtifact, Permission::DeployProject),
    ("GET", "/v1/projects/{project}/plan", Endpoint::ProjectPlan, Permission::LookAtProject),
    ("GET", "/v1/projects/{project}/releases", Endpoint::Releases, Permission::LookAtProject),
    ("GET", "/v1/projects/{project}/logs", Endpoint::ProjectLogs, Permission::LookAtProject),
    ("GET", "/v1/projects/{project}/secrets", Endpoint::ListSecrets, Permission::Look),
    ("PUT", "/v1/projects/{project}/secrets/{name}", Endpoint::PutSecret, Permission::Admin),
    ("DELETE", "/v1/projects/{project}/secrets/{name}", Endpoint::DeleteSecret, Permission::Admin),
    ("POST", "/v1/projects/{project}/rollback", Endpoint::Rollback, Permission::Admin),
    ("POST", "/v1/projects/{project}/sync", Endpoint::Sync, Permission::Admin),
    ("POST", "/v1/projects/{project}/suspend", Endpoint::Suspend, Permission::Admin),
    ("POST", "/v1/projects/{project}/resume", Endpoint::Resume, Permission::Admin),
    ("GET", "/v1/projects/{project}/events", Endpoint::ProjectEvents, Permission::LookAtProject),
    ("GET", "/v1/events", Endpoint::Events, Permission::Look),
    ("GET", "/v1/plan", Endpoint::Plan, Permission::Look),
    ("GET", "/v1/system/logs", Endpoint::SystemLogs, Permission::Look),
    ("GET", "/v1/system/stats", Endpoint::SystemStats, Permission::Look),
    ("GET", "/metrics", Endpoint::Metrics, Permission::Look),
    ("GET", "/v1/openapi.json", Endpoint::OpenApi, Permission::Look),
    ("POST", "/v1/artifacts", Endpoint::Upload, Permission::Deploy),
    ("GET", "/v1/services", Endpoint::ListServices, Permission::Look),
    ("GET", "/v1/services/{name}", Endpoint::GetService, Permission::Look),
    ("PUT", "/v1/services/{name}", Endpoint::PutService, Permission::Admin),
    ("DELETE", "/v1/services/{name}", Endpoint::DeleteService, Permission::Admin),
    ("POST", "/v1/hooks/{project}/generic", Endpoint::GenericHook, Permission::DeployProject),
    ("POST", "/v1/hooks/{project}/{name}", Endpoint::Hook, Permission::Nothing),
];

/// The endpoint of a request, and the parameters in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub endpoint: Endpoint,
    pub permission: Permission,
    pub project: Option<ProjectId>,
    pub name: Option<String>,
}

/// Routes a request.
///
/// # Errors
/// There is no such path, it does not take this method, or the project's id is invalid.
pub fn find(method: &Method, path: &str) -> Result<Target, Problem> {
    check_path(path)?;
    let got = as_get(method);
    let mut others = Vec::new();
    for (takes, pattern, endpoint, permission) in TABLE {
        let Some((project, name)) = matches(pattern, path) else { continue };
        if *takes != got.as_str() {
            others.push(*takes);
            continue;
        }
        let project = project.map(ProjectId::parse).transpose().map_err(|e| Problem::bad("bad_id", e.to_string()))?;
        return Ok(Target { endpoint: *endpoint, permission: *permission, project, name: name.map(str::to_owned) });
    }
    Err(if others.is_empty() { unknown(path) } else { not_allowed(method, &mut others) })
}

/// Tells whether a path takes no signature of ours.
pub fn is_open(path: &str) -> bool {
    let route = TABLE.iter().find(|(_, pattern, ..)| matches(pattern, path).is_some());
    route.is_some_and(|(.., permission)| *permission == Permission::Nothing)
}

/// Returns the method and pattern as metrics label: the table's, or `none`.
pub fn label(method: &Method, path: &str) -> (&'static str, &'static str) {
    let of_path =
        |(_, pattern, ..): &&(&'static str, &'static str, Endpoint, Permission)| matches(pattern, path).is_some();
    let found = TABLE.iter().filter(of_path).find(|(takes, ..)| *takes == as_get(method).as_str());
    found.map_or(("other", "none"), |(takes, pattern, ..)| {
        (if method == Method::HEAD { "HEAD" } else { takes }, pattern)
    })
}

/// HEAD works wherever GET does: it is routed like GET, and its answer loses its body at the end.
fn as_get(method: &Method) -> &Method {
    if method == Method::HEAD { &Method::GET } else { method }
}

/// Our paths need no escape, dot segment or empty segment, and each of them lets two readers of one path see two paths.
fn check_path(path: &str) -> Result<(), Problem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~-/".contains(&b);
    let body = path.strip_prefix('/').unwrap_or("");
    let fits = path.starts_with('/')
        && path.len() <= 512
        && path.bytes().all(plain)
        && body.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if fits || path == "/" { Ok(()) } else { Err(Problem::bad("bad_path", "the path has parts that none of ours has")) }
}

/// Matches a path against a pattern; returns the values of `{project}` and `{name}`.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<(Option<&'a str>, Option<&'a str>)> {
    let (mut project, mut name) = (None, None);
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        let part = parts.next()?;
        match wanted {
            "{project}" => project = Some(part),
            "{name}" => name = Some(part),
            _ if wanted == part => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some((project, name))
}

fn unknown(path: &str) -> Problem {
    Problem::missing("unknown_route", format!("there is nothing at {path}"))
}

fn not_allowed(method: &Method, others: &mut Vec<&str>) -> Problem {
    others.dedup();
    if let Some(get) = others.iter().position(|takes| *takes == "GET") {
        others.insert(get + 1, "HEAD");
    }
    let allow = others.join(", ");
    let detail = format!("{method} is not for this path; {allow} is");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    Problem { allow: HeaderValue::from_str(&allow).ok(), ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, path: &str) -> u16 {
        find(&method, path).map_or_else(|problem| problem.status.as_u16(), |_| 200)
    }

    #[test]
    fn a_path_has_one_spelling() {
        for path in [
            "/v1/projects/a/../b",
            "/v1/projects/./a",
            "/v1//projects",
            "/v1/projects/",
            "/v1/projects/a%2fb",
            "/v1/projects/%61",
            "/v1/projects/a;b",
            "*",
            "",
        ] {
            assert_eq!(status(Method::GET, path), 400, "{path}");
        }
        for path in ["/v1/projects/A", "/v1/projects/a--b", "/v1/projects/..."] {
            assert_eq!(find(&Method::GET, path).unwrap_err().code, "bad_id", "{path}");
        }
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(status(Method::GET, "/"), 404);
        assert_eq!(status(Method::GET, "/v1/projects/shop/secret"), 404);
        assert_eq!(status(Method::GET, "/v1/projects/shop/plan/x"), 404);
        let refused = find(&Method::POST, "/v1/projects/shop").unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.allow.unwrap().to_str().unwrap()),
            (405, "GET, HEAD, PUT, DELETE")
        );
    }

    #[test]
    fn whatever_can_be_got_can_be_asked_for_its_head() {
        assert_eq!(status(Method::HEAD, "/healthz"), 200);
        assert_eq!(status(Method::HEAD, "/v1/artifacts"), 405);
        assert_eq!(label(&Method::HEAD, "/v1/projects/shop"), ("HEAD", "/v1/projects/{project}"));
        assert_eq!(label(&Method::HEAD, "/v1/artifacts"), ("other", "none"));
    }

    #[test]
    fn the_generic_hook_is_never_taken_for_a_providers() {
        let target = find(&Method::POST, "/v1/hooks/shop/generic").unwrap();
        assert_eq!((target.endpoint, target.permission), (Endpoint::GenericHook, Permission::DeployProject));
    }

    #[test]
    fn each_scope_reaches_its_routes_and_no_others() {
        let scope = |raw: &str| Scope::parse(raw).unwrap();
        for (method, path, _, permission) in TABLE {
            let project = path.contains("{project}").then(|| ProjectId::parse("shop").unwrap());
            let may = |raw: &str| permission.is_met_by(&scope(raw), project.as_ref());
            let open = *permission == Permission::Nothing;
            assert!(may("admin"), "{method} {path}");
            assert_eq!(may("read"), open || *method == "GET", "{method} {path}");
            let own =
                ["", "/plan", "/releases", "/logs", "/events"].map(|end| format!("GET /v1/projects/{{project}}{end}"));
            let deploys =
                ["POST /v1/artifacts", "POST /v1/hooks/{project}/generic", "PUT /v1/projects/{project}/artifact"];
            let line = format!("{method} {path}");
            assert_eq!(may("deploy:shop"), open || own.contains(&line) || deploys.contains(&&*line), "{line}");
            assert_eq!(may("deploy:other"), open || line == deploys[0], "{line}");
        }
    }
}
