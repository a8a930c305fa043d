//! The stored events: written in the transaction of what they report, bounded, and shown to clients that list or follow
//! them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::watch;

use crate::model::event::{Event, Kept, Level};
use crate::model::failure::PortError;
use crate::model::names::{ProjectId, ReleaseNo};
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::port::{EventQuery, Events};

use super::{Db, damaged, refused};

/// How many events are kept of one project: a deploy takes about ten, so these are the last hundred deploys.
const PER_PROJECT: u32 = 1_000;
/// How many are kept in all: some megabytes, so that deleted projects do not fill the disk.
const IN_ALL: u32 = 10_000;
/// An event is checked for being a repetition against this many of its project's newest. More than one, since failures
/// alternate: two processes that fail, a fetch and what waits for it.
const REPEATS: u32 = 8;

impl Events for Db {
    fn read(&self, query: &EventQuery) -> Result<Vec<Kept>, PortError> {
        read(&self.lock(), query).map_err(|e| refused("read events", &e))?.into_iter().map(whole).collect()
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }
}

/// A row whose names were not checked yet.
type Row = (Option<String>, String, Kept);

fn read(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Vec<Row>> {
    // With `after`, the first events after it, else the newest; the oldest first in either case.
    let order = if query.after.is_some() { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT * FROM (
            SELECT id, project, generation, release, level, reason, message, time, count, last_seen FROM events
            WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR reason = ?2) AND last_seen >= ?3 AND id > ?4
            ORDER BY id {order} LIMIT ?5
        ) ORDER BY id"
    );
    let project = query.project.as_ref().map(ProjectId::as_str);
    let since = i64::try_from(query.since.map_or(0, |since| since.0)).unwrap_or(i64::MAX);
    let after = i64::try_from(query.after.unwrap_or(0)).unwrap_or(i64::MAX);
    let most = query.lines.unwrap_or(IN_ALL);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![project, query.reason.map(Reason::name), since, after, most], |row| {
        let event = Event {
            time: Timestamp(row.get(7)?),
            project: None,
            generation: row.get(2)?,
            release: row.get::<_, Option<u32>>(3)?.map(ReleaseNo),
            level: Level::Info,
            reason: Reason::named(row.get_ref(5)?.as_str()?).unwrap_or(Reason::Unlisted),
            message: row.get(6)?,
        };
        Ok((
            row.get(1)?,
            row.get(4)?,
            Kept { id: row.get(0)?, event, count: row.get(8)?, last_seen: Timestamp(row.get(9)?) },
        ))
    })?;
    rows.collect()
}

fn whole((project, level, kept): Row) -> Result<Kept, PortError> {
    let project = project.map(|id| ProjectId::parse(&id)).transpose().map_err(|e| damaged("an event's project", e))?;
    let level = if level == "warning" { Level::Warning } else { Level::Info };
    Ok(Kept { event: Event { project, level, ..kept.event }, ..kept })
}

/// Stores events, and drops older ones that exceed the limits.
fn keep(tx: &Transaction<'_>, events: &[Event]) -> rusqlite::Result<()> {
    for event in events {
        let (count, first) = take_repeated(tx, event)?.unwrap_or((0, event.time));
        let sql = "INSERT INTO events (project, generation, release, level, reason, message, time, count, last_seen)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let project = event.project.as_ref().map(ProjectId::as_str);
        let level = match event.level {
            Level::Info => "info",
            Level::Warning => "warning",
        };
        let release = event.release.map(|release| release.0);
        let values = params![
            project,
            event.generation,
            release,
            level,
            event.reason.name(),
            event.message,
            first.0,
            count + 1,
            event.time.0
        ];
        tx.prepare_cached(sql)?.execute(values)?;
    }
    events.last().map_or(Ok(()), |_| prune(tx, events))
}

