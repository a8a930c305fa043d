//! Host services in the database: their desired state, progress and last status.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::model::desired::{DesiredService, DesiredServices, Owner, Refusal, ServiceIntent};
use crate::model::event::By;
use crate::model::failure::PortError;
use crate::model::progress::ServiceProgress;
use crate::model::services::{Service, Version};
use crate::model::status::ServiceStatus;
use crate::plan::accept::service as rules;
use crate::plan::accept::{Change, Write};
use crate::port::{DesiredServiceStore, ServiceProgressStore, WriteError, WriteResult};

use super::progress::plain;
use super::{Db, execute, json, parsed, refused};

const COLUMNS: &str = "service, generation, intent, version, purge, owner, complaint, progress";

/// A row, unparsed.
type Texts = (String, u64, String, Option<String>, bool, String, Option<String>, String);

fn texts(row: &Row<'_>) -> rusqlite::Result<Texts> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?))
}

/// Reads a record; None if this agent does not know the service.
fn read_desired(
    (name, generation, intent, version, purge, owner, refusal, progress): Texts,
) -> Option<(Service, DesiredService)> {
    let service: Service = name.parse().ok()?;
    let intent = match intent.as_str() {
        "remove" => Ok(ServiceIntent::Remove { purge }),
        _ => service.version(version.as_deref()).map(ServiceIntent::Install),
    };
    let refusal: Result<Option<Refusal>, PortError> = parsed(refusal, "a refusal");
    let (intent, refusal) = match (intent, refusal, parse(&progress)) {
        (Ok(intent), Ok(refusal), Some(_)) => (intent, refusal),
        _ => (ServiceIntent::Unreadable, None),
    };
    Some((service, DesiredService { generation, intent, owner: Owner::parse(&owner), refusal }))
}

fn parse(progress: &str) -> Option<ServiceProgress> {
    serde_json::from_str(progress).ok()
}

fn read_one(connection: &Connection, service: Service) -> Result<Option<DesiredService>, PortError> {
    let sql = format!("SELECT {COLUMNS} FROM services WHERE service = ?1");
    let row = connection.query_row(&sql, params![service.as_str()], texts).optional();
    row.map_err(|e| refused("read a service", &e)).map(|row| row.and_then(read_desired).map(|(_, wish)| wish))
}

fn read_all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, PortError> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| refused("read services", &e))?;
    let rows = statement.query_map([], read).map_err(|e| refused("read services", &e))?;
    rows.collect::<rusqlite::Result<_>>().map_err(|e| refused("read services", &e))
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

impl ServiceProgressStore for Db {
    fn desired_services(&self) -> Result<DesiredServices, PortError> {
        let rows = read_all(&self.lock(), &format!("SELECT {COLUMNS} FROM services"), texts)?;
        Ok(rows.into_iter().filter_map(read_desired).collect())
    }

    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError> {
        let rows = read_all(&self.lock(), "SELECT service, progress FROM services", pair)?;
        let read = |(name, progress): (String, String)| Some((name.parse().ok()?, parse(&progress)?));
        Ok(rows.into_iter().filter_map(read).collect())
    }

    fn save_service_progress(&self, changed: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError> {
        self.write("remember services", |tx| {
            changed.iter().try_for_each(|(service, progress)| {
                let sql = "UPDATE services SET progress = ?2 WHERE service = ?1";
                execute(tx, sql, params![service.as_str(), json(progress)])
            })
        })
        .map_err(plain)
    }

    fn service_statuses(&self) -> Result<BTreeMap<Service, ServiceStatus>, PortError> {
        let rows = read_all(&self.lock(), "SELECT service, status FROM service_status", pair)?;
        // A status in an older format is no loss: the next pass writes a new one.
        let read = |(name, status): (String, String)| Some((name.parse().ok()?, serde_json::from_str(&status).ok()?));
        Ok(rows.into_iter().filter_map(read).collect())
    }

    fn record_services(&self, statuses: &[ServiceStatus]) -> Result<(), PortError> {
        self.write("record services", |tx| {
            statuses.iter().try_for_each(|status| {
                let sql = "INSERT INTO service_status (service, status) VALUES (?1, ?2) ON CONFLICT (service) DO UPDATE SET status = ?2";
                execute(tx, sql, params![status.service.as_str(), json(status)])
            })
        })
        .map_err(plain)
    }

    fn delete_service_record(&self, service: Service, generation: u64) -> Result<(), PortError> {
        self.write("forget a service", |tx| {
            match read_one(tx, service)?.is_some_and(|record| rules::may_forget(&record, generation)) {
                true => forget(tx, service),
                false => Ok(()),
            }
        })
        .map_err(plain)
    }
}

impl DesiredServiceStore for Db {
    fn desired_service(&self, service: Service) -> Result<Option<DesiredService>, WriteError> {
        Ok(read_one(&self.lock(), service)?)
    }

    fn put_service(
        &self,
        service: Service,
        version: Version,
        owner: &Owner,
        heir_of: Option<&Owner>,
        by: &By,
    ) -> Result<WriteResult, WriteError> {
        self.change_service("ask for a service", service, |old| {
            rules::put(old, service, version, owner, heir_of, self.request(by))
        })
    }

    fn delete_service(&self, service: Service, owner: &Owner, purge: bool, by: &By) -> Result<u64, WriteError> {
        self.change_service("let a service go", service, |old| {
            rules::delete(old, service, owner, purge, self.request(by))
        })
    }

