//! The rules of writing: what each request does to each kind of stored record, as one table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use zeroize::Zeroizing;
use zexio::model::desired::{
    Content, DesiredService, HeldUntil, Intent, OperatorSuspension, Owner, Refusal, RefusalKind, ServiceIntent,
};
use zexio::model::document;
use zexio::model::event::{By, Event, Level};
use zexio::model::failure::PortError;
use zexio::model::names::{EnvName, KeyId, ProjectId, ReleaseNo, Slot};
use zexio::model::problem::SpecError;
use zexio::model::progress::{Cause, End, ProjectProgress, Rejected, Release, Target};
use zexio::model::quantity::Timestamp;
use zexio::model::reason::Reason;
use zexio::model::record::{Damage, Goal, Overlay, Part, Record};
use zexio::model::services::{Service, Version};
use zexio::model::spec::{Artifact, ArtifactFrom, Given, Plain, Sealed, Source, Spec, Updates};
use zexio::plan::accept::admit::{Admitted, Origin, UrlCheck, admit};
use zexio::plan::accept::project::{self as rules, Deliveries, Delivery, StoredProgress};
use zexio::plan::accept::values::{self, Kind, Values};
use zexio::plan::accept::{Change, Request, Write, WriteError, service};

const NOW: Timestamp = Timestamp(1_000_000);

fn shop() -> ProjectId {
    ProjectId::parse("shop").unwrap()
}

fn file() -> Owner {
    Owner::File("shop.yaml".into())
}

fn text(artifact: &str, rest: &str) -> String {
    format!(
        "zexio: 1\nproject: shop\nartifact: {{ {artifact}, updates: webhook }}\nprocesses: {{ web: {{ run: ./x, routes: [{{ host: a.example.com }}] }} }}\n{rest}"
    )
}

fn spec(artifact: &str, rest: &str) -> Spec {
    let document = document::parse(text(artifact, rest).as_bytes()).unwrap();
    document.try_map_env(|_, _| Ok::<_, ()>(Sealed { sealed: 1 })).unwrap()
}

fn https() -> UrlCheck {
    Arc::new(|url| if url.starts_with("https://") { Ok(()) } else { Err("only https".into()) })
}

fn admitted(text: &str, origin: Origin<'_>) -> Result<Admitted, SpecError> {
    admit(text.as_bytes(), document::parse(text.as_bytes()).unwrap(), origin, &https())
}

const V1: &str = "url: 'https://a.example.com/1', version: '1'";

fn url(name: &str) -> Artifact {
    let url = format!("https://a.example.com/{name}");
    let version = spec(&format!("url: '{url}', version: '{name}'"), "").artifact.version;
    Artifact { from: ArtifactFrom::Source(Source::Url { url, sha256: None }), version, updates: Updates::Fixed }
}

fn back_to(release: u32) -> Artifact {
    Artifact { from: ArtifactFrom::Release(ReleaseNo(release)), version: None, ..url("1") }
}

fn overlay(artifact: Artifact, by: &By) -> Option<Overlay> {
    Some(Overlay { artifact: Artifact { updates: Updates::Webhook, ..artifact }, by: by.to_string() })
}

fn key() -> By {
    By::Key(KeyId::parse("ops").unwrap())
}

fn github() -> By {
    By::Webhook("github".into())
}

fn held(until: Option<Timestamp>) -> Option<OperatorSuspension> {
    Some(OperatorSuspension { by: "key ops".into(), since: Timestamp(1), reason: Some("night".into()), until })
}

fn refusal(kind: RefusalKind) -> Option<Refusal> {
    Some(Refusal { kind, message: "zz.yaml".into() })
}

fn runs() -> Record {
    Record {
        generation: 7,
        goal: Goal::Run,
        owner: Owner::Api,
        spec: Some(spec(V1, "")),
        overlay: None,
        refusal: None,
        suspension: None,
        damage: None,
    }
}

fn damage(part: Part) -> Option<Damage> {
    Some(Damage { part, why: "could not read it".into() })
}