/// Removes the event that this one repeats, and returns how often it happened, and when first. The two become one with
/// a new id, so that followers get it.
fn take_repeated(tx: &Transaction<'_>, event: &Event) -> rusqlite::Result<Option<(u64, Timestamp)>> {
    let sql = "DELETE FROM events WHERE id = (
            SELECT id FROM (SELECT * FROM events WHERE project IS ?1 ORDER BY id DESC LIMIT ?2)
            WHERE reason = ?3 AND message = ?4 AND generation IS ?5 AND release IS ?6
            ORDER BY id DESC LIMIT 1
        ) RETURNING count, time";
    let project = event.project.as_ref().map(ProjectId::as_str);
    let release = event.release.map(|release| release.0);
    let values = params![project, REPEATS, event.reason.name(), event.message, event.generation, release];
    let mut statement = tx.prepare_cached(sql)?;
    statement.query_row(values, |row| Ok((row.get(0)?, Timestamp(row.get(1)?)))).optional()
}

fn prune(tx: &Transaction<'_>, events: &[Event]) -> rusqlite::Result<()> {
    let mut projects: Vec<_> = events.iter().map(|event| event.project.as_ref().map(ProjectId::as_str)).collect();
    projects.sort_unstable();
    projects.dedup();
    for project in projects {
        let sql = "DELETE FROM events WHERE project IS ?1 AND id <= (
            SELECT id FROM events WHERE project IS ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
        tx.prepare_cached(sql)?.execute(params![project, PER_PROJECT])?;
    }
    let sql = "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?1)";
    tx.prepare_cached(sql)?.execute(params![IN_ALL])?;
    Ok(())
}

