//! Logs, as lines of JSON or as server-sent events.
//!
//! A message may hold anything. JSON escapes every control character, so none reaches a terminal, and no message can
//! end its own line and begin another.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::model::names::{ProcessName, ProjectId, ReleaseNo};
use crate::model::pattern::Pattern;
use crate::model::progress::ProjectProgress;
use crate::model::quantity::{Span, Timestamp};
use crate::port::{LogLine, LogLines, LogQuery, PortError};

use super::problem::Problem;
use super::query::{Query, truth};
use super::server::ended;
use super::{Answer, ApiState, Call, blocking, slot};

/// The agent's own unit.
const AGENT: &str = "zexio-agent.service";
/// The most past lines that one request returns.
const MOST: u32 = 10_000;
/// How many lines are queued for a reader.
const QUEUE: usize = 256;
/// How long a reader may read nothing before it is dropped.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a following reader learns of new releases' units.
const REFRESH: Duration = Duration::from_secs(1);
/// How many `REFRESH` intervals lie between two keep-alives.
const LIFE: u32 = 15;
/// How many new releases one reader may follow, since each is a process. After that the reader has to reconnect.
const FOLLOWED: usize = 16;

/// Which lines a request asks for.
#[derive(Debug, Clone)]
struct Ask {
    lines: u32,
    process: Option<ProcessName>,
    release: Option<ReleaseNo>,
    since: Option<Timestamp>,
    grep: Option<Pattern>,
    follow: bool,
}

/// A line's source, as shown.
#[derive(Debug, Clone, Default)]
struct Whose {
    process: Option<ProcessName>,
    release: Option<ReleaseNo>,
    begun: Timestamp,
}

type Units = BTreeMap<String, Whose>;

/// A log line in an answer.
#[derive(Serialize)]
struct Shown<'a> {
    time: Timestamp,
    process: Option<&'a ProcessName>,
    release: Option<ReleaseNo>,
    unit: &'a str,
    priority: Option<u8>,
    message: &'a str,
}

/// Answers `GET /v1/projects/{id}/logs`.
///
/// # Errors
/// There is no such project, or the journal cannot be read.
pub async fn of_project(call: Call) -> Answer {
    let query = call.query(&["lines", "process", "release", "since", "grep", "follow"])?;
    let ask = ask(&query, call.state.clock.now())?;
    let project = call.project()?;
    let (id, wish) = (project.clone(), ask.clone());
    let units = call
        .ask(move |state| {
            state.known(&id)?;
            units(state, &id, &wish)
        })
        .await?;
    stream(call, ask, units, Some(project))
}

/// Answers `GET /v1/system/logs`.
///
/// # Errors
/// The journal cannot be read.
pub async fn of_system(call: Call) -> Answer {
    let query = call.query(&["lines", "since", "grep", "follow"])?;
    let ask = ask(&query, call.state.clock.now())?;
    stream(call, ask, Units::from([(AGENT.to_owned(), Whose::default())]), None)
}

fn ask(query: &Query, now: Timestamp) -> Result<Ask, Problem> {
    Ok(Ask {
        lines: query.read("lines", lines)?.unwrap_or(100),
        process: query.read("process", ProcessName::parse)?,
        release: query.read("release", |raw| raw.parse().map(ReleaseNo))?,
        since: query.read("since", |raw| since(raw, now))?,
        grep: query.read("grep", Pattern::parse)?,
        follow: query.read("follow", truth)?.unwrap_or(false),
    })
}

/// Parses how many past lines are requested.
///
/// # Errors
/// It is not a number, or too large.
pub fn lines(raw: &str) -> Result<u32, String> {
    let fits = raw.parse().ok().filter(|lines| *lines <= MOST);
    fits.ok_or_else(|| format!("{raw:?} is not a number between 0 and {MOST}"))
}

/// Parses a time, or how long ago it was.
///
/// # Errors
/// The text is neither a time nor a time span.
pub fn since(raw: &str, now: Timestamp) -> Result<Timestamp, String> {
    Timestamp::parse(raw)
        .or_else(|_| Span::parse(raw).map(|span| Timestamp(now.0.saturating_sub(span.0))))
        .map_err(|_| format!("{raw:?} is neither a time like 2026-12-01T08:00:00Z nor a span like 10m"))
}

fn units(state: &ApiState, project: &ProjectId, ask: &Ask) -> Result<Units, Problem> {
    Ok(chosen(project, &state.progress.progress_of(project)?, ask))
}

