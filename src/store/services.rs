//! Host services in the database: their desired state, progress and last status.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::model::desired::{Complaint, Owner};
use crate::model::event::By;
use crate::model::failure::PortError;
use crate::model::services::{
    Service, ServiceIntent, ServiceProgress, ServiceStatus, Version, WantedService, WantedServices,
};
use crate::plan::accept::service as rules;
use crate::plan::accept::{Change, Write};
use crate::port::{DesiredServiceStore, Put, ServiceProgressStore, WriteError};

use super::desired::{execute, json, now_by, parsed};
use super::progress::plain;
use super::{Db, damaged, refused};

const COLUMNS: &str = "service, generation, intent, version, purge, owner, complaint";

/// A row, unparsed.
type Texts = (String, u64, String, Option<String>, bool, String, Option<String>);

fn texts(row: &Row<'_>) -> rusqlite::Result<Texts> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn read_desired(
    (name, generation, intent, version, purge, owner, complaint): Texts,
) -> Result<(Service, WantedService), PortError> {
    let service: Service = named(&name)?;
    let intent = match intent.as_str() {
        "remove" => ServiceIntent::Remove { purge },
        _ => {
            ServiceIntent::Install(service.version(version.as_deref()).map_err(|e| damaged("a service's version", e))?)
        }
    };
    let complaint = parsed(complaint, "a complaint")?;
    Ok((service, WantedService { generation, intent, owner: Owner::parse(&owner), complaint }))
}

fn named(name: &str) -> Result<Service, PortError> {
    name.parse().map_err(|e| damaged("a service's name", e))
}

fn read_one(connection: &Connection, service: Service) -> Result<Option<WantedService>, PortError> {
    let sql = format!("SELECT {COLUMNS} FROM services WHERE service = ?1");
    let row = connection.query_row(&sql, params![service.as_str()], texts).optional();
    row.map_err(|e| refused("read a service", &e))?.map(|row| read_desired(row).map(|(_, wish)| wish)).transpose()
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
    fn wanted_services(&self) -> Result<WantedServices, PortError> {
        let rows = read_all(&self.lock(), &format!("SELECT {COLUMNS} FROM services"), texts)?;
        rows.into_iter().map(read_desired).collect()
    }

    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError> {
        let rows = read_all(&self.lock(), "SELECT service, progress FROM services", pair)?;
        let read = |(name, progress): (String, String)| {
            Ok((named(&name)?, serde_json::from_str(&progress).map_err(|e| damaged("a service's progress", e))?))
        };
        rows.into_iter().map(read).collect()
    }

    fn remember_services(&self, changed: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError> {
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

    fn forget_service(&self, service: Service, generation: u64) -> Result<(), PortError> {
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
    fn wanted_service(&self, service: Service) -> Result<Option<WantedService>, WriteError> {
        Ok(read_one(&self.lock(), service)?)
    }

    fn put_service(
        &self,
        service: Service,
        version: Version,
        owner: &Owner,
        heir_of: Option<&Owner>,
        by: &By,
    ) -> Result<Put, WriteError> {
        self.change_service("ask for a service", service, |old| {
            rules::put(old, service, version, owner, heir_of, now_by(by))
        })
    }

    fn drop_service(&self, service: Service, owner: &Owner, purge: bool, by: &By) -> Result<u64, WriteError> {
        self.change_service("let a service go", service, |old| rules::delete(old, service, owner, purge, now_by(by)))
    }

    fn complain_of_service(
        &self,
        service: Service,
        owner: &Owner,
        complaint: Option<&Complaint>,
    ) -> Result<(), WriteError> {
        self.change_service("write a complaint", service, |old| Ok(rules::complain(old, owner, complaint)))
    }
}

impl Db {
    /// Applies the decision of a `plan::accept` rule on a service.
    fn change_service<T>(
        &self,
        what: &str,
        service: Service,
        decide: impl FnOnce(Option<WantedService>) -> Result<Change<WantedService, T>, WriteError>,
    ) -> Result<T, WriteError> {
        self.write_with_event(what, |tx| {
            let change = decide(read_one(tx, service)?)?;
            match &change.write {
                Write::Nothing => {}
                Write::Save(record) | Write::Reset(record) => save(tx, service, record)?,
                Write::Forget => forget(tx, service)?,
            }
            Ok((change.answer, change.event))
        })
    }
}

fn save(tx: &Transaction<'_>, service: Service, record: &WantedService) -> Result<(), WriteError> {
    let (intent, version, purge) = match record.intent {
        ServiceIntent::Install(version) => {
            ("install", (version != Version::Default).then(|| version.shown(service)), false)
        }
        ServiceIntent::Remove { purge } => ("remove", None, purge),
    };
    let sql = format!(
        "INSERT INTO services ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (service) DO UPDATE SET
            generation = ?2, intent = ?3, version = ?4, purge = ?5, owner = ?6, complaint = ?7"
    );
    let (owner, complaint) = (record.owner.to_string(), record.complaint.as_ref().map(json));
    execute(tx, &sql, params![service.as_str(), record.generation, intent, version, purge, owner, complaint])
}

fn forget(tx: &Transaction<'_>, service: Service) -> Result<(), WriteError> {
    execute(tx, "DELETE FROM services WHERE service = ?1", params![service.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::KeyId;
    use crate::store::MasterKey;

    fn ops() -> By {
        By::Key(KeyId::parse("ops").unwrap())
    }

    fn db(dir: &tempfile::TempDir) -> Db {
        Db::open(&dir.path().join("zexio.db"), &MasterKey::parse(&"ab".repeat(32)).unwrap()).unwrap()
    }

    const REDIS: Service = Service::Redis;
    const PG: Service = Service::Postgresql;

    #[test]
    fn what_is_wanted_and_remembered_reads_back_and_goes_when_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        db(&dir).put_service(PG, Version::Major(15), &Owner::Api, None, &ops()).unwrap();
        let progress = ServiceProgress { generation: 1, before: Some([14].into()), ..ServiceProgress::default() };
        // There is no request for redis: nothing of it is kept.
        db(&dir).remember_services(&[(PG, progress.clone()), (REDIS, progress.clone())].into()).unwrap();
        let db = db(&dir);
        assert_eq!(db.service_progress().unwrap(), [(PG, progress)].into());
        assert_eq!(db.wanted_services().unwrap()[&PG].intent, ServiceIntent::Install(Version::Major(15)));
        db.forget_service(PG, 1).unwrap();
        assert_eq!(db.wanted_services().unwrap().len(), 1, "it is still wanted");
        db.drop_service(PG, &Owner::Api, false, &ops()).unwrap();
        db.drop_service(PG, &Owner::Api, true, &ops()).unwrap();
        db.forget_service(PG, 2).unwrap();
        assert_eq!(
            db.wanted_services().unwrap()[&PG].intent,
            ServiceIntent::Remove { purge: true },
            "asked since then"
        );
        db.forget_service(PG, 3).unwrap();
        assert_eq!(db.wanted_services().unwrap().len(), 0);
    }
}
