//! The ports of the loop, each one face of the machine of maps.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;
use zexio::model::desired::{Desired, SecretVersion};
use zexio::model::event::Event;
use zexio::model::names::{EnvName, Hostname, ProcessName, ProjectId, ReleaseNo, Sha256, Slot, UnitId};
use zexio::model::observed::{
    BundlesSeen, CertificateSeen, FetchSeen, Probed, ProxySeen, Purpose, UnitSeen, Visit, Visited,
};
use zexio::model::progress::{Progress, ProjectProgress};
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::reason::Reason;
use zexio::model::spec::Sealed;
use zexio::model::status::Status;
use zexio::plan::accept::values::Kind;
use zexio::plan::{FetchOrder, RoutesOrder, UnitOrder};
use zexio::port::{Bundles, Clock, Health, LogLine, PortError, ProbeOrder, ProgressStore, Routes, Tail, Units};
use zexio::render::caddyfile::Site;

use super::{Effect, World};
use crate::swarm::oracle::Oracle;

fn blind(what: &str) -> PortError {
    PortError::transient(Reason::Systemd, format!("could not {what}: nobody answers"))
}

impl ProgressStore for World {
    fn desired(&self) -> Result<Desired, PortError> {
        let mut machine = self.lock();
        if machine.blind.store {
            return Err(PortError::transient(Reason::Database, "could not read projects"));
        }
        machine.note_read(Oracle::note_read);
        Ok(machine.readable_desired())
    }
    fn progress(&self) -> Result<Progress, PortError> {
        let mut machine = self.lock();
        machine.interrupt();
        Ok(machine.readable_progress())
    }
    fn progress_of(&self, project: &ProjectId) -> Result<ProjectProgress, PortError> {
        Ok(self.lock().progress.projects.get(project).cloned().unwrap_or_default())
    }
    fn save_progress(&self, changed: &BTreeMap<ProjectId, ProjectProgress>, events: &[Event]) -> Result<(), PortError> {
        self.effect(Effect::Remember(changed), |machine| {
            if machine.disk_full {
                return Err(PortError::transient(
                    Reason::DiskFull,
                    "could not remember progress: database or disk is full",
                ));
            }
            machine.keep(events, changed.is_empty());
            machine.save_progress(changed)
        })
    }
    fn statuses(&self) -> Result<BTreeMap<ProjectId, Status>, PortError> {
        Ok(self.lock().statuses.clone())
    }
    fn status_of(&self, project: &ProjectId) -> Result<Option<Status>, PortError> {
        Ok(self.lock().statuses.get(project).cloned())
    }
    fn record(&self, statuses: &[Status], events: &[Event]) -> Result<(), PortError> {
        let mut statuses = Cow::Borrowed(statuses);
        if let Some(spoil) = self.lock().spoil_status {
            statuses.to_mut().iter_mut().for_each(spoil);
        }
        self.effect(Effect::Record(&statuses, events), |machine| {
            machine.keep(events, statuses.is_empty());
            let wanted = statuses.iter().filter(|status| machine.desired.0.contains_key(&status.project));
            machine.statuses.extend(wanted.map(|status| (status.project.clone(), status.clone())));
            Ok(())
        })
    }
    fn open_values(
        &self,
        project: &ProjectId,
        env: &BTreeMap<EnvName, Sealed>,
        _: &BTreeMap<EnvName, SecretVersion>,
    ) -> Result<BTreeMap<EnvName, Zeroizing<String>>, PortError> {
        let machine = self.lock();
        // What a test wants without a document has no stored values.
        let stored = env.iter().filter(|_| machine.records.contains_key(project));
        let open = |(name, value): (&EnvName, &Sealed)| {
            let opened = machine.sealed.open(project, Kind::Env, name.as_str(), value.sealed)?;
            Ok((name.clone(), opened))
        };
        stored.map(open).collect()
    }
    fn delete_record(&self, project: &ProjectId, generation: u64) -> Result<(), PortError> {
        self.effect(Effect::Forget(project), |machine| {
            machine.forget_project(project, generation);
            Ok(())
        })
    }
}

