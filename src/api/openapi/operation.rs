//! What the route table does not say about a route: input, answers, and refusals. A new endpoint does not compile
//! without it.

use super::super::hooks::PROVIDERS;
use super::super::projects::SPEC_TYPES;
use super::super::route::Endpoint;
use super::super::secrets::TYPES as SECRET_TYPES;
use super::super::services::TYPES as SERVICE_TYPES;

const JSON: &[&str] = &["application/json"];
const LINES: (&str, &str, &str) = ("lines", "Lines", "how many of the newest; 100 by default");
const SINCE: (&str, &str, &str) = ("since", "Since", "a time, or how long ago it was");
const FOLLOW: (&str, &str, &str) = ("follow", "Flag", "whether to continue with new ones; the answer does not end");

/// The description of a route.
pub struct Operation {
    /// `operationId`, used by generated clients.
    pub id: &'static str,
    pub summary: &'static str,
    /// The schema of `{name}` in its path.
    pub name: &'static str,
    /// Query parameters: name, schema, meaning.
    pub query: Vec<(&'static str, &'static str, &'static str)>,
    /// Whether unknown parameters are refused.
    pub checks_query: bool,
    /// Whether an empty parameter counts as missing.
    pub blanks: bool,
    /// Request headers: name, schema, meaning.
    pub headers: Vec<(&'static str, &'static str, String)>,
    pub body: Option<Sent>,
    /// The answers on success.
    pub answers: Vec<Answered>,
    /// Codes of refusals beyond those that every such route has.
    pub codes: Vec<&'static str>,
}

/// A request body: its content types and its schema.
pub struct Sent {
    pub types: &'static [&'static str],
    pub schema: &'static str,
    pub required: bool,
}

/// An answer on success, as OpenAPI describes it.
pub struct Answered {
    pub status: u16,
    pub what: &'static str,
    /// Content types, each with the schema of the whole, or of each line or event.
    pub content: Vec<(&'static str, &'static str)>,
    /// Whether it carries the generation as ETag.
    pub etag: bool,
}