/// The kinds of record, by name.
fn records() -> Vec<(&'static str, Option<Record>)> {
    let leaves = Record { goal: Goal::Delete { keep_data: true }, ..runs() };
    let held_back = RefusalKind::PruneRefused { until: HeldUntil::Confirmed };
    let unread = Record { goal: Goal::Nothing, generation: 0, spec: None, owner: file(), ..runs() };
    let known = [
        ("runs", runs()),
        ("of a file, another claims it", Record { owner: file(), refusal: refusal(RefusalKind::Conflict), ..runs() }),
        ("of a file that is gone", Record { owner: file(), refusal: refusal(held_back), ..runs() }),
        ("moved to 2 by a webhook", Record { overlay: overlay(url("2"), &github()), ..runs() }),
        ("moved back to release 3", Record { overlay: overlay(back_to(3), &key()), ..runs() }),
        ("moved back to release 9, which is not known", Record { overlay: overlay(back_to(9), &key()), ..runs() }),
        ("its file was never readable", Record { refusal: refusal(RefusalKind::SpecInvalid), ..unread }),
        ("its spec cannot be read", Record { spec: None, damage: damage(Part::Other), ..runs() }),
        (
            "its spec cannot be read, moved to 2",
            Record { spec: None, overlay: overlay(url("2"), &github()), damage: damage(Part::Other), ..runs() },
        ),
        ("its moved artifact cannot be read", Record { damage: damage(Part::Overlay), ..runs() }),
        (
            "of a file, its spec cannot be read",
            Record { owner: file(), spec: None, damage: damage(Part::Other), ..runs() },
        ),
        (
            "of a file, its moved artifact cannot be read",
            Record { owner: file(), damage: damage(Part::Overlay), ..runs() },
        ),
        ("suspended", Record { suspension: held(None), ..runs() }),
        ("leaves", leaves.clone()),
        ("leaves, suspended", Record { suspension: held(None), ..leaves.clone() }),
        ("leaves, its suspension is over", Record { suspension: held(Some(NOW)), ..leaves }),
    ];
    let known = known.map(|(name, record)| (name, Some(record)));
    [("unknown", None)].into_iter().chain(known).collect()
}

/// Returns progress with release 3, and whether the artifact that is wanted could not be fetched.
fn progress(lacks: bool) -> ProjectProgress {
    let release = |artifact: &str, sha256: bool, unfetched: bool| Release {
        content: Content::of(
            &spec(artifact, ""),
            spec(artifact, "").artifact.source().unwrap().clone(),
            &BTreeMap::new(),
        )
        .unwrap()
        .into(),
        sha256: sha256.then(|| "ab".repeat(32).parse().unwrap()),
        version: spec(artifact, "").artifact.version,
        slot: Slot::A,
        created_at: Timestamp(1),
        since: Timestamp(1),
        was_healthy: false,
        promotion_seq: 0,
        end: unfetched.then(|| {
            End::Rejected(Rejected {
                cause: Cause::unknown(Timestamp(1)),
                generation: 1,
                fetched: false,
                evidence: None,
            })
        }),
        rolled_back: false,
    };
    let mut progress = ProjectProgress {
        target: Target::Failed { release: ReleaseNo(4), kept_for_inspection: false },
        ..ProjectProgress::default()
    };
    progress.releases.insert(ReleaseNo(3), release(V1, true, false));
    progress.releases.insert(ReleaseNo(4), release("url: 'https://a.example.com/2', version: '2'", false, lacks));
    progress
}

fn unreadable() -> StoredProgress {
    Err(PortError::transient(Reason::Database, "could not read progress"))
}

fn event(event: &Option<Event>) -> String {
    let Some(event) = event else { return String::new() };
    assert_eq!(event.time, NOW);
    let level = if event.level == Level::Warning { "!" } else { "" };
    let release = event.release.map(|release| format!(" of release {release}")).unwrap_or_default();
    let generation = event.generation.map(|generation| format!(" at {generation}")).unwrap_or_default();
    format!("; {level}{}{generation}{release}: {}", event.reason, event.message)
}