    fn set_service_refusal(
        &self,
        service: Service,
        owner: &Owner,
        refusal: Option<&Refusal>,
    ) -> Result<(), WriteError> {
        self.change_service("write a refusal", service, |old| Ok(rules::set_refusal(old, owner, refusal)))
    }
}

impl Db {
    /// Applies the decision of a `plan::accept` rule on a service.
    fn change_service<T>(
        &self,
        what: &str,
        service: Service,
        decide: impl FnOnce(Option<DesiredService>) -> Result<Change<DesiredService, T>, WriteError>,
    ) -> Result<T, WriteError> {
        self.write_with_event(what, |tx| {
            let change = decide(read_one(tx, service)?)?;
            match &change.write {
                Write::Nothing => {}
                Write::Save(record) => save(tx, service, record)?,
                Write::Reset(record) => {
                    forget(tx, service)?;
                    save(tx, service, record)?;
                }
                Write::Delete => forget(tx, service)?,
            }
            Ok((change.answer, change.event))
        })
    }
}

fn save(tx: &Transaction<'_>, service: Service, record: &DesiredService) -> Result<(), WriteError> {
    let (intent, version, purge) = match record.intent {
        ServiceIntent::Install(version) => {
            ("install", (version != Version::Default).then(|| version.shown(service)), false)
        }
        ServiceIntent::Remove { purge } => ("remove", None, purge),
        // No rule saves one: a damaged record stays as it is.
        ServiceIntent::Unreadable => return Ok(()),
    };
    let sql = "INSERT INTO services (service, generation, intent, version, purge, owner, complaint)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (service) DO UPDATE SET
            generation = ?2, intent = ?3, version = ?4, purge = ?5, owner = ?6, complaint = ?7";
    let (owner, refusal) = (record.owner.to_string(), record.refusal.as_ref().map(json));
    execute(tx, sql, params![service.as_str(), record.generation, intent, version, purge, owner, refusal])
}

fn forget(tx: &Transaction<'_>, service: Service) -> Result<(), WriteError> {
    execute(tx, "DELETE FROM services WHERE service = ?1", params![service.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::RefusalKind;
    use crate::model::names::KeyId;
    use crate::store::sqlite::tests::db;

    fn ops() -> By {
        By::Key(KeyId::parse("ops").unwrap())
    }

    const REDIS: Service = Service::Redis;
    const PG: Service = Service::Postgresql;

    #[test]
    fn what_is_wanted_and_remembered_reads_back_and_goes_when_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        db(&dir).put_service(PG, Version::Major(15), &Owner::Api, None, &ops()).unwrap();
        let progress = ServiceProgress { generation: 1, preexisting: Some([14].into()), ..ServiceProgress::default() };
        // There is no request for redis: nothing of it is kept.
        db(&dir).save_service_progress(&[(PG, progress.clone()), (REDIS, progress.clone())].into()).unwrap();
        let db = db(&dir);
        assert_eq!(db.service_progress().unwrap(), [(PG, progress)].into());
        assert_eq!(db.desired_services().unwrap()[&PG].intent, ServiceIntent::Install(Version::Major(15)));
        db.delete_service_record(PG, 1).unwrap();
        assert_eq!(db.desired_services().unwrap().len(), 1, "it is still wanted");
        db.delete_service(PG, &Owner::Api, false, &ops()).unwrap();
        db.delete_service(PG, &Owner::Api, true, &ops()).unwrap();
        db.delete_service_record(PG, 2).unwrap();
        assert_eq!(
            db.desired_services().unwrap()[&PG].intent,
            ServiceIntent::Remove { purge: true },
            "asked since then"
        );
        db.delete_service_record(PG, 3).unwrap();
        assert_eq!(db.desired_services().unwrap().len(), 0);
    }

    #[test]
    fn a_damaged_record_stops_its_service_alone_and_is_kept_until_it_is_requested_again() {
        for damage in ["version = 'x'", "progress = '{\"before\":7}'", "complaint = 'x'"] {
            let dir = tempfile::tempdir().unwrap();
            let db = db(&dir);
            for service in [PG, REDIS] {
                db.put_service(service, Version::Default, &Owner::Api, None, &ops()).unwrap();
            }
            let progress =
                ServiceProgress { generation: 1, preexisting: Some([14].into()), ..ServiceProgress::default() };
            db.save_service_progress(&[(PG, progress.clone())].into()).unwrap();
            db.lock().execute(&format!("UPDATE services SET {damage} WHERE service = 'postgresql'"), []).unwrap();
            let row = || -> (Option<String>, String, Option<String>) {
                let sql = "SELECT version, progress, complaint FROM services WHERE service = 'postgresql'";
                db.lock().query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
            };
            let before = row();
            let intents = || db.desired_services().unwrap().into_values().map(|wish| wish.intent).collect::<Vec<_>>();
            assert_eq!(intents(), [ServiceIntent::Unreadable, ServiceIntent::Install(Version::Default)], "{damage}");
            let refusal = Refusal { kind: RefusalKind::Conflict, message: "b.yaml".into() };
            db.set_service_refusal(PG, &Owner::Api, Some(&refusal)).unwrap();
            assert_eq!(row(), before, "{damage}");

            assert!(db.put_service(PG, Version::Default, &Owner::Api, None, &ops()).unwrap().changed);
            assert_eq!(intents(), [ServiceIntent::Install(Version::Default); 2], "{damage}");
            assert_eq!(db.service_progress().unwrap()[&PG], ServiceProgress::default(), "{damage}");
        }
    }
}