impl Units for World {
    fn observe(&self) -> Result<BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>>, PortError> {
        let mut machine = self.lock();
        machine.interrupt();
        if machine.blind.units {
            return Err(blind("list units"));
        }
        let mut all: BTreeMap<ProjectId, BTreeMap<UnitId, UnitSeen>> = BTreeMap::new();
        for (unit, seen) in &machine.units {
            let since = seen.since.filter(|_| !machine.timeless);
            let invocation = seen.invocation.clone().filter(|_| !machine.timeless);
            let seen = UnitSeen { since, invocation, ..seen.clone() };
            all.entry(unit.project.clone()).or_default().insert(unit.clone(), seen);
        }
        Ok(all)
    }
    fn write(&self, order: &UnitOrder, _: &[u8]) -> Result<(), PortError> {
        self.effect(Effect::Write(order), |machine| {
            if machine.disk_full {
                return Err(PortError::transient(Reason::DiskFull, "could not write a unit: no space left on device"));
            }
            machine.place(order);
            let seen = machine.units.entry(order.unit.clone()).or_default();
            seen.needs_reload = seen.is_up() && seen.text.as_ref() != Some(&order.text);
            seen.text = Some(order.text.clone());
            seen.launch_blob = true;
            if let Some(text) = &order.timer {
                seen.timer.get_or_insert_default().text = Some(text.clone());
            }
            Ok(())
        })
    }
    fn reload(&self) -> Result<(), PortError> {
        self.effect(Effect::Reload, |machine| {
            machine.units.values_mut().for_each(|seen| seen.needs_reload = false);
            Ok(())
        })
    }
    fn start(&self, unit: &UnitId) -> Result<(), PortError> {
        self.effect(Effect::Start(unit), |machine| {
            if machine.units.get(unit).is_none_or(|seen| seen.text.is_none()) {
                return Err(PortError::permanent(
                    Reason::UnitTampered,
                    format!("systemd does not read {unit} as it was written"),
                ));
            }
            machine.begin_run(unit);
            Ok(())
        })
    }
    fn stop(&self, unit: &UnitId) -> Result<(), PortError> {
        self.effect(Effect::Stop(unit), |machine| {
            machine.end_run(unit);
            Ok(())
        })
    }
    fn enable(&self, unit: &UnitId) -> Result<(), PortError> {
        self.hears()?;
        self.effect(Effect::Enable(unit), |machine| {
            machine.units.entry(unit.clone()).or_default().enabled = true;
            Ok(())
        })
    }
    fn arm(&self, unit: &UnitId) -> Result<(), PortError> {
        self.effect(Effect::Arm(unit), |machine| {
            let timer = machine.units.entry(unit.clone()).or_default().timer.get_or_insert_default();
            (timer.active, timer.enabled) = (true, true);
            Ok(())
        })
    }
    fn disarm(&self, unit: &UnitId) -> Result<(), PortError> {
        self.effect(Effect::Disarm(unit), |machine| {
            let timer = machine.units.entry(unit.clone()).or_default().timer.get_or_insert_default();
            (timer.active, timer.enabled) = (false, false);
            Ok(())
        })
    }
    fn remove(&self, unit: &UnitId) -> Result<(), PortError> {
        self.effect(Effect::RemoveUnit(unit), |machine| {
            machine.units.remove(unit);
            machine.apps.remove(unit);
            machine.ready.remove(unit);
            Ok(())
        })
    }
    fn proxy_runs(&self) -> Result<bool, PortError> {
        Ok(self.lock().proxy.up)
    }
    fn start_proxy(&self) -> Result<(), PortError> {
        self.effect(Effect::StartProxy, |machine| {
            machine.proxy.up = true;
            machine.proxy.live = machine.proxy.text.is_some();
            machine.sites = machine.file_sites.clone();
            Ok(())
        })
    }
}

