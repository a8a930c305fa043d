//! The HTTP API: one of the inputs for desired state, and the place to read the observed state. It changes nothing on
//! the machine; it writes to the desired stores and triggers the loop.

pub mod artifacts;
pub mod auth;
pub mod body;
pub mod deploy;
pub mod events;
pub mod hooks;
pub mod logs;
pub mod openapi;
pub mod parser_errors;
pub mod plan;
pub mod problem;
pub mod projects;
pub mod query;
pub mod request_smuggling;
pub mod route;
pub mod secrets;
pub mod server;
pub mod services;
pub mod stats;
pub mod suspend;
#[cfg(test)]
mod tests;
pub mod write_timeout;

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Bytes};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

use crate::heartbeat::{self, Heartbeat, Mark};
use crate::metrics::Metrics;
use crate::model::desired::DesiredProject;
use crate::model::event::By;
use crate::model::names::{KeyId, ProjectId};
use crate::model::quantity::Span;
use crate::model::spec::Plain;
use crate::plan::accept::admit::UrlCheck;
use crate::port::{
    Clock, DesiredServiceStore, DesiredStore, Events, FileErrors, Journal, ProgressStore, ServiceProgressStore, Stats,
    Uploads, WriteError,
};
use crate::trigger::TriggerSender;

use crate::keys::Keys;
use body::Body;
use problem::Problem;
use query::Query;
use request_smuggling::Flaws;
use route::{Endpoint, Permission, Target};

pub use server::serve;

/// A request's body, from a connection or a test.
pub type In = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// The body of an answer.
pub type Out = UnsyncBoxBody<Bytes, Infallible>;
/// The result of an endpoint.
pub type Answer = Result<Response<Out>, Problem>;
/// Everything the API uses.
pub struct ApiState {
    /// Recorded progress.
    pub progress: Arc<dyn ProgressStore>,
    pub desired_store: Arc<dyn DesiredStore>,
    /// Recorded progress of host services.
    pub service_progress: Arc<dyn ServiceProgressStore>,
    pub desired_services: Arc<dyn DesiredServiceStore>,
    pub events: Arc<dyn Events>,
    pub journal: Arc<dyn Journal>,
    /// Stores uploaded artifacts.
    pub uploads: Arc<dyn Uploads>,
    pub clock: Arc<dyn Clock>,
    /// Triggers the loop.
    pub trigger: TriggerSender,
    pub keys: Keys,
    pub check_url: UrlCheck,
    /// The loop's heartbeat.
    pub heartbeat: Heartbeat,
    /// How long after a pass the loop still counts as alive: more than `resync`.
    pub pulse_within: Span,
    pub stats: Arc<dyn Stats>,
    pub metrics: Metrics,
    /// Limits for expensive requests.
    pub slots: Slots,
    /// What is wrong with files that belong to no project.
    pub troubles: FileErrors,
}

impl ApiState {
    /// Returns a project's desired state.
    ///
    /// # Errors
    /// There is no such project.
    pub fn known(&self, project: &ProjectId) -> Result<DesiredProject, Problem> {
        let desired = self.desired_store.desired_project(project)?;
        desired.ok_or_else(|| WriteError::Unknown(project.clone()).into())
    }
}

/// How many expensive requests run at once; more are answered with 503.
pub struct Slots {
    /// Log readers: each is a process.
    pub readers: Arc<Semaphore>,
    /// Webhook bodies: they are read before anything is verified.
    pub hooks: Arc<Semaphore>,
    /// Artifact uploads.
    pub uploads: Arc<Semaphore>,
}

impl Default for Slots {
    fn default() -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self { readers: slots(32), hooks: slots(16), uploads: slots(4) }
    }
}

/// The connection of a request.
#[derive(Clone)]
pub struct Origin {
    /// Whether it is the Unix socket.
    pub local: bool,
    /// Becomes true when the agent stops; streams end with it.
    pub stop: watch::Receiver<bool>,
    /// What the parser accepted leniently.
    pub flaws: Flaws,
}

/// A routed request that is authenticated and allowed.
pub struct Call {
    pub state: Arc<ApiState>,
    pub origin: Origin,
    pub target: Target,
    /// The key that signed it; none if the route takes another proof.
    pub key: Option<KeyId>,
    pub headers: HeaderMap,
    /// The query as it was sent, without `?`.
    pub raw_query: String,
    /// The whole body; empty for an upload, which reads its own.
    pub body: Zeroizing<Vec<u8>>,
    /// The `Zexio-Pass` mark of its answer: of what it read or wrote.
    pub mark: Arc<Mutex<Mark>>,
}

impl Call {
    /// Returns the project in the path.
    ///
    /// # Errors
    /// The route has none, which only a mistake in the table could cause.
    pub fn project(&self) -> Result<ProjectId, Problem> {
        self.target.project.clone().ok_or_else(|| Problem::ours("this route names no project"))
    }

