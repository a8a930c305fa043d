//! Events, as lines of JSON or as server-sent events. A reader that reconnects resumes by `Last-Event-ID`; a reader
//! that does not read is dropped.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::model::event::Kept;
use crate::model::names::ProjectId;
use crate::port::{EventQuery, WriteError};

use super::logs::{self, Lines, TIMEOUT};
use super::problem::Problem;
use super::query::{only, truth};
use super::server::ended;
use super::{Answer, ApiState, Call, blocking, slot};

/// How many events are queued for a reader; more are read from the database once it has read these.
const QUEUE: usize = 64;
/// How many events are read at once for a reader that resumes.
const PAGE: u32 = 256;
/// How often a following reader gets a keep-alive.
const LIFE: Duration = Duration::from_secs(15);
/// The header with the id of the reader's last event.
const LAST: HeaderName = HeaderName::from_static("last-event-id");

/// Answers `GET /v1/projects/{id}/events`. Those of a removed project remain available as long as they are kept.
///
/// # Errors
/// There is no such project, and no event of one.
pub async fn of_project(call: Call) -> Answer {
    let project = call.project()?;
    answer(call, Some(project)).await
}

/// Answers `GET /v1/events`.
///
/// # Errors
/// The database cannot be read.
pub async fn of_all(call: Call) -> Answer {
    answer(call, None).await
}

async fn answer(call: Call, project: Option<ProjectId>) -> Answer {
    let query = call.query(&["lines", "since", "reason", "follow"])?;
    let follow = query.read("follow", truth)?.unwrap_or(false);
    let after = last_seen(&call.headers)?;
    let asked = EventQuery {
        project: project.clone(),
        reason: query.read("reason", str::parse)?,
        since: query.read("since", |raw| logs::since(raw, call.state.clock.now()))?,
        after,
        lines: Some(query.read("lines", logs::lines)?.unwrap_or(100)),
    };
    let place = slot(&call.state.slots.readers)?;
    // Subscribes before reading, so that an event in between is not missed.
    let news = call.state.events.news();
    let first = asked.clone();
    let (past, newest) = call.ask(move |state| begin(state, &first)).await?;
    let events = follow || logs::wants_events(&call.headers);
    let (out, body) = mpsc::channel(QUEUE);
    let rest = EventQuery { after: Some(after.map_or(newest, |after| after.min(newest))), lines: Some(PAGE), ..asked };
    let goes_on = follow || after.is_some();
    let pump = Pump { call, events, out, rest };
    tokio::spawn(pump.run(past, goes_on, follow.then_some(news), place));
    let mut response = Response::new(Lines(body).boxed_unsync());
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let bad = || Problem::bad("bad_header", "Last-Event-ID takes the id of an event, a number");
    let raw = only(headers, &LAST).map_err(|_| bad())?;
    // SQLite's largest id.
    let id = |raw: &str| raw.parse().ok().filter(|id| i64::try_from(*id).is_ok());
    raw.map(|raw| id(raw).ok_or_else(bad)).transpose()
}

/// Reads past events, and the id up to which that is complete. A reader that resumes gets the past page by page
/// instead.
fn begin(state: &ApiState, asked: &EventQuery) -> Result<(Vec<Kept>, u64), Problem> {
    let newest = |project: Option<ProjectId>| {
        let found = state.events.read(&EventQuery { project, lines: Some(1), ..EventQuery::default() });
        found.map(|found| found.last().map(|kept| kept.id))
    };
    if let Some(project) = &asked.project
        && newest(asked.project.clone())?.is_none()
        && state.desired_store.desired_project(project)?.is_none()
    {
        return Err(WriteError::Unknown(project.clone()).into());
    }
    let newest = newest(None)?.unwrap_or(0);
    let past = if asked.after.is_some() { Vec::new() } else { state.events.read(asked)? };
    let newest = past.last().map_or(newest, |kept| kept.id.max(newest));
    Ok((past, newest))
}

/// Sends events to one reader.
struct Pump {
    call: Call,
    events: bool,
    out: mpsc::Sender<Bytes>,
    /// The id of the next event to read.
    rest: EventQuery,
}

impl Pump {
    async fn run(
        mut self,
        past: Vec<Kept>,
        goes_on: bool,
        news: Option<watch::Receiver<u64>>,
        _place: OwnedSemaphorePermit,
    ) {
        if !self.hand_out(past).await || !goes_on || !self.catch_up().await {
            return;
        }
        let Some(mut news) = news else { return };
        let mut stop = self.call.origin.stop.clone();
        let out = self.out.clone();
        let mut beat = interval(LIFE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = tokio::select! {
                changed = news.changed() => changed.is_ok() && self.catch_up().await,
                _ = beat.tick() => self.send(Bytes::from_static(b":\n\n")).await,
                () = ended(&mut stop) => false,
                () = out.closed() => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Sends all events after the reader's last one, with at most one page in memory.
    async fn catch_up(&mut self) -> bool {
        loop {
            let asked = self.rest.clone();
            let page = blocking(&self.call.state, move |state| Ok(state.events.read(&asked)?)).await;
            let Ok(page) = page else { return false };
            let Some(last) = page.last().map(|kept| kept.id) else { return true };
            self.rest.after = Some(last);
            if !self.hand_out(page).await {
                return false;
            }
        }
    }

    async fn hand_out(&self, page: Vec<Kept>) -> bool {
        for kept in page {
            if !self.send(self.shown(&kept)).await {
                return false;
            }
        }
        true
    }

    /// Sends, or drops the reader.
    async fn send(&self, bytes: Bytes) -> bool {
        matches!(timeout(TIMEOUT, self.out.send(bytes)).await, Ok(Ok(())))
    }

    fn shown(&self, kept: &Kept) -> Bytes {
        // Strings and numbers only: this cannot fail.
        let text = serde_json::to_string(kept).unwrap_or_default();
        let id = kept.id;
        Bytes::from(if self.events { format!("id: {id}\ndata: {text}\n\n") } else { format!("{text}\n") })
    }
}