/// Shows what differs between two records.
fn difference(old: Option<&Record>, new: &Record) -> String {
    let empty = Record { generation: 0, goal: Goal::Nothing, owner: Owner::Api, spec: None, ..runs() };
    let old = old.unwrap_or(&empty);
    let mut text = String::new();
    if old.generation != new.generation {
        write!(text, " generation {}", new.generation).unwrap();
    }
    if old.goal != new.goal {
        write!(text, " {:?}", new.goal).unwrap();
    }
    if old.owner != new.owner {
        write!(text, " owner {}", new.owner).unwrap();
    }
    if old.spec != new.spec {
        let of = |record: &Record| record.spec.as_ref().map(|spec| spec.artifact.clone());
        write!(text, " spec{}", if of(old) == of(new) { "" } else { " with its artifact" }).unwrap();
    }
    if old.overlay != new.overlay {
        let shown = new.overlay.as_ref().map_or("none".into(), |Overlay { artifact, by }| {
            let Artifact { from, version, updates } = artifact;
            let version = version.as_ref().map(|version| version.as_str());
            let from = match from {
                ArtifactFrom::Source(Source::Url { url, .. }) => url.clone(),
                ArtifactFrom::Source(Source::File { name, .. }) => name.as_str()[..4].to_owned(),
                ArtifactFrom::Release(number) => format!("release {number}"),
            };
            format!("{from} version {version:?} {updates:?} by {by:?}")
        });
        write!(text, " overlay {shown}").unwrap();
    }
    if old.refusal != new.refusal {
        write!(text, " refusal {:?}", new.refusal.as_ref().map(|it| it.kind.reason())).unwrap();
    }
    if old.damage != new.damage {
        write!(text, " damage {:?}", new.damage).unwrap();
    }
    if old.suspension != new.suspension {
        write!(text, " suspended {}", new.suspension.is_some()).unwrap();
    }
    text
}

fn shown<T: std::fmt::Debug>(old: &Option<Record>, done: Result<Change<Record, T>, WriteError>) -> String {
    match done {
        Err(error) => format!("REFUSED {error}"),
        Ok(Change { write, answer, event: told }) => {
            let write = match &write {
                Write::Nothing => "nothing".to_owned(),
                Write::Delete => "forget it".to_owned(),
                Write::Reset(record) => format!("drop its progress, save{}", difference(old.as_ref(), record)),
                Write::Save(record) => format!("save{}", difference(old.as_ref(), record)),
            };
            format!("{write} -> {answer:?}{}", event(&told)).replace(" -> ()", "")
        }
    }
}

fn request(by: &By) -> Request<'_> {
    Request { by, now: NOW }
}

fn put(old: &Option<Record>, text: &str, owner: &Owner, expect: Option<u64>, progress: &StoredProgress) -> String {
    let by = match owner {
        Owner::Api => key(),
        Owner::File(name) => By::File(name.clone()),
    };
    let document = admitted(text, Origin::Request { stored: None, now: NOW }).unwrap();
    let (env, mut values) = (text.contains("env:"), Clear::default());
    let done = rules::put(old.clone(), document, owner, expect, request(&by), &mut values, progress);
    let allowed = matches!(done, Ok(_) | Err(WriteError::Store(_)));
    assert_eq!(values.stored.len(), usize::from(env && allowed), "values are sealed for what is allowed");
    shown(old, done)
}

