//! A database over plain maps, a loop that only answers, a journal of fixed lines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use crate::model::desired::{Complaint, Desired, Hold, Intent, Owner, SecretVersion, Wanted};
use crate::model::event::{By, Event, Kept as KeptEvent};
use crate::model::names::{EnvName, KeyId, ProjectId, SecretName, Sha256};
use crate::model::progress::{Progress, ProjectProgress};
use crate::model::quantity::Timestamp;
use crate::model::services::{
    Service, ServiceIntent, ServiceProgress, ServiceStatus, Version, WantedService, WantedServices,
};
use crate::model::spec::{Artifact, Document, Plain, Sealed, Spec};
use crate::model::stats::{AgentStats, Cpu, Load, Swap, SystemStats};
use crate::model::status::Status;
use crate::port::{
    Clock, Delivery, EventQuery, Events, Figures, Journal, LogLine, LogLines, LogQuery, Memory, PortError, Put,
    SecretInfo, ServiceMemory, ServiceWishes, Stats, Upload, Uploads, WishError, Wishes,
};

/// Everything that is stored.
#[derive(Default)]
pub struct Tables {
    pub wanted: BTreeMap<ProjectId, Wanted>,
    pub progress: Progress,
    pub secrets: BTreeMap<(ProjectId, SecretName), (u32, String)>,
    nonces: BTreeSet<(String, String)>,
    deliveries: BTreeMap<(ProjectId, String), (BTreeSet<String>, u64)>,
}

/// A database.
#[derive(Default)]
pub struct Store(pub Mutex<Tables>);

impl Memory for Store {
    fn desired(&self) -> Result<Desired, PortError> {
        Ok(Desired(self.0.lock().unwrap().wanted.clone()))
    }
    fn progress(&self) -> Result<Progress, PortError> {
        Ok(self.0.lock().unwrap().progress.clone())
    }
    fn remember(&self, _: &BTreeMap<ProjectId, ProjectProgress>, _: &[Event]) -> Result<(), PortError> {
        unreachable!("the API remembers nothing")
    }
    fn statuses(&self) -> Result<BTreeMap<ProjectId, Status>, PortError> {
        Ok(BTreeMap::new())
    }
    fn record(&self, _: &[Status], _: &[Event]) -> Result<(), PortError> {
        unreachable!("the API sees nothing")
    }
    fn open_values(
        &self,
        _: &ProjectId,
        _: &BTreeMap<EnvName, Sealed>,
        _: &BTreeMap<EnvName, SecretVersion>,
    ) -> Result<BTreeMap<EnvName, Zeroizing<String>>, PortError> {
        unreachable!("the API opens no values")
    }
    fn forget(&self, _: &ProjectId, _: u64) -> Result<(), PortError> {
        unreachable!("the API forgets nothing")
    }
}

fn next(tables: &Tables, document: Document, owner: &Owner, expect: Option<u64>) -> Result<Wanted, WishError> {
    let old = tables.wanted.get(&document.project);
    let generation = old.map_or(0, |wanted| wanted.generation);
    match old {
        Some(Wanted { intent: Intent::Delete { .. }, .. }) => return Err(WishError::Deleting(document.project)),
        Some(wanted) if wanted.owner != *owner => {
            return Err(WishError::Owned { project: document.project, owner: wanted.owner.clone() });
        }
        _ if expect.is_some_and(|expected| expected != generation) => return Err(WishError::Moved(generation)),
        _ => {}
    }
    let seal = |_: &EnvName, _: Plain| Ok::<_, WishError>(Sealed { sealed: 1 });
    let spec: Spec = document.try_map_env(seal)?;
    let same = old.and_then(Wanted::spec) == Some(&spec);
    Ok(Wanted {
        generation: if same { generation } else { generation + 1 },
        intent: Intent::Run(Arc::new(spec)),
        owner: owner.clone(),
        secrets: BTreeMap::new(),
        complaint: None,
        hold: old.and_then(|wanted| wanted.hold.clone()),
    })
}