fn chosen(project: &ProjectId, progress: &ProjectProgress, ask: &Ask) -> Units {
    let releases = progress.releases.iter().filter(|(number, _)| ask.release.is_none_or(|wanted| wanted == **number));
    let units = releases.flat_map(|(number, release)| {
        let units =
            progress.release_command_unit(project, *number).into_iter().chain(progress.units_of(project, *number));
        units.map(|unit| (unit, release.created_at))
    });
    units
        .filter(|(unit, _)| ask.process.as_ref().is_none_or(|wanted| *wanted == unit.process))
        .map(|(unit, begun)| (unit.name(), Whose { process: Some(unit.process), release: Some(unit.release), begun }))
        .collect()
}

fn stream(call: Call, ask: Ask, units: Units, project: Option<ProjectId>) -> Answer {
    let place = slot(&call.state.slots.readers)?;
    let events = wants_events(&call.headers);
    let query = LogQuery {
        units: units.keys().cloned().collect(),
        lines: Some(ask.lines),
        since: ask.since,
        grep: ask.grep.clone(),
        follow: ask.follow,
    };
    let first = call.state.journal.read(query)?;
    let (out, body) = mpsc::channel(QUEUE);
    tokio::spawn(Pump { call, ask, units, project, events, out, followed: 0 }.run(first, place));
    let mut response = Response::new(Lines(body).boxed_unsync());
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// Tells whether server-sent events are requested.
pub fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// Sends lines from the journal to one reader.
struct Pump {
    call: Call,
    ask: Ask,
    units: Units,
    project: Option<ProjectId>,
    events: bool,
    out: mpsc::Sender<Bytes>,
    followed: usize,
}

type Merged = mpsc::Sender<Result<LogLine, PortError>>;

impl Pump {
    async fn run(mut self, first: LogLines, _place: OwnedSemaphorePermit) {
        let (merged, mut lines) = mpsc::channel(1);
        tokio::spawn(forward(first, merged.clone()));
        // Without `follow`, the stream ends with the journal: then no sender may be left.
        let merged = self.ask.follow.then_some(merged);
        let mut stop = self.call.origin.stop.clone();
        let out = self.out.clone();
        let mut beat = interval(REFRESH);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = 0;
        loop {
            let goes_on = tokio::select! {
                line = lines.recv() => match line {
                    Some(Ok(line)) => self.send(self.shown(&line)).await,
                    Some(Err(error)) => {
                        tracing::warn!(error = ?error.message, "could not read the journal");
                        false
                    }
                    None => false,
                },
                _ = beat.tick(), if merged.is_some() => {
                    beats = (beats + 1) % LIFE;
                    let alive = beats > 0 || !self.events || self.send(Bytes::from_static(b":\n\n")).await;
                    alive && self.refresh(merged.as_ref()).await
                },
                () = ended(&mut stop) => false,
                () = out.closed() => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Sends, or drops the reader.
    async fn send(&self, bytes: Bytes) -> bool {
        matches!(timeout(TIMEOUT, self.out.send(bytes)).await, Ok(Ok(())))
    }

    fn shown(&self, line: &LogLine) -> Bytes {
        let whose = self.units.get(&line.unit);
        let shown = Shown {
            time: line.time,
            process: whose.and_then(|whose| whose.process.as_ref()),
            release: whose.and_then(|whose| whose.release),
            unit: &line.unit,
            priority: line.priority,
            message: &line.message,
        };
        let text = serde_json::to_string(&shown).unwrap_or_default();
        Bytes::from(if self.events { format!("data: {text}\n\n") } else { format!("{text}\n") })
    }

    /// Also follows the units of new releases, each from its beginning: a reader of a deploy wants its first lines.
    async fn refresh(&mut self, merged: Option<&Merged>) -> bool {
        let (Some(merged), Some(project)) = (merged, self.project.clone()) else { return true };
        let ask = self.ask.clone();
        let Ok(now) = blocking(&self.call.state, move |state| units(state, &project, &ask)).await else { return true };
        let new: Units = now.into_iter().filter(|(unit, _)| !self.units.contains_key(unit)).collect();
        let Some(begun) = new.values().map(|whose| whose.begun).min() else { return true };
        self.followed += 1;
        if self.followed > FOLLOWED {
            return false;
        }
        let units = new.keys().cloned().collect();
        self.units.extend(new);
        let grep = self.ask.grep.clone();
        match self.call.state.journal.read(LogQuery { units, lines: None, since: Some(begun), grep, follow: true }) {
            Ok(lines) => {
                tokio::spawn(forward(lines, merged.clone()));
                true
            }
            Err(error) => {
                tracing::warn!(error = ?error.message, "could not follow a new release");
                false
            }
        }
    }
}

async fn forward(mut lines: LogLines, to: Merged) {
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = to.closed() => return,
        };
        let Some(line) = line else { return };
        if to.send(line).await.is_err() {
            return;
        }
    }
}

/// A body of lines as they arrive.
pub struct Lines(pub mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }
}