/// Returns what each request does to a record.
fn requests(old: &Option<Record>) -> Vec<(&'static str, String)> {
    let (fine, lacks) = (Ok(progress(false)), Ok(progress(true)));
    let put = |rest: &str, owner: &Owner, expect, progress| put(old, &text(V1, rest), owner, expect, progress);
    let other = text("url: 'https://a.example.com/5', version: '5'", "");
    let rerouted = text(V1, "").replace("a.example.com }]", "b.example.com }]");
    let overlay = |artifact: Artifact, by: &By, progress| {
        shown(old, rules::overlay(old.clone(), &shop(), &artifact, request(by), progress))
    };
    let set_refusal = |owner: &Owner, about: Option<&Refusal>| {
        shown(old, Ok(rules::set_refusal(old.clone(), &shop(), owner, about, NOW)))
    };
    let suspend = |it: Option<OperatorSuspension>| {
        shown(old, rules::set_suspension(old.clone(), &shop(), it.as_ref(), request(&key())))
    };
    let by_file = By::File("shop.yaml".into());
    let delete = |owner: &Owner, keep_data, by: &By, progress| {
        shown(old, rules::delete(old.clone(), &shop(), owner, keep_data, request(by), progress))
    };
    let again = |progress| shown(old, rules::fetch_again(old.clone(), &shop(), request(&key()), progress));
    let conflict = refusal(RefusalKind::Conflict);
    vec![
        ("put the same", put("", &Owner::Api, None, &fine)),
        ("put another variable", put("env: { A: x }", &Owner::Api, None, &fine)),
        ("put another variable, progress unreadable", put("env: { A: x }", &Owner::Api, None, &unreadable())),
        ("put another keep", put("keep: 2", &Owner::Api, None, &fine)),
        ("put another suspend", put("suspend: true", &Owner::Api, None, &fine)),
        ("put another drain", put("deploy: { drain: 1s }", &Owner::Api, None, &fine)),
        ("put another hook", put("hooks: { generic: {} }", &Owner::Api, None, &fine)),
        ("put other routes", self::put(old, &rerouted, &Owner::Api, None, &fine)),
        ("put another artifact", self::put(old, &other, &Owner::Api, None, &fine)),
        ("put, expecting 7", put("keep: 2", &Owner::Api, Some(7), &fine)),
        ("put, expecting 0", put("keep: 2", &Owner::Api, Some(0), &fine)),
        ("put by the file", put("", &file(), None, &fine)),
        ("delete", delete(&Owner::Api, false, &key(), &fine)),
        ("delete, keep data", delete(&Owner::Api, true, &key(), &fine)),
        ("delete, progress unreadable", delete(&Owner::Api, false, &key(), &unreadable())),
        ("delete by the file", delete(&file(), false, &by_file, &fine)),
        ("adopt from the API", shown(old, rules::change_owner(old.clone(), &shop(), &Owner::Api, &file(), NOW))),
        ("move to 1, as the spec", overlay(url("1"), &key(), &fine)),
        ("move to 1, not fetched", overlay(url("1"), &key(), &lacks)),
        ("move to 2 by a webhook", overlay(url("2"), &github(), &fine)),
        ("move to 2, not fetched", overlay(url("2"), &key(), &lacks)),
        ("move to 2, progress unreadable", overlay(url("2"), &key(), &unreadable())),
        ("move to bytes without a version", {
            let url = "https://a.example.com/2".to_owned();
            let from = ArtifactFrom::Source(Source::Url { url, sha256: "cd".repeat(32).parse().ok() });
            overlay(Artifact { from, version: None, updates: Updates::Fixed }, &key(), &fine)
        }),
        ("move to a URL alone", overlay(Artifact { version: None, ..url("2") }, &key(), &fine)),
        ("back to release 3", overlay(back_to(3), &key(), &fine)),
        ("fetch again", again(&fine)),
        ("fetch again, not fetched", again(&lacks)),
        ("fetch again, progress unreadable", again(&unreadable())),
        ("suspend", suspend(held(None))),
        ("resume", suspend(None)),
        ("refuse for the API", set_refusal(&Owner::Api, conflict.as_ref())),
        ("refuse for the file", set_refusal(&file(), conflict.as_ref())),
        ("no refusal for the API", set_refusal(&Owner::Api, None)),
        ("no refusal for the file", set_refusal(&file(), None)),
    ]
}

#[test]
fn every_request_to_every_record_of_a_project() {
    let mut text = String::new();
    for (name, record) in records() {
        writeln!(text, "{name}").unwrap();
        for (request, done) in requests(&record) {
            writeln!(text, "  {request}: {done}").unwrap();
        }
    }
    crate::assert_golden("accept-projects.txt", &text);
}