impl Bundles for World {
    fn observe(&self, project: &ProjectId) -> Result<BundlesSeen, PortError> {
        let mut machine = self.lock();
        machine.interrupt();
        if machine.blind.bundles {
            return Err(PortError::transient(Reason::DiskFailed, "could not read the project's files"));
        }
        let mut seen = machine.bundles.get(project).cloned().unwrap_or_default();
        if machine.blind.lies {
            // A release whose manifest cannot be read looks as if it were not there.
            seen.releases.pop_last();
        }
        Ok(seen)
    }
    fn fetches(&self, project: &ProjectId) -> BTreeMap<ReleaseNo, FetchSeen> {
        let machine = self.lock();
        let own = machine.fetches.iter().filter(|((owner, _), _)| owner == project);
        own.map(|((_, number), fetch)| (*number, fetch.seen.clone())).collect()
    }
    fn prepare(&self, project: &ProjectId, open: bool) -> Result<(), PortError> {
        self.effect(Effect::Prepare(project), |machine| {
            let bundle = machine.bundle(project);
            (bundle.user, bundle.directory, bundle.data, bundle.fronts) = (true, true, true, true);
            bundle.readable_by_caddy = open;
            Ok(())
        })
    }
    fn fetch(&self, project: &ProjectId, order: &FetchOrder) -> Result<(), PortError> {
        self.effect(Effect::Fetch(project, order), |machine| {
            machine.begin_fetch(project, order);
            Ok(())
        })
    }
    fn cancel(&self, project: &ProjectId, release: ReleaseNo) {
        // It answers nothing, so no answer can be lost.
        let _ = self.effect(Effect::Cancel(project, release), |machine| {
            machine.fetches.remove(&(project.clone(), release));
            Ok(())
        });
    }
    fn point(&self, project: &ProjectId, process: &ProcessName, slot: Slot) -> Result<(), PortError> {
        self.hears()?;
        self.effect(Effect::Point(project, process, slot), |machine| {
            let markers = &mut machine.bundle(project).markers;
            match slot {
                Slot::A => drop(markers.remove(process)),
                Slot::B => drop(markers.insert(process.clone())),
            }
            Ok(())
        })
    }
    fn link(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError> {
        self.hears()?;
        self.effect(Effect::Link(project, release), |machine| {
            machine.bundle(project).link = Some(release);
            Ok(())
        })
    }
    fn remove_release(&self, project: &ProjectId, release: ReleaseNo) -> Result<(), PortError> {
        self.effect(Effect::RemoveRelease(project, release), |machine| {
            machine.bundle(project).releases.remove(&release);
            Ok(())
        })
    }
    fn artifacts(&self) -> Result<BTreeMap<Sha256, Timestamp>, PortError> {
        let machine = self.lock();
        if machine.blind.bundles {
            Err(PortError::transient(Reason::DiskFailed, "could not read artifacts"))
        } else {
            Ok(machine.artifacts.clone())
        }
    }
    fn remove_artifact(&self, sha256: &Sha256) -> Result<(), PortError> {
        self.effect(Effect::RemoveArtifact(sha256), |machine| {
            machine.artifacts.remove(sha256);
            Ok(())
        })
    }
    fn remove_all(&self, project: &ProjectId, keep_data: bool) -> Result<(), PortError> {
        self.effect(Effect::RemoveFiles(project), |machine| {
            let kept = BundlesSeen { user: keep_data, data: keep_data, ..BundlesSeen::default() };
            machine.bundles.insert(project.clone(), kept);
            machine.fetches.retain(|(owner, _), _| owner != project);
            Ok(())
        })
    }
}

impl Health for World {
    fn probe(&self, orders: &[ProbeOrder]) -> BTreeMap<UnitId, Probed> {
        let machine = self.lock();
        if machine.blind.health {
            return BTreeMap::new();
        }
        let found = orders.iter().map(|order| {
            let ready = machine.ready.get(&order.unit).map(|ready| ready.probed);
            // A probe that did not come round yet tells of the run before.
            let runs = machine.units.get(&order.unit).and_then(|unit| unit.invocation.clone());
            let invocation = if machine.blind.lies { Some("0".to_owned()) } else { runs.filter(|_| !machine.timeless) };
            let ok_since = if machine.blind.lies || machine.blessing { Some(Timestamp(0)) } else { ready };
            let last = if ok_since.is_some() { "GET /up answered 200" } else { "GET /up answered 503" };
            let last = last.to_owned();
            let at = machine.now;
            (order.unit.clone(), Probed { invocation, at, ok_since, tries: 1, transcript: vec![last.clone()], last })
        });
        found.collect()
    }
    fn visit(&self, visits: &BTreeSet<Visit>) {
        self.lock().visits = visits.clone();
    }
    fn visited(&self) -> BTreeMap<Visit, Visited> {
        let machine = self.lock();
        let found = machine.visits.iter().map(|visit| {
            // Caddy answers with what stands in the slot that has the traffic.
            let origin = machine.origins.get(&(visit.project.clone(), visit.release)).map_or("", String::as_str);
            let well = match visit.purpose {
                Purpose::Verify { .. } if origin.contains("unverified") => false,
                Purpose::Verify { since, .. } if origin.contains("verified-in-time") => {
                    machine.now >= since.after(Span::seconds(3))
                }
                _ => true,
            };
            let last = format!("GET {} answered {}", visit.path, if well { 200 } else { 500 });
            let transcript = vec![last.clone()];
            (visit.clone(), Visited { at: machine.now, well, unanswered: false, last, transcript })
        });
        found.collect()
    }
}

impl Tail for World {
    fn tail(&self, units: &[UnitId], _: u32) -> Vec<LogLine> {
        let last = |unit: &UnitId| LogLine {
            time: self.lock().now,
            unit: unit.name(),
            priority: None,
            message: format!("last words of {unit}"),
            own: true,
        };
        units.iter().map(last).collect()
    }
}

impl Routes for World {
    fn observe(&self) -> Result<ProxySeen, PortError> {
        let machine = self.lock();
        if machine.blind.proxy { Err(blind("ask Caddy")) } else { Ok(machine.proxy.clone()) }
    }
    fn certificates(&self, hosts: &BTreeSet<Hostname>) -> BTreeMap<Hostname, CertificateSeen> {
        hosts.iter().map(|host| (host.clone(), CertificateSeen::Issued)).collect()
    }
    fn refusal(&self, order: &RoutesOrder) -> Result<Option<String>, PortError> {
        let refuses = |host: &str| order.sites.iter().any(|site| site.host.as_str() == host);
        let machine = self.lock();
        let refused = machine.refused.as_deref().filter(|host| refuses(host));
        Ok(refused.map(|host| format!("ambiguous site definition: {host}")))
    }
    fn differing(&self, order: &RoutesOrder) -> BTreeSet<Hostname> {
        let machine = self.lock();
        let served = |site: &&Site| machine.sites.contains(site);
        let differing: BTreeSet<Hostname> =
            order.sites.iter().filter(|site| !served(site)).map(|site| site.host.clone()).collect();
        match differing.is_empty() || !machine.one_for_all {
            true => differing,
            false => order.sites.iter().map(|site| site.host.clone()).collect(),
        }
    }
    fn surroundings(&self, ours: &str) -> String {
        format!("{:?} {ours}", self.lock().refused)
    }
    fn load(&self, order: &RoutesOrder) -> Result<(), PortError> {
        self.lock().note_read(|oracle, _| oracle.note_offer(order));
        if let Some(why) = self.refusal(order)? {
            return Err(PortError::transient(Reason::RouteRefused, why));
        }
        self.effect(Effect::LoadRoutes(order), |machine| {
            if !machine.proxy.up {
                return Err(PortError::transient(Reason::ProxyDown, "could not ask Caddy"));
            }
            machine.proxy.text = Some(order.text.clone());
            machine.proxy.live = true;
            machine.sites = order.sites.clone();
            machine.file_sites = order.sites.clone();
            Ok(())
        })
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.lock().now
    }
}