impl Wishes for Store {
    fn put(&self, document: Document, owner: &Owner, expect: Option<u64>, _: &By) -> Result<Put, WishError> {
        let mut tables = self.0.lock().unwrap();
        let project = document.project.clone();
        let wanted = next(&tables, document, owner, expect)?;
        let generation = wanted.generation;
        let old = tables.wanted.insert(project, wanted);
        let changed = old.as_ref().map(|old| old.generation) != Some(generation);
        Ok(Put { generation, created: old.is_none(), changed })
    }
    fn delete(&self, project: &ProjectId, owner: &Owner, keep_data: bool, _: &By) -> Result<u64, WishError> {
        let mut tables = self.0.lock().unwrap();
        let wanted = tables.wanted.get_mut(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        if wanted.owner != *owner {
            return Err(WishError::Owned { project: project.clone(), owner: wanted.owner.clone() });
        }
        wanted.intent = Intent::Delete { keep_data };
        wanted.generation += 1;
        Ok(wanted.generation)
    }
    fn overlay(&self, project: &ProjectId, artifact: &Artifact, _: &By) -> Result<Put, WishError> {
        let mut tables = self.0.lock().unwrap();
        let wanted = tables.wanted.get_mut(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        wanted.generation += 1;
        if let Intent::Run(spec) = &mut wanted.intent {
            Arc::make_mut(spec).artifact = artifact.clone();
        }
        Ok(Put { generation: wanted.generation, created: false, changed: true })
    }
    fn hold(&self, project: &ProjectId, hold: Option<&Hold>, _: &By) -> Result<(), WishError> {
        let mut tables = self.0.lock().unwrap();
        let wanted = tables.wanted.get_mut(project).ok_or_else(|| WishError::Unknown(project.clone()))?;
        wanted.hold = hold.cloned();
        Ok(())
    }
    fn wanted(&self, project: &ProjectId) -> Result<Option<Wanted>, WishError> {
        Ok(self.0.lock().unwrap().wanted.get(project).cloned())
    }
    fn adopt(&self, _: &ProjectId, _: &Owner, _: &Owner) -> Result<(), WishError> {
        unreachable!("the API hands nothing over")
    }
    fn note(&self, _: &str) -> Option<String> {
        unreachable!("the API notes nothing")
    }
    fn set_note(&self, _: &str, _: &str) {
        unreachable!("the API notes nothing")
    }
    fn rehearse(&self, document: Document, owner: &Owner) -> Result<Wanted, WishError> {
        next(&self.0.lock().unwrap(), document, owner, None)
    }
    fn complain(&self, _: &ProjectId, _: &Owner, _: Option<&Complaint>) -> Result<(), WishError> {
        unreachable!("the API does not complain")
    }
    fn set_secret(&self, project: &ProjectId, name: &SecretName, value: &Plain) -> Result<u32, WishError> {
        let mut tables = self.0.lock().unwrap();
        let entry = tables.secrets.entry((project.clone(), name.clone())).or_default();
        if entry.1 != value.open() || entry.0 == 0 {
            *entry = (entry.0 + 1, value.open().to_owned());
        }
        Ok(entry.0)
    }
    fn remove_secret(&self, project: &ProjectId, name: &SecretName) -> Result<bool, WishError> {
        Ok(self.0.lock().unwrap().secrets.remove(&(project.clone(), name.clone())).is_some())
    }
    fn secrets(&self, project: &ProjectId) -> Result<Vec<SecretInfo>, WishError> {
        let tables = self.0.lock().unwrap();
        let own = tables.secrets.iter().filter(|((whose, _), _)| whose == project);
        let shown = |((_, name), (version, _)): (&(ProjectId, SecretName), &(u32, String))| SecretInfo {
            name: name.clone(),
            version: *version,
            updated_at: Timestamp(0),
        };
        Ok(own.map(shown).collect())
    }
    fn open_secret(&self, project: &ProjectId, name: &SecretName) -> Result<Option<Zeroizing<String>>, WishError> {
        let found = self.0.lock().unwrap().secrets.get(&(project.clone(), name.clone())).cloned();
        Ok(found.map(|(_, value)| Zeroizing::new(value)))
    }
    fn take_nonce(&self, key: &KeyId, nonce: &str, _: Timestamp) -> Result<bool, WishError> {
        Ok(self.0.lock().unwrap().nonces.insert((key.to_string(), nonce.to_owned())))
    }
    fn deliver(&self, project: &ProjectId, artifact: &Artifact, delivery: &Delivery) -> Result<Option<Put>, WishError> {
        let taken = {
            let mut tables = self.0.lock().unwrap();
            let (ids, newest) = tables.deliveries.entry((project.clone(), delivery.provider.to_owned())).or_default();
            let taken = delivery.made.0 >= *newest && ids.insert(delivery.id.clone());
            *newest = delivery.made.0.max(*newest);
            taken
        };
        if taken { self.overlay(project, artifact, &By::Webhook(delivery.provider.into())).map(Some) } else { Ok(None) }
    }
}

/// What happened, as a test says.
pub struct Happened {
    pub all: Mutex<Vec<KeptEvent>>,
    pub told: tokio::sync::watch::Sender<u64>,
}

impl Happened {
    pub fn add(&self, id: u64, project: &str, reason: &str) {
        let event = Event::info(
            Timestamp(id * 1000),
            reason,
            "first line

data: forged",
        );
        let event = event.of(&ProjectId::parse(project).unwrap(), 1);
        let last_seen = event.time;
        self.all.lock().unwrap().push(KeptEvent { id, event, count: 1, last_seen });
        self.told.send_modify(|times| *times += 1);
    }
}

impl Events for Happened {
    fn read(&self, query: &EventQuery) -> Result<Vec<KeptEvent>, PortError> {
        let all = self.all.lock().unwrap();
        let asked = all.iter().filter(|kept| {
            kept.id > query.after.unwrap_or(0)
                && query.project.as_ref().is_none_or(|project| kept.event.project.as_ref() == Some(project))
                && query.reason.as_ref().is_none_or(|reason| kept.event.reason == *reason)
                && query.since.is_none_or(|since| kept.last_seen >= since)
        });
        let asked: Vec<KeptEvent> = asked.cloned().collect();
        let most = query.lines.map_or(asked.len(), |lines| asked.len().min(lines as usize));
        let from = if query.after.is_some() { 0 } else { asked.len() - most };
        Ok(asked[from..from + most].to_vec())
    }
    fn news(&self) -> tokio::sync::watch::Receiver<u64> {
        self.told.subscribe()
    }
}

/// The wishes for host services.
#[derive(Default)]
pub struct ServiceBook(pub Mutex<WantedServices>, pub Mutex<BTreeMap<Service, ServiceStatus>>);

impl ServiceMemory for ServiceBook {
    fn wanted_services(&self) -> Result<WantedServices, PortError> {
        Ok(self.0.lock().unwrap().clone())
    }
    fn service_progress(&self) -> Result<BTreeMap<Service, ServiceProgress>, PortError> {
        unreachable!("the API does not ask for this")
    }
    fn remember_services(&self, _: &BTreeMap<Service, ServiceProgress>) -> Result<(), PortError> {
        unreachable!("the API remembers nothing")
    }
    fn service_statuses(&self) -> Result<BTreeMap<Service, ServiceStatus>, PortError> {
        Ok(self.1.lock().unwrap().clone())
    }
    fn record_services(&self, _: &[ServiceStatus]) -> Result<(), PortError> {
        unreachable!("the API sees nothing")
    }
    fn forget_service(&self, _: Service, _: u64) -> Result<(), PortError> {
        unreachable!("the API forgets nothing")
    }
}

impl ServiceWishes for ServiceBook {
    fn wanted_service(&self, service: Service) -> Result<Option<WantedService>, WishError> {
        Ok(self.0.lock().unwrap().get(&service).cloned())
    }
    fn put_service(
        &self,
        service: Service,
        version: Version,
        owner: &Owner,
        _: Option<&Owner>,
        _: &By,
    ) -> Result<Put, WishError> {
        let mut all = self.0.lock().unwrap();
        if let Some(old) = all.get(&service).filter(|old| old.owner != *owner) {
            return Err(WishError::ServiceOwned { service, owner: old.owner.clone() });
        }
        let generation = all.get(&service).map_or(1, |old| old.generation + 1);
        let intent = ServiceIntent::Install(version);
        let old = all.insert(service, WantedService { generation, intent, owner: owner.clone(), complaint: None });
        Ok(Put { generation, created: old.is_none(), changed: true })
    }
    fn drop_service(&self, service: Service, owner: &Owner, purge: bool, _: &By) -> Result<u64, WishError> {
        let mut all = self.0.lock().unwrap();
        let wanted = all.get_mut(&service).ok_or(WishError::ServiceUnknown(service))?;
        if wanted.owner != *owner {
            return Err(WishError::ServiceOwned { service, owner: wanted.owner.clone() });
        }
        wanted.intent = ServiceIntent::Remove { purge };
        wanted.generation += 1;
        Ok(wanted.generation)
    }
    fn complain_of_service(&self, _: Service, _: &Owner, _: Option<&Complaint>) -> Result<(), WishError> {
        unreachable!("the API does not complain")
    }
}

/// A journal in which each unit wrote one hostile line.
#[derive(Default)]
pub struct Lines {
    pub asked: Mutex<Vec<LogQuery>>,
}

impl Journal for Lines {
    fn read(&self, query: LogQuery) -> Result<LogLines, PortError> {
        let (send, lines) = tokio::sync::mpsc::channel(query.units.len().max(1));
        for unit in &query.units {
            let message = "\u{1b}[2J\n\ndata: forged\r".to_owned();
            let line = LogLine { time: Timestamp(1000), unit: unit.clone(), priority: Some(6), message };
            send.try_send(Ok(line)).unwrap();
        }
        self.asked.lock().unwrap().push(query);
        Ok(lines)
    }
}

/// Uploads in memory.
#[derive(Default, Clone)]
pub struct Kept(pub Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

struct Draft(Kept, Vec<u8>);

impl Uploads for Kept {
    fn max_bytes(&self) -> u64 {
        1 << 20
    }
    fn begin(&self, _: u64) -> Result<Box<dyn Upload>, PortError> {
        Ok(Box::new(Draft(self.clone(), Vec::new())))
    }
}

impl Upload for Draft {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }
    fn keep(self: Box<Self>, sha256: &Sha256) -> Result<(), PortError> {
        self.0.0.lock().unwrap().insert(sha256.to_string(), self.1);
        Ok(())
    }
}

/// A server that looks the same each time it is looked at.
pub struct Still(pub tokio::sync::watch::Sender<Option<Arc<SystemStats>>>);

impl Default for Still {
    fn default() -> Self {
        let seen = SystemStats {
            at: Timestamp(1000),
            cpu: Cpu { count: 2, percent: 12.5, cores: vec![20.0, 5.0] },
            memory: crate::model::stats::Memory { total_bytes: 4 << 30, used_bytes: 1 << 30, available_bytes: 3 << 30 },
            swap: Swap { total_bytes: 0, used_bytes: 0 },
            load: Load { one: 0.5, five: 0.25, fifteen: 0.125 },
            disks: Vec::new(),
            uptime_seconds: 60,
            agent: AgentStats::default(),
        };
        Self(tokio::sync::watch::Sender::new(Some(Arc::new(seen))))
    }
}

impl Stats for Still {
    fn watch(&self) -> Result<Figures, PortError> {
        Ok(self.0.subscribe())
    }
    fn agent(&self) -> AgentStats {
        AgentStats::default()
    }
}

/// A clock that stands.
pub struct Stopped(pub Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}