#[test]
fn a_delivery_counts_once_and_never_after_a_newer_one() {
    let mut text = String::new();
    for (stored, seen, edited, made) in [
        (0, false, false, 20),
        (0, false, true, 20),
        (20, true, false, 20),
        (20, false, false, 20),
        (20, false, true, 20),
        (20, false, true, 21),
        (20, true, true, 21),
        (20, false, false, 19),
        (20, true, false, 19),
    ] {
        let delivery = Delivery { provider: "github", id: "d".into(), made: Timestamp(made), edited };
        let stored = Deliveries { newest: Timestamp(stored), seen };
        for (name, progress) in [("", Ok(progress(false))), (", not fetched", Ok(progress(true)))] {
            let old = Some(runs());
            let done = rules::deliver(old.clone(), &shop(), &url("2"), &delivery, stored, NOW, &progress);
            let newest = stored.newest.0;
            writeln!(text, "newest {newest}, seen {seen}, edited {edited}, of {made}{name}: {}", shown(&old, done))
                .unwrap();
        }
    }
    let delivery = Delivery { provider: "github", id: "d".into(), made: Timestamp(20), edited: false };
    let to_none = rules::deliver(None, &shop(), &url("2"), &delivery, Deliveries::default(), NOW, &Ok(progress(true)));
    writeln!(text, "to an unknown project: {}", shown(&None, to_none)).unwrap();
    let unread = rules::deliver(None, &shop(), &url("2"), &delivery, Deliveries::default(), NOW, &unreadable());
    writeln!(text, "progress unreadable: {}", shown(&None, unread)).unwrap();
    crate::assert_golden("accept-deliveries.txt", &text);
}

#[test]
fn a_record_is_forgotten_only_as_it_was_removed() {
    let leaves = Record { goal: Goal::Delete { keep_data: false }, ..runs() };
    assert!(rules::may_forget(&leaves, 7));
    assert!(!rules::may_forget(&leaves, 6));
    assert!(!rules::may_forget(&runs(), 7));
}

#[test]
fn what_a_record_means() {
    let wanted = |record: Record| record.desired_project(BTreeMap::new());
    let moved = |by: &By| Record { overlay: overlay(url("2"), by), ..runs() };
    assert!(
        wanted(moved(&github())).artifact_from_webhook
            && !wanted(moved(&key())).artifact_from_webhook
            && !wanted(runs()).artifact_from_webhook
    );
    let damaged = wanted(Record { damage: damage(Part::Overlay), ..runs() }).intent;
    assert!(matches!(damaged, Intent::Unreadable(why) if why.starts_with("could not read it; its processes run on")));
    let goal = Goal::Delete { keep_data: true };
    let leaves = Record { goal, damage: damage(Part::Other), spec: None, ..runs() };
    assert_eq!(wanted(leaves).intent, Intent::Delete { keep_data: true }, "a removal needs no spec");
    assert_eq!(wanted(moved(&key())).spec().unwrap().artifact.from, url("2").from);
}

