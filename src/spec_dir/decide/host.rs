//! The one file that sets the host's services: who owns them, and when a removal counts.

use std::collections::BTreeMap;

use super::{Decider, Decision, File, GONE_FOR, Holds, file_of, held_back, may_be_it, waits_for_the_operator};
use crate::model::desired::{HeldUntil, Owner, Refusal, RefusalKind, ServiceIntent};
use crate::model::services::{Service, Version};

impl Decider<'_> {
    /// Applies the services of the file that owns them; returns those whose file is missing.
    pub(super) fn take_host(&mut self, files: &BTreeMap<String, File>) -> Vec<(Service, Owner)> {
        let hosts: Vec<&String> =
            files.iter().filter(|(_, file)| matches!(file.holds, Holds::Host(_))).map(|(name, _)| name).collect();
        let owned: Vec<(Service, Owner)> = self.services_from_files().collect();
        let owner = owned.iter().find_map(|(_, owner)| file_of(owner));
        let stands = |name: &&str| files.get(*name).is_some_and(|file| !matches!(file.holds, Holds::Spec(_)));
        let holder = match owner {
            Some(owner) if stands(&owner) => Some(owner.to_owned()),
            // Another file that claimed the services before waits until their own file is really gone.
            Some(_) => hosts
                .iter()
                .find(|name| !self.was_contesting(name) || self.host_gone_for_long())
                .map(ToString::to_string),
            None => hosts.first().map(ToString::to_string),
        };
        for name in hosts.into_iter().filter(|name| Some(*name) != holder.as_ref()) {
            self.verdict.doubts.contesting.insert(name.clone());
            let of = holder.as_deref().or(owner).unwrap_or_default();
            let why = format!("the services of this host belong to file:{of}; remove one of the two files");
            self.verdict.troubles.insert(name.clone(), why);
        }
        let Some(holder) = holder else { return owned };
        if let Some(Holds::Host(services)) = files.get(&holder).map(|file| &file.holds) {
            self.take_services(&holder, services);
        }
        Vec::new()
    }

    fn take_services(&mut self, file: &str, asked: &BTreeMap<Service, Version>) {
        for (service, version) in asked {
            self.take_service(file, *service, *version);
        }
        for (service, owner) in
            self.services_from_files().filter(|(service, _)| !asked.contains_key(service)).collect::<Vec<_>>()
        {
            self.verdict.decisions.push(Decision::DropService(service, owner));
        }
    }

    fn take_service(&mut self, file: &str, service: Service, version: Version) {
        let wanted = self.services.get(&service);
        let leaves = wanted.is_none_or(|wanted| matches!(wanted.intent, ServiceIntent::Remove { .. }));
        let mine = Owner::File(file.to_owned());
        let heir_of = match wanted.map(|wanted| &wanted.owner) {
            Some(Owner::Api) if !leaves => {
                let why = format!(
                    "service {service} belongs to api; `zexio service remove {service}` there first, or leave it out here"
                );
                self.verdict.troubles.insert(file.to_owned(), why);
                return;
            }
            Some(owner) if *owner != mine => Some(owner.clone()),
            _ => None,
        };
        let same = wanted.filter(|wanted| wanted.intent == ServiceIntent::Install(version) && heir_of.is_none());
        match same {
            None => {
                let file = file.to_owned();
                self.verdict.decisions.push(Decision::PutService { service, version, file, heir_of });
            }
            Some(same) if same.refusal.is_some() => {
                self.verdict.decisions.push(Decision::SetServiceRefusal(service, mine, None));
            }
            Some(_) => {}
        }
    }

    pub(super) fn has_services(&self, name: &str) -> bool {
        self.services_from_files().any(|(_, owner)| file_of(&owner) == Some(name))
    }

    /// The services stay desired; the file's error is reported with them.
    pub(super) fn judge_broken_host(&mut self, name: &str, why: &str) {
        if !self.wrong_for_long(name) {
            return;
        }
        self.verdict.troubles.insert(name.to_owned(), why.to_owned());
        let refusal = Refusal { kind: RefusalKind::SpecInvalid, message: format!("{name}: {why}") };
        let (mine, services) = (Owner::File(name.to_owned()), self.services);
        for (service, _) in
            services.iter().filter(|(_, wanted)| wanted.owner == mine && wanted.refusal.as_ref() != Some(&refusal))
        {
            self.verdict.decisions.push(Decision::SetServiceRefusal(*service, mine.clone(), Some(refusal.clone())));
        }
    }

    fn was_contesting(&self, name: &str) -> bool {
        self.prior.doubts.contesting.contains(name)
    }

    pub(super) fn services_from_files(&self) -> impl Iterator<Item = (Service, Owner)> + '_ {
        let installed =
            self.services.iter().filter(|(_, wanted)| !matches!(wanted.intent, ServiceIntent::Remove { .. }));
        installed
            .filter(|(_, wanted)| matches!(wanted.owner, Owner::File(_)))
            .map(|(service, wanted)| (*service, wanted.owner.clone()))
    }

    pub(super) fn judge_drops(&mut self, hostless: &[(Service, Owner)], guard: Option<&str>, stranger: Option<&str>) {
        match (guard, stranger) {
            (Some(why), _) => self.refuse_drops(hostless, why),
            (None, _) if hostless.iter().any(|(service, _)| self.drop_refused(*service)) => {}
            (None, Some(file)) if self.was_wrong_for_long(file) => {
                let cure = format!("Mend {file}, or run `zexio sync --prune` to let the service go");
                self.hold_drops(hostless, HeldUntil::FileReadable, &may_be_it(file), &cure);
            }
            (None, Some(_)) => {}
            (None, None) => {
                let drops = hostless.iter().map(|(service, owner)| Decision::DropService(*service, owner.clone()));
                self.verdict.decisions.extend(drops);
            }
        }
    }

    pub(super) fn refuse_drops(&mut self, hostless: &[(Service, Owner)], why: &str) {
        let unrefused = hostless.iter().filter(|(service, _)| !self.drop_refused(*service)).cloned();
        let unrefused: Vec<(Service, Owner)> = unrefused.collect();
        let cure = "Restore the file, or run `zexio sync --prune` to let the service go";
        self.hold_drops(&unrefused, HeldUntil::Confirmed, why, cure);
    }

    fn hold_drops(&mut self, hostless: &[(Service, Owner)], until: HeldUntil, why: &str, cure: &str) {
        for (service, owner) in hostless {
            let refusal = Some(held_back(owner, until, why, cure));
            if self.services.get(service).is_some_and(|wanted| wanted.refusal != refusal) {
                self.verdict.decisions.push(Decision::SetServiceRefusal(*service, owner.clone(), refusal));
            }
        }
    }

    fn drop_refused(&self, service: Service) -> bool {
        waits_for_the_operator(self.services.get(&service).and_then(|wanted| wanted.refusal.as_ref()))
    }

    /// Tells whether the file with the services was missing for long enough; if not, schedules another observation.
    pub(super) fn host_gone_for_long(&mut self) -> bool {
        let since = *self.verdict.doubts.host_absent.get_or_insert(self.prior.doubts.host_absent.unwrap_or(self.now));
        let long = self.now >= since + GONE_FOR;
        if !long {
            self.rescan_by(since + GONE_FOR);
        }
        long
    }
}