impl Operation {
    fn takes(mut self, types: &'static [&'static str], schema: &'static str, required: bool) -> Self {
        self.body = Some(Sent { types, schema, required });
        self
    }

    fn query(mut self, parameters: &[(&'static str, &'static str, &'static str)]) -> Self {
        self.query.extend(parameters);
        self
    }

    fn header(mut self, name: &'static str, schema: &'static str, what: &'static str) -> Self {
        self.headers.push((name, schema, what.to_owned()));
        self
    }

    /// Adds the headers of all webhook providers, each with the providers that send it.
    fn headers_of_providers(mut self) -> Self {
        let all =
            || PROVIDERS.iter().flat_map(|provider| provider.headers.iter().map(move |header| (header, provider)));
        for (header, _) in all() {
            let senders = all().filter(|(other, _)| *other == header).map(|(_, provider)| provider.names[0]);
            let what = format!("{}: {}", senders.collect::<Vec<_>>().join(", "), header.1);
            if !self.headers.iter().any(|(name, ..)| *name == header.0) {
                self.headers.push((header.0, "Text", what));
            }
        }
        self
    }

    fn name(mut self, schema: &'static str) -> Self {
        self.name = schema;
        self
    }

    fn any_query(mut self) -> Self {
        self.checks_query = false;
        self
    }

    fn json(self, status: u16, what: &'static str, schema: &'static str) -> Self {
        self.answer(status, what, &[("application/json", schema)], false)
    }

    fn tagged(self, status: u16, what: &'static str, schema: &'static str) -> Self {
        self.answer(status, what, &[("application/json", schema)], true)
    }

    fn answer(mut self, status: u16, what: &'static str, content: &[(&'static str, &'static str)], etag: bool) -> Self {
        self.answers.push(Answered { status, what, content: content.to_vec(), etag });
        self
    }

    fn stream(mut self, schema: &'static str) -> Self {
        self.blanks = true;
        let content = [("application/x-ndjson", schema), ("text/event-stream", schema)];
        self.answer(200, "One line of JSON each; server-sent events if the request accepts them", &content, false)
    }

    fn codes(mut self, codes: &[&'static str]) -> Self {
        self.codes.extend(codes);
        self
    }
}

fn does(id: &'static str, summary: &'static str) -> Operation {
    Operation {
        id,
        summary,
        name: "SecretName",
        query: Vec::new(),
        checks_query: true,
        blanks: false,
        headers: Vec::new(),
        body: None,
        answers: Vec::new(),
        codes: Vec::new(),
    }
}

/// Returns the description of an endpoint.
pub fn operation(endpoint: Endpoint) -> Operation {
    match endpoint {
        Endpoint::Health => does("health", "Whether the loop finished a pass recently")
            .any_query()
            .json(200, "The loop finished a pass recently", "Health")
            .json(503, "The loop finished no pass recently", "Health"),
        Endpoint::OpenApi => does("openapi", "This document").json(200, "OpenAPI 3.1", "Anything"),
        Endpoint::ListProjects => {
            does("listProjects", "All projects, spec and status").json(200, "All projects", "Projects")
        }
        Endpoint::GetProject => does("getProject", "A project's spec and status")
            .tagged(200, "The project's spec and status", "Project")
            .codes(&["unknown_project"]),
        Endpoint::PutProject => does("putProject", "Write a project's desired state")
            .query(&[("dry_run", "Flag", "whether to return the plan and write nothing")])
            .header("If-Match", "IfMatch", "the generation that the project must have; else 412")
            .takes(&SPEC_TYPES, "Spec", true)
            .json(200, "The spec was changed, or is the same; for a dry run, the plan", "WrittenOrPlan")
            .tagged(201, "The project was created", "Written")
            .codes(&["unreadable", "invalid", "bad_if_match", "moved", "owned", "deleting"]),
        Endpoint::DeleteProject => does("deleteProject", "Delete a project: routes, processes, releases, secrets")
            .query(&[("keep_data", "Flag", "whether to keep its data directory")])
            .header("If-Match", "IfMatch", "the generation that the project must have; else 412")
            .json(202, "The project will be deleted", "Accepted")
            .codes(&["unknown_project", "bad_if_match", "moved", "owned", "deleting"]),
        Endpoint::ProjectPlan => does("planProject", "The steps the loop would take for a project now")
            .json(200, "The steps; none if the project is in its desired state", "ProjectPlan")
            .codes(&["unknown_project"]),
        Endpoint::Plan => {
            does("plan", "The steps the loop would take now").json(200, "The steps of all projects", "Plan")
        }
        Endpoint::Rollback => does("rollback", "Go back to a release that was good")
            .takes(JSON, "Rollback", false)
            .json(202, "The rollback was requested", "RolledBack")
            .codes(&["unknown_project", "unknown_release", "never_good", "no_good_release", "deleting"]),
        Endpoint::MoveArtifact => does("moveArtifact", "Move a project to an artifact that is on the server")
            .takes(JSON, "Move", true)
            .json(202, "The artifact was requested, or already is the desired one", "Moved")
            .codes(&["unknown_project", "no_spec", "updates_fixed", "owned", "deleting"]),
        Endpoint::Releases => does("listReleases", "A project's history, the newest first")
            .json(200, "Every release still known", "Releases")
            .codes(&["unknown_project"]),
        Endpoint::Sync => does("sync", "Request a pass now, and retry an artifact that could not be fetched")
            .query(&[("prune", "Flag", "whether to confirm a removal that was refused")])
            .json(202, "The pass was requested", "Accepted")
            .codes(&["unknown_project", "deleting"]),
        Endpoint::Suspend => does("suspend", "Suspend a project: it is observed and not changed")
            .takes(JSON, "Suspension", false)
            .json(202, "The project is suspended", "Suspended")
            .codes(&["unknown_project", "invalid"]),
        Endpoint::Resume => does("resume", "Resume a suspended project")
            .json(202, "The project is resumed", "Suspended")
            .codes(&["unknown_project", "suspended_by_spec"]),
        Endpoint::ProjectEvents => {
            events(does("listProjectEvents", "A project's events: decisions, actions, observations"))
                .codes(&["unknown_project"])
        }
        Endpoint::Events => events(does("listEvents", "All events: decisions, actions, observations")),
        Endpoint::ListSecrets => does("listSecrets", "Names and versions, never values")
            .json(200, "The project's secrets", "Secrets")
            .codes(&["unknown_project"]),
        Endpoint::PutSecret => does("putSecret", "Store a secret")
            .takes(&SECRET_TYPES, "SecretValue", true)
            .json(201, "The secret was created", "SecretStored")
            .answer(204, "The secret has a new version", &[], false)
            .codes(&["invalid", "deleting"]),
        Endpoint::DeleteSecret => does("deleteSecret", "Delete a secret")
            .answer(204, "The secret was deleted", &[], false)
            .codes(&["unknown_secret"]),
        Endpoint::ProjectLogs => does("projectLogs", "A project's log")
            .query(&[
                LINES,
                SINCE,
                ("process", "ProcessName", "only lines of this process"),
                ("release", "ReleaseNo", "only lines of this release"),
                ("grep", "Grep", "a regular expression that a line must match"),
                FOLLOW,
            ])
            .stream("LogLine")
            .codes(&["unknown_project"]),
        Endpoint::SystemLogs => does("systemLogs", "The agent's own log")
            .query(&[LINES, SINCE, ("grep", "Grep", "a regular expression that a line must match"), FOLLOW])
            .stream("LogLine"),
        Endpoint::SystemStats => does("systemStats", "The server's figures").answer(
            200,
            "The current figures; every second if the request accepts server-sent events",
            &[("application/json", "SystemStats"), ("text/event-stream", "SystemStats")],
            false,
        ),
        Endpoint::Metrics => does("metrics", "Metrics for Prometheus").answer(
            200,
            "Metrics in Prometheus' text format",
            &[(crate::metrics::CONTENT_TYPE, "")],
            false,
        ),
        Endpoint::ListServices => does("listServices", "All host services: desired and observed state").json(
            200,
            "All known services, requested or not",
            "Services",
        ),
        Endpoint::GetService => does("getService", "A host service: desired and observed state")
            .name("Service")
            .json(200, "The service's desired and observed state", "ServiceView")
            .codes(&["unknown_service"]),
        Endpoint::PutService => does("putService", "Request a host service")
            .name("Service")
            .takes(&SERVICE_TYPES, "ServiceWish", true)
            .json(200, "The request was changed, or is the same", "ServiceWritten")
            .json(201, "The service was requested", "ServiceWritten")
            .codes(&["unknown_service", "invalid", "owned", "deleting"]),
        Endpoint::DeleteService => does("deleteService", "Remove a host service")
            .name("Service")
            .query(&[("purge", "Flag", "whether to delete its data too")])
            .json(202, "The service will be removed", "ServiceGoes")
            .codes(&["unknown_service", "owned", "deleting"]),
        Endpoint::Hook => does("hook", "A CI provider's webhook, verified by the provider's own signature")
            .any_query()
            .name("Provider")
            .headers_of_providers()
            .takes(&["application/json", "application/x-www-form-urlencoded"], "Anything", true)
            .json(202, "The delivery was accepted, changes nothing, or is a ping", "HeardOrPing")
            .codes(&["sig_missing", "sig_malformed", "sig_bad", "clock_skew", "repo", "unknown_hook"])
            .codes(&["unknown_project", "hook_unready", "updates_fixed", "deleting", "invalid"]),
        Endpoint::GenericHook => does("genericHook", "A new artifact, signed with an API key of the agent")
            .takes(JSON, "Bump", true)
            .json(202, "The delivery was accepted, or changes nothing", "Heard")
            .codes(&["unknown_project", "updates_fixed", "no_spec", "deleting", "invalid"]),
        Endpoint::Upload => does("upload", "Upload an artifact; a spec then names it as artifact.file")
            .takes(&["*/*"], "Bytes", true)
            .json(200, "The artifact was stored", "Uploaded"),
    }
}

fn events(told: Operation) -> Operation {
    told.query(&[LINES, SINCE, ("reason", "Reason", "only those with this reason"), FOLLOW])
        .header("Last-Event-ID", "EventId", "continue after this event")
        .stream("Event")
}