#[test]
fn every_request_to_every_record_of_a_service() {
    const PG: Service = Service::Postgresql;
    let installed = DesiredService {
        generation: 7,
        intent: ServiceIntent::Install(Version::Major(15)),
        owner: Owner::Api,
        refusal: refusal(RefusalKind::SpecInvalid),
    };
    let leaves = DesiredService { intent: ServiceIntent::Remove { purge: false }, ..installed.clone() };
    let of_file = DesiredService { owner: file(), ..installed.clone() };
    let mut text = String::new();
    for (name, old) in [
        ("unknown", None),
        ("installed", Some(installed)),
        ("of a file", Some(of_file)),
        ("leaves", Some(leaves.clone())),
    ] {
        writeln!(text, "{name}").unwrap();
        let shown = |done: Result<Change<DesiredService, String>, WriteError>| match done {
            Err(error) => format!("REFUSED {error}"),
            Ok(Change { write: Write::Save(new), answer, event: told }) => {
                let refusal = new.refusal.as_ref().map(|it| it.kind.reason());
                let DesiredService { generation, intent, owner, .. } = &new;
                format!("save {generation} {intent:?} of {owner} refusal {refusal:?} -> {answer}{}", event(&told))
            }
            Ok(change) => format!("{:?} -> {}{}", change.write, change.answer, event(&change.event)),
        };
        let text_of = |it: &dyn std::fmt::Debug| format!("{it:?}");
        let put = |version, owner: &Owner, heir: Option<&Owner>| {
            let done = service::put(old.clone(), PG, version, owner, heir, request(&key()));
            shown(done.map(|Change { write, answer, event }| Change { write, answer: text_of(&answer), event }))
        };
        let delete = |owner: &Owner, purge, by: &By| {
            let done = service::delete(old.clone(), PG, owner, purge, request(by));
            shown(done.map(|Change { write, answer, event }| Change { write, answer: text_of(&answer), event }))
        };
        let set_refusal = |owner: &Owner, about: Option<&Refusal>| {
            let Change { write, event, .. } = service::set_refusal(old.clone(), owner, about);
            shown(Ok(Change { write, answer: String::new(), event }))
        };
        let conflict = refusal(RefusalKind::Conflict);
        for (name, done) in [
            ("put 15", put(Version::Major(15), &Owner::Api, None)),
            ("put the default", put(Version::Default, &Owner::Api, None)),
            ("put 15 by the file", put(Version::Major(15), &file(), None)),
            ("put 15 by another file, its heir", put(Version::Major(15), &Owner::File("b.yaml".into()), Some(&file()))),
            ("delete", delete(&Owner::Api, false, &key())),
            ("purge", delete(&Owner::Api, true, &key())),
            ("delete by the file", delete(&file(), false, &By::File("shop.yaml".into()))),
            ("refuse", set_refusal(&Owner::Api, conflict.as_ref())),
            ("no refusal for the file", set_refusal(&file(), None)),
        ] {
            writeln!(text, "  {name}: {done}").unwrap();
        }
    }
    crate::assert_golden("accept-services.txt", &text);
    assert!(service::may_forget(&leaves, 7) && !service::may_forget(&leaves, 8));
    let installed = DesiredService { intent: ServiceIntent::Install(Version::Default), ..leaves };
    assert!(!service::may_forget(&installed, 7));
}

/// Values in the clear.
#[derive(Default)]
struct Clear {
    stored: BTreeMap<(Kind, String, u32), String>,
    /// None of them can be opened.
    locked: bool,
}

impl Values for Clear {
    fn versions(&self, kind: Kind, name: &str) -> Result<Vec<u32>, PortError> {
        let all = self.stored.keys().filter(|(of, known, _)| (*of, known.as_str()) == (kind, name));
        Ok(all.map(|(.., version)| *version).collect())
    }
    fn open(&self, kind: Kind, name: &str, version: u32) -> Result<Zeroizing<String>, PortError> {
        let value = self.stored.get(&(kind, name.to_owned(), version)).filter(|_| !self.locked);
        value
            .cloned()
            .map(Zeroizing::new)
            .ok_or_else(|| PortError::transient(Reason::KeyUnavailable, "could not open it"))
    }
    fn seal(&mut self, kind: Kind, name: &str, version: u32, value: &Plain) -> Result<(), PortError> {
        assert!(self.stored.insert((kind, name.to_owned(), version), value.open().to_owned()).is_none(), "{version}");
        Ok(())
    }
}

fn plain(value: &str) -> Plain {
    Plain::parse(value.to_owned()).unwrap()
}

#[test]
fn a_value_gets_a_new_version_when_it_is_another() {
    let mut stored = Clear::default();
    let mut store = |kind, value: &str| values::store(&mut stored, kind, "A", &plain(value)).unwrap();
    assert_eq!((store(Kind::Secret, "x"), store(Kind::Secret, "x"), store(Kind::Secret, "y")), (1, 1, 2));
    assert_eq!(store(Kind::Env, "y"), 1, "a variable is no secret");
    stored.locked = true;
    assert_eq!(
        values::store(&mut stored, Kind::Secret, "A", &plain("y")).unwrap(),
        3,
        "what cannot be compared is new"
    );
    assert_eq!((Kind::Env.as_str(), Kind::Secret.as_str()), ("env", "secret"), "they stand in databases");
}

