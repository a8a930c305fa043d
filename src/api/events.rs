//! What happened, as lines of JSON or as server-sent events. Whoever was away goes on where it was, by `Last-Event-ID`;
//! whoever does not read is dropped.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::model::event::Kept;
use crate::model::names::ProjectId;
use crate::port::{EventQuery, WishError};

use super::auth::only;
use super::logs::{self, Lines, PATIENCE};
use super::problem::Problem;
use super::server::ended;
use super::{Answer, ApiState, Call, blocking, slot};

/// How many events wait for a reader; more are read from the database once it has taken these.
const QUEUE: usize = 64;
/// How often a reader who follows gets a sign of life.
const LIFE: Duration = Duration::from_secs(15);
/// The header in which a reader says what it had last.
const LAST: HeaderName = HeaderName::from_static("last-event-id");

/// Answers `GET /v1/projects/{id}/events`. Those of a project that is gone are there for as long as they are kept.
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
    let follow = query.flag("follow")?;
    let after = last_seen(&call.headers)?;
    let asked = EventQuery {
        project: project.clone(),
        reason: query.text("reason").map(str::to_owned),
        since: query.read("since", |raw| logs::since(raw, call.state.clock.now()))?,
        after,
        // Whoever goes on wants everything that came since.
        lines: if after.is_some() { None } else { Some(query.read("lines", logs::lines)?.unwrap_or(100)) },
    };
    let place = slot(&call.state.slots.readers)?;
    // Listening begins before reading: what comes in between is heard.
    let news = call.state.events.news();
    let first = asked.clone();
    let (kept, newest) = call.ask(move |state| begin(state, &first)).await?;
    let events = follow || logs::wants_events(&call.headers);
    let (out, body) = mpsc::channel(QUEUE);
    let rest = follow.then_some((EventQuery { after: Some(newest), lines: None, ..asked }, news));
    tokio::spawn(Pump { call, events, out }.run(kept, rest, place));
    let mut response = Response::new(Lines(body).boxed_unsync());
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let bad = || Problem::bad("bad_header", "Last-Event-ID takes the id of an event, a number");
    let raw = only(headers, &LAST).map_err(|_| bad())?;
    raw.map(|raw| raw.parse().map_err(|_| bad())).transpose()
}

/// Reads the past, and up to where that is all of it.
fn begin(state: &ApiState, asked: &EventQuery) -> Result<(Vec<Kept>, u64), Problem> {
    let newest = state.events.read(&EventQuery { lines: Some(1), ..EventQuery::default() })?;
    let newest = newest.last().map_or(0, |kept| kept.id);
    // A database that was restored has lost what the reader had last.
    let after = asked.after.map(|after| after.min(newest));
    let kept = state.events.read(&EventQuery { after, ..asked.clone() })?;
    if let Some(project) = asked.project.as_ref().filter(|_| kept.is_empty()) {
        let any = EventQuery { project: asked.project.clone(), lines: Some(1), ..EventQuery::default() };
        if state.events.read(&any)?.is_empty() && state.wishes.wanted(project)?.is_none() {
            return Err(WishError::Unknown(project.clone()).into());
        }
    }
    let newest = kept.last().map_or(newest, |kept| kept.id.max(newest));
    Ok((kept, newest))
}

/// What a reader who follows waits for.
type Rest = (EventQuery, tokio::sync::watch::Receiver<u64>);

/// Moves events to one reader.
struct Pump {
    call: Call,
    events: bool,
    out: mpsc::Sender<Bytes>,
}

impl Pump {
    async fn run(self, past: Vec<Kept>, rest: Option<Rest>, _place: OwnedSemaphorePermit) {
        if !self.hand_out(&past).await {
            return;
        }
        drop(past);
        let Some((mut query, mut news)) = rest else { return };
        let mut stop = self.call.origin.stop.clone();
        let mut beat = interval(LIFE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = tokio::select! {
                changed = news.changed() => changed.is_ok() && self.hand_out_new(&mut query).await,
                _ = beat.tick() => self.send(Bytes::from_static(b":\n\n")).await,
                () = ended(&mut stop) => false,
                () = self.out.closed() => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn hand_out_new(&self, query: &mut EventQuery) -> bool {
        let asked = query.clone();
        let Ok(new) = blocking(&self.call.state, move |state| Ok(state.events.read(&asked)?)).await else {
            return false;
        };
        query.after = new.last().map(|kept| kept.id).or(query.after);
        self.hand_out(&new).await
    }

    async fn hand_out(&self, kept: &[Kept]) -> bool {
        for kept in kept {
            if !self.send(self.shown(kept)).await {
                return false;
            }
        }
        true
    }

    /// Sends, or gives the reader up.
    async fn send(&self, bytes: Bytes) -> bool {
        matches!(timeout(PATIENCE, self.out.send(bytes)).await, Ok(Ok(())))
    }

    fn shown(&self, kept: &Kept) -> Bytes {
        // Strings and numbers only: this cannot fail.
        let text = serde_json::to_string(kept).unwrap_or_default();
        let id = kept.id;
        Bytes::from(if self.events { format!("id: {id}\ndata: {text}\n\n") } else { format!("{text}\n") })
    }
}