impl Db {
    /// Commits a write together with its events, and wakes followers once that is on disk.
    pub(super) fn commit(&self, tx: Transaction<'_>, events: &[Event]) -> rusqlite::Result<()> {
        keep(&tx, events)?;
        tx.commit()?;
        if !events.is_empty() {
            self.told.send_modify(|times| *times = times.wrapping_add(1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::Owner;
    use crate::model::event::By;
    use crate::model::names::KeyId;
    use crate::model::reason::Reason::{Deleting, Draining, Serving, Trial};
    use std::sync::Arc;

    use crate::plan::accept::admit::{Admitted, Origin, UrlCheck, admit};
    use crate::port::{DesiredStore, ProgressStore};
    use crate::store::sqlite::tests::db;

    fn admitted(text: &[u8]) -> Admitted {
        let origin = Origin::Request { stored: None, now: Timestamp(1) };
        let document = crate::model::document::parse(text).unwrap();
        admit(text, document, origin, &(Arc::new(|_: &str| Ok(())) as UrlCheck)).unwrap()
    }

    fn id(raw: &str) -> ProjectId {
        ProjectId::parse(raw).unwrap()
    }

    fn event(project: &str, at: u64, reason: Reason) -> Event {
        Event::warning(Timestamp(at), reason, "could not do it").of(&id(project), 1)
    }

    fn reasons(db: &Db, query: &EventQuery) -> Vec<Reason> {
        db.read(query).unwrap().into_iter().map(|kept| kept.event.reason).collect()
    }

    #[test]
    fn events_are_read_by_project_reason_time_and_id_the_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let all = [
            event("shop", 1, Trial),
            event("blog", 2, Serving),
            event("shop", 3, Draining),
            Event::info(Timestamp(4), Deleting, ""),
        ];
        db(&dir).record(&[], &all).unwrap();
        // Opened again: they are on disk.
        let db = db(&dir);
        let some = EventQuery::default;
        assert_eq!(reasons(&db, &some()), [Trial, Serving, Draining, Deleting]);
        assert_eq!(reasons(&db, &EventQuery { project: Some(id("shop")), ..some() }), [Trial, Draining]);
        assert_eq!(reasons(&db, &EventQuery { reason: Some(Serving), ..some() }), [Serving]);
        assert_eq!(reasons(&db, &EventQuery { since: Some(Timestamp(3)), ..some() }), [Draining, Deleting]);
        assert_eq!(reasons(&db, &EventQuery { lines: Some(2), ..some() }), [Draining, Deleting]);
        assert_eq!(reasons(&db, &EventQuery { after: Some(1), lines: Some(2), ..some() }), [Serving, Draining]);
        assert_eq!(db.read(&some()).unwrap()[0].event, all[0]);
        assert_eq!(db.read(&some()).unwrap()[3].event, all[3]);
    }

    #[test]
    fn a_failure_that_comes_again_is_counted_and_comes_to_whoever_follows() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(&dir);
        let mut news = db.news();
        for at in 0..50 {
            // Two alternate, and another project's are between them.
            db.record(&[], &[event("shop", at, Trial), event("blog", at, Trial), event("shop", at, Serving)]).unwrap();
        }
        assert!(news.has_changed().unwrap());
        news.mark_unchanged();
        let kept = db.read(&EventQuery { project: Some(id("shop")), ..EventQuery::default() }).unwrap();
        assert_eq!(
            kept.iter().map(|kept| (kept.event.reason, kept.count)).collect::<Vec<_>>(),
            [(Trial, 50), (Serving, 50)]
        );
        assert_eq!((kept[0].event.time, kept[0].last_seen), (Timestamp(0), Timestamp(49)));
        let newest = kept[1].id;
        db.record(&[], &[event("shop", 60, Trial)]).unwrap();
        assert!(news.has_changed().unwrap());
        let new = db.read(&EventQuery { after: Some(newest), ..EventQuery::default() }).unwrap();
        assert_eq!((new.len(), new[0].count), (1, 51));
        // Under another generation it is another event.
        db.record(&[], &[event("shop", 61, Trial).of(&id("shop"), 2)]).unwrap();
        assert_eq!(db.read(&EventQuery { lines: Some(1), ..EventQuery::default() }).unwrap()[0].count, 1);
    }

    #[test]
    fn no_project_keeps_more_than_its_share_and_all_together_not_more_than_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(&dir);
        let many = |project: &str, count: u32| {
            (0..count).map(|n| Event { message: format!("m{n}"), ..event(project, 1, Trial) }).collect::<Vec<_>>()
        };
        db.record(&[], &many("quiet", 3)).unwrap();
        db.record(&[], &many("loud", PER_PROJECT + 7)).unwrap();
        let loud = db.read(&EventQuery { project: Some(id("loud")), ..EventQuery::default() }).unwrap();
        assert_eq!((loud.len(), loud[0].event.message.as_str()), (PER_PROJECT as usize, "m7"));
        assert_eq!(reasons(&db, &EventQuery { project: Some(id("quiet")), ..EventQuery::default() }).len(), 3);
        for n in 0..IN_ALL / PER_PROJECT {
            db.record(&[], &many(&format!("p{n}"), PER_PROJECT)).unwrap();
        }
        let all = db.read(&EventQuery::default()).unwrap();
        assert_eq!((all.len(), all[0].event.project.clone()), (IN_ALL as usize, Some(id("p0"))));
    }

    #[test]
    fn events_stay_when_their_project_is_forgotten_and_no_id_comes_twice() {
        let dir = tempfile::tempdir().unwrap();
        let db = db(&dir);
        let by = By::Key(KeyId::parse("ci").unwrap());
        let text = "zexio: 1\nproject: shop\nartifact: { url: 'https://a.example.com/1?key=hidden' }\nprocesses: { web: { run: ./x } }";
        db.put(admitted(text.as_bytes()), &Owner::Api, None, &by).unwrap();
        db.put(admitted(text.as_bytes()), &Owner::Api, None, &by).unwrap();
        db.delete(&id("shop"), &Owner::Api, false, &by).unwrap();
        db.delete_record(&id("shop"), 2).unwrap();
        let kept = db.read(&EventQuery { project: Some(id("shop")), ..EventQuery::default() }).unwrap();
        let said: Vec<&str> = kept.iter().map(|kept| kept.event.message.as_str()).collect();
        assert_eq!(said, ["key ci wrote generation 1", "key ci asked for its removal"]);
        assert_eq!(kept[0].count, 1, "an equal spec is no event");
        db.lock().execute_batch("DELETE FROM events").unwrap();
        db.record(&[], &[event("shop", 1, Trial)]).unwrap();
        assert!(db.read(&EventQuery::default()).unwrap()[0].id > kept[1].id);
    }
}
