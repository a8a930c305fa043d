//! The server's figures, once or as server-sent events each second, and the metrics for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::timeout;

use crate::metrics;
use crate::model::stats::SystemStats;
use crate::port::Figures;

use super::logs::{Lines, TIMEOUT, wants_events};
use super::problem::Problem;
use super::server::ended;
use super::{Answer, Call, json, respond, slot};

/// Answers `GET /v1/system/stats`. The first figures take a second if no reader was connected before.
///
/// # Errors
/// The sampler could not be started.
pub async fn of_system(call: Call) -> Answer {
    call.query(&[])?;
    if wants_events(&call.headers) {
        return stream(call);
    }
    let mut figures = call.state.stats.watch()?;
    let first = timeout(TIMEOUT, figures.wait_for(Option::is_some)).await;
    match first.map(|seen| seen.map(|seen| seen.clone())) {
        Ok(Ok(Some(seen))) => json(StatusCode::OK, &*seen),
        _ => Err(Problem::later("this server's figures did not come in time; try again")),
    }
}

fn stream(call: Call) -> Answer {
    let place = slot(&call.state.slots.readers)?;
    let figures = call.state.stats.watch()?;
    let (out, body) = mpsc::channel(1);
    tokio::spawn(pump(figures, out, call.origin.stop.clone(), place, TIMEOUT));
    let mut response = Response::new(Lines(body).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// Sends the newest figures as they arrive. A slow reader misses some, and is dropped after a while.
async fn pump(
    mut figures: Figures,
    out: mpsc::Sender<Bytes>,
    mut stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
    patience: Duration,
) {
    figures.mark_changed();
    loop {
        tokio::select! {
            changed = figures.changed() => if changed.is_err() { return },
            () = ended(&mut stop) => return,
            () = out.closed() => return,
        }
        let newest = figures.borrow_and_update().clone();
        let Some(event) = newest.and_then(|seen: Arc<SystemStats>| serde_json::to_string(&*seen).ok()) else {
            continue;
        };
        let sent = timeout(patience, out.send(Bytes::from(format!("data: {event}\n\n")))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Answers `GET /metrics`.
pub async fn metrics(call: &Call) -> Answer {
    call.query(&[])?;
    let text = call
        .ask(|state| state.metrics.text().map_err(|e| Problem::ours(format!("could not write the metrics: {e}"))))
        .await?;
    Ok(respond(StatusCode::OK, metrics::CONTENT_TYPE, text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::api::tests::Still;
    use crate::port::Stats;

    #[tokio::test]
    async fn whoever_takes_nothing_is_dropped_and_nothing_piles_up_for_him() {
        let seen = Still::default();
        let (out, mut body) = mpsc::channel(1);
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let (_stop, told) = watch::channel(false);
        let pumping = tokio::spawn(pump(seen.watch().unwrap(), out, told, place, Duration::from_millis(50)));
        let dropped = async {
            while !pumping.is_finished() {
                seen.0.send_modify(|_| ());
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), dropped).await.unwrap();
        assert_eq!((places.available_permits(), seen.0.receiver_count()), (1, 0), "place and look are given back");
        assert!(body.recv().await.is_some() && body.recv().await.is_none(), "one event waited, no more");
    }
}
