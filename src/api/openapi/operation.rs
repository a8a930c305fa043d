//! What the route table does not say of a route: what it takes, what it answers, and why it refuses. A new endpoint does
//! not compile without it.

use super::super::projects::SPEC_TYPES;
use super::super::route::Endpoint;
use super::super::secrets::TYPES as SECRET_TYPES;
use super::super::services::TYPES as SERVICE_TYPES;

const JSON: &[&str] = &["application/json"];
const LINES: (&str, &str, &str) = ("lines", "Lines", "how many of the newest; 100 where it is not said");
const SINCE: (&str, &str, &str) = ("since", "Since", "a time, or how long ago it was");
const FOLLOW: (&str, &str, &str) = ("follow", "Flag", "whether to go on with what comes; the answer does not end");

/// What is told of a route.
pub struct Operation {
    /// Its name for generated clients.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// The form of `{name}` in its path.
    pub name: &'static str,
    /// Parameters in the query: name, schema, meaning.
    pub query: Vec<(&'static str, &'static str, &'static str)>,
    /// Whether other parameters are refused.
    pub checks_query: bool,
    /// Whether a parameter that is empty counts as not given.
    pub blanks: bool,
    /// Headers: the same.
    pub headers: Vec<(&'static str, &'static str, &'static str)>,
    /// What is sent.
    pub body: Option<Sent>,
    /// What comes back when all is well.
    pub answers: Vec<Answered>,
    /// Codes of refusals beyond those that every such route has.
    pub codes: Vec<&'static str>,
}

/// A body.
pub struct Sent {
    /// Its content types.
    pub types: &'static [&'static str],
    /// Its form.
    pub schema: &'static str,
    /// Whether it may be missing.
    pub required: bool,
}

/// An answer.
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// What it means.
    pub what: &'static str,
    /// Content types, each with the form of the whole or of each line or event.
    pub content: Vec<(&'static str, &'static str)>,
    /// Whether it has the generation as ETag.
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
        self.headers.push((name, schema, what));
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
        self.answer(200, "A line of JSON each; server-sent events where they are accepted", &content, false)
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

/// Tells of an endpoint what the route table does not.
pub fn operation(endpoint: Endpoint) -> Operation {
    match endpoint {
        Endpoint::Health => does("health", "Whether the loop has finished a pass lately")
            .any_query()
            .json(200, "It has", "Health")
            .json(503, "It has not", "Health"),
        Endpoint::OpenApi => does("openapi", "This document").json(200, "OpenAPI 3.1", "Anything"),
        Endpoint::ListProjects => does("listProjects", "All projects, spec and status").json(200, "All", "Projects"),
        Endpoint::GetProject => {
            does("getProject", "A project's spec and status").tagged(200, "Both", "Project").codes(&["unknown_project"])
        }
        Endpoint::PutProject => does("putProject", "Write what is wanted of a project")
            .query(&[("dry_run", "Flag", "whether to answer the plan and write nothing")])
            .header("If-Match", "IfMatch", "the generation that it must have; else 412")
            .takes(&SPEC_TYPES, "Spec", true)
            .json(200, "It is changed or equal; of a dry run the plan", "WrittenOrPlan")
            .tagged(201, "It is new", "Written")
            .codes(&["unreadable", "invalid", "bad_if_match", "moved", "owned", "deleting"]),
        Endpoint::DeleteProject => does("deleteProject", "Wish a project gone: routes, processes, releases, secrets")
            .query(&[("keep_data", "Flag", "whether its data directory stays")])
            .header("If-Match", "IfMatch", "the generation that it must have; else 412")
            .json(202, "It will go", "Accepted")
            .codes(&["unknown_project", "bad_if_match", "moved", "owned", "deleting"]),
        Endpoint::ProjectPlan => does("planProject", "The steps the loop would take for a project now")
            .json(200, "None when it is as it should be", "ProjectPlan")
            .codes(&["unknown_project"]),
        Endpoint::Plan => does("plan", "The steps the loop would take now").json(200, "All", "Plan"),
        Endpoint::Rollback => does("rollback", "Go back to a release that was good")
            .takes(JSON, "Rollback", false)
            .json(202, "It is wanted", "RolledBack")
            .codes(&["unknown_project", "unknown_release", "never_good", "no_good_release", "deleting"]),
        Endpoint::MoveArtifact => does("moveArtifact", "Move a project to an artifact that is on the server")
            .takes(JSON, "Move", true)
            .json(202, "It is wanted, or was already", "Moved")
            .codes(&["unknown_project", "no_spec", "updates_fixed", "owned", "deleting"]),
        Endpoint::Releases => does("listReleases", "A project's history, the newest first")
            .json(200, "Every release still known", "Releases")
            .codes(&["unknown_project"]),
        Endpoint::Sync => {
            does("sync", "Ask for a pass now, and for another try where the artifact could not be fetched")
                .query(&[("prune", "Flag", "whether to confirm a removal that was refused")])
                .json(202, "It is asked for", "Accepted")
                .codes(&["unknown_project", "deleting"])
        }
        Endpoint::Suspend => does("suspend", "Say stop: the project is watched and not changed")
            .takes(JSON, "Suspension", false)
            .json(202, "It is suspended", "Suspended")
            .codes(&["unknown_project", "invalid"]),
        Endpoint::Resume => does("resume", "Let it go on")
            .json(202, "It goes on", "Suspended")
            .codes(&["unknown_project", "suspended_by_spec"]),
        Endpoint::ProjectEvents => events(does("listProjectEvents", "What was decided, done and seen of a project"))
            .codes(&["unknown_project"]),
        Endpoint::Events => events(does("listEvents", "What was decided, done and seen")),
        Endpoint::ListSecrets => does("listSecrets", "Names and versions, never values")
            .json(200, "All of the project's", "Secrets")
            .codes(&["unknown_project"]),
        Endpoint::PutSecret => does("putSecret", "Store a secret")
            .takes(&SECRET_TYPES, "SecretValue", true)
            .json(201, "It is new", "SecretStored")
            .answer(204, "It has a new version", &[], false)
            .codes(&["invalid", "deleting"]),
        Endpoint::DeleteSecret => does("deleteSecret", "Forget a secret")
            .answer(204, "It is forgotten", &[], false)
            .codes(&["unknown_secret"]),
        Endpoint::ProjectLogs => does("projectLogs", "A project's log")
            .query(&[
                LINES,
                SINCE,
                ("process", "ProcessName", "of which process"),
                ("release", "ReleaseNo", "of which release"),
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
            "Those of now; each second where server-sent events are accepted",
            &[("application/json", "SystemStats"), ("text/event-stream", "SystemStats")],
            false,
        ),
        Endpoint::Metrics => does("metrics", "What is counted, for Prometheus").answer(
            200,
            "Prometheus' text",
            &[(crate::metrics::CONTENT_TYPE, "")],
            false,
        ),
        Endpoint::ListServices => does("listServices", "Host services: what is wanted, what is there").json(
            200,
            "All there can be",
            "Services",
        ),
        Endpoint::GetService => does("getService", "A host service: what is wanted, what is there")
            .name("Service")
            .json(200, "Both", "ServiceView")
            .codes(&["unknown_service"]),
        Endpoint::PutService => does("putService", "Ask for a host service")
            .name("Service")
            .takes(&SERVICE_TYPES, "ServiceWish", true)
            .json(200, "It is changed or equal", "ServiceWritten")
            .json(201, "It is new", "ServiceWritten")
            .codes(&["unknown_service", "invalid", "owned", "deleting"]),
        Endpoint::DeleteService => does("deleteService", "Ask for a host service to be gone")
            .name("Service")
            .query(&[("purge", "Flag", "whether its data goes too")])
            .json(202, "It will go", "ServiceGoes")
            .codes(&["unknown_service", "owned", "deleting"]),
        Endpoint::Hook => does("hook", "A CI provider's webhook, proven by the provider's own signature")
            .any_query()
            .name("Provider")
            .header("X-Hub-Signature-256", "Text", "github, forgejo: sha256=<hex HMAC of the body>")
            .header("X-GitHub-Event", "Text", "github: the event")
            .header("X-GitHub-Delivery", "Text", "github: the delivery's id")
            .header("X-Forgejo-Signature", "Text", "forgejo: <hex HMAC of the body>; X-Gitea-Signature is the same")
            .header("X-Forgejo-Event", "Text", "forgejo: the event; or X-Gitea-Event")
            .header("X-Forgejo-Delivery", "Text", "forgejo: the delivery's id; or X-Gitea-Delivery")
            .header("X-Gitlab-Token", "Text", "gitlab with token: legacy")
            .header("webhook-id", "Text", "standard, gitlab: the delivery's id")
            .header("webhook-timestamp", "Text", "standard, gitlab: unix seconds")
            .header("webhook-signature", "Text", "standard, gitlab: v1,<base64>")
            .takes(&["application/json", "application/x-www-form-urlencoded"], "Anything", true)
            .json(202, "It is taken, it changes nothing, or it is a greeting", "HeardOrPing")
            .codes(&["sig_missing", "sig_malformed", "sig_bad", "clock_skew", "repo", "unknown_hook"])
            .codes(&["unknown_project", "hook_unready", "updates_fixed", "deleting", "invalid"]),
        Endpoint::GenericHook => does("genericHook", "Another artifact, proven by a key of ours")
            .takes(JSON, "Bump", true)
            .json(202, "It is taken, or it changes nothing", "Heard")
            .codes(&["unknown_project", "updates_fixed", "no_spec", "deleting", "invalid"]),
        Endpoint::Upload => does("upload", "Send an artifact; a spec then names it as artifact.file")
            .takes(&["*/*"], "Bytes", true)
            .json(200, "It is kept", "Uploaded"),
    }
}

fn events(told: Operation) -> Operation {
    told.query(&[LINES, SINCE, ("reason", "Reason", "only those with this reason"), FOLLOW])
        .header("Last-Event-ID", "EventId", "go on after this event")
        .stream("Event")
}