    /// Returns the key that signed the request.
    ///
    /// # Errors
    /// The route requires no signature, which only a mistake in the table could cause.
    pub fn by(&self) -> Result<By, Problem> {
        self.key.clone().map(By::Key).ok_or_else(|| Problem::ours("this route asks for no signature"))
    }

    /// Returns the name in the path.
    ///
    /// # Errors
    /// The route has none, which only a mistake in the table could cause.
    pub fn name(&self) -> Result<&str, Problem> {
        self.target.name.as_deref().ok_or_else(|| Problem::ours("this route has no name"))
    }

    /// Parses the query, with these known parameters.
    ///
    /// # Errors
    /// Names the unknown parameter.
    pub fn query(&self, known: &[&str]) -> Result<Query, Problem> {
        Query::parse(&self.raw_query, known)
    }

    /// Runs blocking work off the async runtime.
    ///
    /// # Errors
    /// The error of the work itself.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ApiState) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        blocking(&self.state, work).await
    }

    /// Writes, then triggers the loop. In one piece: a client that hangs up in between must not leave a desired state
    /// that the loop was never notified of.
    ///
    /// # Errors
    /// The error of the work itself.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ApiState) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.write_if(|_| true, work).await
    }

    /// As `write`, but only a result that changed something triggers the loop.
    ///
    /// # Errors
    /// The error of the work itself.
    pub async fn write_if<T: Send + 'static>(
        &self,
        changed: fn(&T) -> bool,
        work: impl FnOnce(&ApiState) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let mark = Arc::clone(&self.mark);
        let written = move |state: &ApiState| {
            *mark.lock().unwrap_or_else(PoisonError::into_inner) = state.heartbeat.written();
            state.trigger.changed();
        };
        self.ask(move |state| {
            work(state).inspect(|done| {
                if changed(done) {
                    written(state)
                }
            })
        })
        .await
    }
}

/// Runs blocking work off the async runtime.
///
/// # Errors
/// The error of the work itself.
pub async fn blocking<T: Send + 'static>(
    state: &Arc<ApiState>,
    work: impl FnOnce(&ApiState) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let state = Arc::clone(state);
    let done = tokio::task::spawn_blocking(move || work(&state)).await;
    done.unwrap_or_else(|_| Err(Problem::ours("the request failed inside; the agent's log says more")))
}