#[test]
fn a_value_as_it_is_shown_stands_for_a_stored_one() {
    let mut stored = Clear::default();
    let name = EnvName::parse("A").unwrap();
    let mut give = |given: Given| {
        let done = values::store_given(&mut stored, &shop(), &name, &given);
        done.map(|sealed| sealed.sealed).map_err(|e| e.to_string())
    };
    let as_it_is = |sealed| Given::AsItIs(Sealed { sealed });
    let none = give(as_it_is(1)).unwrap_err();
    assert_eq!(none, "env.A: {sealed: 1} stands for a stored value, and shop has none of this name; write the value");
    assert_eq!(give(Given::Clear(plain("x"))), Ok(1));
    assert_eq!(give(Given::Clear(plain("y"))), Ok(2));
    assert_eq!((give(as_it_is(2)), give(as_it_is(1))), (Ok(2), Ok(3)), "an older one becomes the newest");
    stored.stored.remove(&(Kind::Env, "A".into(), 2));
    let gone = values::store_given(&mut stored, &shop(), &name, &as_it_is(2)).unwrap_err().to_string();
    assert_eq!(gone, "env.A: {sealed: 2} is not stored any more; write {sealed: 3} for the newest, or the value");
}

#[test]
fn versions_that_no_release_names_may_go_but_the_newest() {
    let mut content = (*progress(false).releases[&ReleaseNo(3)].content).clone();
    content.env.insert(EnvName::parse("A").unwrap(), Sealed { sealed: 2 });
    let used = zexio::model::desired::SecretVersion { name: "S".parse().unwrap(), version: 1 };
    content.secrets.insert(EnvName::parse("B").unwrap(), used);
    let mut progress = progress(false);
    progress.releases.get_mut(&ReleaseNo(3)).unwrap().content = content.into();
    let value = |kind, name: &str, version| (kind, name.to_owned(), version);
    let stored = [
        value(Kind::Env, "A", 1),
        value(Kind::Env, "A", 2),
        value(Kind::Env, "A", 3),
        value(Kind::Env, "A", 4),
        value(Kind::Env, "S", 1),
        value(Kind::Secret, "A", 2),
        value(Kind::Secret, "S", 1),
        value(Kind::Secret, "S", 2),
        value(Kind::Secret, "S", 3),
        value(Kind::Secret, "SS", 1),
    ];
    let unused = values::unused(&progress, &BTreeSet::from(stored));
    let expected = [value(Kind::Env, "A", 1), value(Kind::Env, "A", 3), value(Kind::Secret, "S", 2)];
    assert_eq!(unused, expected);
}

#[test]
fn one_admission_stands_before_every_store() {
    let stored = spec(V1, "");
    let now = Timestamp(1_767_225_600_000);
    let request = Origin::Request { stored: Some(&stored), now };
    let file = Origin::File { written: now };
    let refused = |text: &str, origin| admitted(text, origin).err().map(|error| error.to_string()).unwrap_or_default();
    for origin in [request, file] {
        assert_eq!(admitted(&text(V1, ""), origin).unwrap().project(), &shop());
        let http = text(V1, "").replace("https:", "http:");
        assert_eq!(refused(&http, origin), "line 3, column 18: artifact.url: only https");
        let over =
            text(V1, "").replace("run: ./x, routes: [{ host: a.example.com }]", "run: ./x, schedule: '2020-01-01'");
        assert!(refused(&over, origin).contains("is over and never comes again"), "{}", refused(&over, origin));
    }
    let sealed = text(V1, "env: { A: { sealed: 1 } }");
    assert_eq!(refused(&sealed, request), "");
    assert!(refused(&sealed, file).contains("a file has the value itself"));
}