/// Answers a request; never fails or panics.
pub async fn handle(state: Arc<ApiState>, origin: Origin, request: Request<In>) -> Response<Out> {
    let (head, mut incoming) = request.into_parts();
    let line = (head.method.clone(), head.uri.path().to_owned());
    let (began, metrics) = (Instant::now(), state.metrics.clone());
    // A client that waits for `100 Continue` sends no body if the request is refused.
    let sends = !head.headers.contains_key(EXPECT);
    let answer = Caught(Box::pin(answer(state, origin, head, &mut incoming))).await;
    if sends && !matches!(answer, Some(Ok(_))) {
        body::drain(&mut incoming).await;
    }
    let mut response = match answer {
        Some(Ok(response)) => response,
        Some(Err(problem)) => refusal(&line, &problem),
        None => refusal(&line, &Problem::ours("the request failed inside; the agent's log says more")),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if line.0 == Method::HEAD {
        response = without_body(response);
    }
    let (method, route) = route::label(&line.0, &line.1);
    metrics.answered(method, route, response.status().as_u16(), began.elapsed());
    response
}

async fn answer(state: Arc<ApiState>, origin: Origin, head: Parts, incoming: &mut In) -> Answer {
    if origin.flaws.two_lengths() {
        return Err(Problem::bad("bad_header", "a request has Content-Length or Transfer-Encoding, not both"));
    }
    let host = auth::host(&head.uri, &head.headers)?;
    let target = match route::find(&head.method, head.uri.path()) {
        // Which routes exist is revealed only to holders of a key.
        Err(problem) if problem.status != StatusCode::BAD_REQUEST && !route::is_open(head.uri.path()) => {
            let line = Line { method: head.method, uri: head.uri, host };
            auth::prove(&state, &origin, &line, &head.headers).await?;
            return Err(problem);
        }
        found => found?,
    };
    let most = longest_body(target.endpoint, &state);
    body::check_length(&head.headers, most)?;
    let (digest, key) = match target.permission {
        Permission::Nothing => (None, None),
        _ => {
            let line = Line { method: head.method, uri: head.uri.clone(), host };
            let (digest, key) = auth::check(&state, &origin, &target, &line, &head.headers).await?;
            (Some(digest), Some(key))
        }
    };
    let raw_query = head.uri.query().unwrap_or_default().to_owned();
    let body = Body::new(incoming, digest, most);
    let body_of_call = Zeroizing::new(Vec::new());
    let mark = Arc::new(Mutex::new(state.heartbeat.seen()));
    let marked = |mut response: Response<Out>| {
        let mark = mark.lock().unwrap_or_else(PoisonError::into_inner).to_string();
        response
            .headers_mut()
            .extend(HeaderValue::from_str(&mark).ok().map(|mark| (HeaderName::from_static(heartbeat::HEADER), mark)));
        response
    };
    let headers = head.headers;
    let mut call = Call { state, origin, target, key, headers, raw_query, body: body_of_call, mark: Arc::clone(&mark) };
    if call.target.endpoint == Endpoint::Upload {
        return artifacts::upload(&call, body).await;
    }
    let _slot = match call.target.endpoint {
        Endpoint::Hook => Some(slot(&call.state.slots.hooks)?),
        _ => None,
    };
    call.body = body.read(&call.headers).await?;
    dispatch(call).await.map(marked)
}

/// The request line and host, as far as they are signed.
pub struct Line {
    pub method: Method,
    pub uri: Uri,
    pub host: String,
}

async fn dispatch(call: Call) -> Answer {
    match call.target.endpoint {
        Endpoint::Health => projects::health(&call),
        Endpoint::ListProjects => projects::list(&call).await,
        Endpoint::GetProject => projects::get(&call).await,
        Endpoint::PutProject => projects::put(call).await,
        Endpoint::DeleteProject => projects::delete(&call).await,
        Endpoint::MoveArtifact => deploy::artifact(&call).await,
        Endpoint::ProjectPlan => plan::of_project(&call).await,
        Endpoint::Plan => plan::of_all(&call).await,
        Endpoint::Rollback => projects::rollback(&call).await,
        Endpoint::Releases => projects::releases(&call).await,
        Endpoint::Sync => projects::sync(&call).await,
        Endpoint::Suspend => suspend::suspend(&call).await,
        Endpoint::Resume => suspend::resume(&call).await,
        Endpoint::ProjectEvents => events::of_project(call).await,
        Endpoint::Events => events::of_all(call).await,
        Endpoint::ListSecrets => secrets::list(&call).await,
        Endpoint::PutSecret => secrets::put(&call).await,
        Endpoint::DeleteSecret => secrets::delete(&call).await,
        Endpoint::ProjectLogs => logs::of_project(call).await,
        Endpoint::SystemLogs => logs::of_system(call).await,
        Endpoint::SystemStats => stats::of_system(call).await,
        Endpoint::Metrics => stats::metrics(&call).await,
        Endpoint::OpenApi => openapi::describe(&call),
        Endpoint::Hook => hooks::provider(call).await,
        Endpoint::GenericHook => hooks::generic(&call).await,
        Endpoint::ListServices => services::list(&call).await,
        Endpoint::GetService => services::get(&call).await,
        Endpoint::PutService => services::put(&call).await,
        Endpoint::DeleteService => services::delete(&call).await,
        Endpoint::Upload => Err(Problem::ours("an upload reads its own body")),
    }
}

/// Returns the maximum length of a body.
fn longest_body(endpoint: Endpoint, state: &ApiState) -> u64 {
    match endpoint {
        Endpoint::PutProject => 256 << 10,
        // The longest value, each byte written as `\u0061`, plus the JSON around it.
        Endpoint::PutSecret => 6 * Plain::LONGEST as u64 + 1024,
        // GitHub's longest release notes in any script, encoded as a form, plus some hundred assets.
        Endpoint::Hook => 2 << 20,
        Endpoint::GenericHook => 1 << 20,
        Endpoint::Upload => state.uploads.max_bytes(),
        _ => 4 << 10,
    }
}

/// Takes a slot for an expensive request.
///
/// # Errors
/// 503: all slots are in use.
pub fn slot(slots: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
    Arc::clone(slots).try_acquire_owned().map_err(|_| Problem::later("too many of these at once; try again"))
}

/// Makes an answer from a value.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(|e| Problem::ours(format!("could not write the answer: {e}")))?;
    Ok(respond(status, "application/json", text))
}

/// Creates an answer with a body.
pub fn respond(status: StatusCode, content_type: &'static str, text: Vec<u8>) -> Response<Out> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Drops the body and keeps its length as a header. The reader of a stream goes with it, and so does what was started
/// for that reader.
fn without_body(response: Response<Out>) -> Response<Out> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Empty::new().boxed_unsync())
}

fn refusal((method, path): &(Method, String), problem: &Problem) -> Response<Out> {
    if problem.status.is_server_error() {
        tracing::error!(%method, path = ?path, code = problem.code, detail = ?problem.detail, "could not answer a request");
    }
    let mut response = respond(problem.status, "application/problem+json", problem.body());
    if let Some(allow) = &problem.allow {
        response.headers_mut().insert(ALLOW, allow.clone());
    }
    response
}

/// A future that returns nothing if it panics: one request's bug must not end the others.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut();
        // A future that panicked is not used again: it is dropped.
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(Poll::Ready(done)) => Poll::Ready(Some(done)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        }
    }
}
