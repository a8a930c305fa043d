//! What every store promises, whoever implements it. The claims go through the port alone.

mod sqlite;

use std::collections::BTreeMap;

use zexio::model::desired::{Content, HeldUntil, Intent, OperatorSuspension, Owner, Refusal, RefusalKind};
use zexio::model::document;
use zexio::model::event::By;
use zexio::model::names::{EnvName, KeyId, ProjectId, ReleaseNo, SecretName, Slot};
use zexio::model::problem::SpecError;
use zexio::model::progress::{Cause, End, ProjectProgress, Rejected, Release, Target};
use zexio::model::quantity::Timestamp;
use zexio::model::services::{Service, Version};
use zexio::model::spec::{Artifact, ArtifactFrom, Plain, Source, Updates};
use zexio::plan::accept::admit::{Admitted, Origin, admit};
use zexio::port::{
    Delivery, DesiredServiceStore, DesiredStore, ProgressStore, ServiceProgressStore, WriteError, WriteResult,
};

use crate::world::World;
use crate::world::store::anywhere;

/// The whole port.
pub trait Store: DesiredStore + ProgressStore + DesiredServiceStore + ServiceProgressStore {}
impl<T: DesiredStore + ProgressStore + DesiredServiceStore + ServiceProgressStore> Store for T {}

type Claim = fn(&dyn Store);

const CLAIMS: &[(&str, Claim)] = &[
    (
        "an_equal_spec_is_no_change_and_a_generation_that_moved_is_refused",
        an_equal_spec_is_no_change_and_a_generation_that_moved_is_refused,
    ),
    ("a_project_has_one_owner", a_project_has_one_owner),
    (
        "a_changed_artifact_in_the_spec_beats_a_webhooks_and_an_unchanged_one_does_not",
        a_changed_artifact_in_the_spec_beats_a_webhooks_and_an_unchanged_one_does_not,
    ),
    (
        "a_value_as_it_is_shown_stands_for_the_stored_one_of_its_project_and_name",
        a_value_as_it_is_shown_stands_for_the_stored_one_of_its_project_and_name,
    ),
    ("a_rehearsal_writes_nothing", a_rehearsal_writes_nothing),
    ("a_delivery_is_taken_once_and_never_an_older_one", a_delivery_is_taken_once_and_never_an_older_one),
    (
        "what_could_not_be_fetched_is_tried_again_for_a_sync_or_a_redelivery_and_nothing_else_is",
        what_could_not_be_fetched_is_tried_again_for_a_sync_or_a_redelivery_and_nothing_else_is,
    ),
    (
        "a_file_that_was_never_readable_is_shown_and_leaves_nothing_behind",
        a_file_that_was_never_readable_is_shown_and_leaves_nothing_behind,
    ),
    (
        "a_write_ends_what_was_wrong_with_the_one_before_and_not_what_another_file_claims",
        a_write_ends_what_was_wrong_with_the_one_before_and_not_what_another_file_claims,
    ),
    ("a_service_has_one_owner_until_it_is_let_go", a_service_has_one_owner_until_it_is_let_go),
    (
        "secrets_are_listed_by_their_newest_version_until_they_are_removed",
        secrets_are_listed_by_their_newest_version_until_they_are_removed,
    ),
    ("only_what_was_removed_is_forgotten_and_then_all_of_it", only_what_was_removed_is_forgotten_and_then_all_of_it),
    ("a_file_with_another_name_takes_its_project_along", a_file_with_another_name_takes_its_project_along),
    ("a_suspension_stays_whatever_becomes_of_the_spec", a_suspension_stays_whatever_becomes_of_the_spec),
    ("a_nonce_is_good_once_for_each_key", a_nonce_is_good_once_for_each_key),
];

/// Holds a store to every claim; `with` gives each a new one.
pub fn hold(with: impl Fn(Claim)) {
    for (name, claim) in CLAIMS {
        println!("{name}");
        with(*claim);
    }
}

#[test]
fn the_simulators_store_keeps_the_contract() {
    hold(|claim| claim(&World::default()));
}

fn by() -> By {
    By::Key(KeyId::parse("admin").unwrap())
}

fn shop() -> ProjectId {
    ProjectId::parse("shop").unwrap()
}

fn spec(artifact: &str, env: &str) -> Result<Admitted, SpecError> {
    let text = format!(
        "zexio: 1\nproject: shop\nartifact: {{ {artifact} }}\nenv: {{ {env} }}\nprocesses: {{ web: {{ run: ./x }} }}"
    );
    let origin = Origin::Request { stored: None, now: Timestamp(1) };
    document::parse(text.as_bytes()).and_then(|document| admit(text.as_bytes(), document, origin, &anywhere()))
}

const ONE: &str = "url: 'https://a.example.com/1'";
const TWO: &str = "url: 'https://a.example.com/2'";

fn an_equal_spec_is_no_change_and_a_generation_that_moved_is_refused(db: &dyn Store) {
    let first = db.put(spec(ONE, "A: x").unwrap(), &Owner::Api, None, &by()).unwrap();
    assert!(first.created && first.generation == 1);
    let same = db.put(spec(ONE, "A: x").unwrap(), &Owner::Api, Some(1), &by()).unwrap();
    assert!(!same.changed && same.generation == 1);
    assert_eq!(db.put(spec(ONE, "A: y").unwrap(), &Owner::Api, None, &by()).unwrap().generation, 2);
    assert_eq!(db.put(spec(ONE, "A: z").unwrap(), &Owner::Api, Some(1), &by()), Err(WriteError::Moved(2)));
    assert_eq!(db.desired_project(&shop()).unwrap().unwrap().generation, 2);
}

fn a_project_has_one_owner(db: &dyn Store) {
    let file = Owner::File("shop.yaml".into());
    db.put(spec(ONE, "").unwrap(), &file, None, &by()).unwrap();
    assert!(matches!(db.put(spec(TWO, "").unwrap(), &Owner::Api, None, &by()), Err(WriteError::Owned { .. })));
    assert!(matches!(db.delete(&shop(), &Owner::Api, false, &by()), Err(WriteError::Owned { .. })));
    db.delete(&shop(), &file, false, &by()).unwrap();
    assert!(matches!(db.put(spec(ONE, "").unwrap(), &file, None, &by()), Err(WriteError::Deleting(_))));
    db.delete_record(&shop(), 1).unwrap();
    assert!(db.desired_project(&shop()).unwrap().is_some(), "something else was asked since then");
    db.delete_record(&shop(), 2).unwrap();
    assert!(db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap().created);
}

fn at(name: &str) -> Artifact {
    let url = format!("https://a.example.com/{name}");
    let from = ArtifactFrom::Source(Source::Url { url, sha256: None });
    Artifact { from, version: None, updates: Updates::Webhook }
}

fn a_changed_artifact_in_the_spec_beats_a_webhooks_and_an_unchanged_one_does_not(db: &dyn Store) {
    let artifact = |db: &dyn Store| db.desired_project(&shop()).unwrap().unwrap().spec().unwrap().artifact.from.clone();
    db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    assert_eq!(db.overlay(&shop(), &at("9"), &By::Webhook("github".into())).unwrap().generation, 2);
    db.put(spec(ONE, "A: x").unwrap(), &Owner::Api, None, &by()).unwrap();
    assert_eq!(artifact(db), at("9").from);
    db.put(spec(TWO, "A: x").unwrap(), &Owner::Api, None, &by()).unwrap();
    assert_eq!(artifact(db), at("2").from);
}

fn a_value_as_it_is_shown_stands_for_the_stored_one_of_its_project_and_name(db: &dyn Store) {
    let put = |text: &str| db.put(spec(ONE, text).unwrap(), &Owner::Api, None, &by());
    let value = |name: &str| {
        let env = db.desired_project(&shop()).unwrap().unwrap().spec().unwrap().env.clone();
        db.open_values(&shop(), &env, &BTreeMap::new()).unwrap()[&EnvName::parse(name).unwrap()].to_string()
    };
    assert!(
        matches!(put("A: { sealed: 1 }"), Err(WriteError::Invalid(why)) if why.to_string().contains("has none of this name"))
    );
    assert!(db.desired_project(&shop()).unwrap().is_none(), "nothing was written");
    put("A: first").unwrap();
    assert!(!put("A: { sealed: 1 }").unwrap().changed, "it is the same spec");
    put("A: second").unwrap();
    // Both are still stored: the older one is wanted again, and is the newest now.
    assert!(put("A: { sealed: 1 }").unwrap().changed);
    assert_eq!(value("A"), "first");
    db.save_progress(&BTreeMap::from([(shop(), Default::default())]), &[]).unwrap();
    assert_eq!(value("A"), "first");
    let gone = put("A: { sealed: 2 }").unwrap_err().to_string();
    assert_eq!(gone, "env.A: {sealed: 2} is not stored any more; write {sealed: 3} for the newest, or the value");
    assert!(put("B: { sealed: 3 }").is_err(), "a value belongs to its name");
}

fn a_rehearsal_writes_nothing(db: &dyn Store) {
    let rehearsed = |expect| db.dry_run(spec(ONE, "A: x").unwrap(), &Owner::Api, expect);
    assert_eq!(rehearsed(None).unwrap().generation, 1);
    assert_eq!(rehearsed(Some(7)), Err(WriteError::Moved(0)), "as a write would be refused");
    assert_eq!(db.desired_project(&shop()).unwrap(), None);
}

fn a_delivery_is_taken_once_and_never_an_older_one(db: &dyn Store) {
    db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    let delivery = |id: &str, made: u64, edited: bool| {
        let delivery = Delivery { provider: "github", id: id.into(), made: Timestamp(made), edited };
        db.deliver(&shop(), &at(id), &delivery).unwrap().map(|put| put.generation)
    };
    let delivered = |id: &str, made: u64| delivery(id, made, false);
    assert_eq!(delivery("e", 5, true), None, "which is newer cannot be told");
    assert_eq!(delivered("b", 20), Some(2));
    assert_eq!(delivered("b", 20), None);
    assert_eq!(delivered("a", 10), None);
    assert_eq!(delivered("c", 30), Some(3));
    assert_eq!(delivery("f", 30, true), None);
    assert_eq!(delivery("g", 31, true), Some(4));
}

fn what_could_not_be_fetched_is_tried_again_for_a_sync_or_a_redelivery_and_nothing_else_is(db: &dyn Store) {
    db.put(spec("url: https://a.example.com/x, updates: webhook", "").unwrap(), &Owner::Api, None, &by()).unwrap();
    let wanted = || db.desired_project(&shop()).unwrap().unwrap();
    let deliver = |made: u64| {
        let artifact = Artifact { from: at("2").from, ..wanted().spec().unwrap().artifact.clone() };
        let delivery = Delivery { provider: "github", id: "d".into(), made: Timestamp(made), edited: false };
        db.deliver(&shop(), &artifact, &delivery).unwrap().map(|put| put.generation)
    };
    assert!(!wanted().artifact_from_webhook);
    assert_eq!(deliver(20), Some(2));
    assert!(wanted().artifact_from_webhook, "a webhook's artifact may come later");
    for (failed, unfetched, sync, again) in [(false, false, 2, None), (true, false, 2, None), (true, true, 3, Some(4))]
    {
        tried(db, failed, unfetched);
        assert_eq!(db.fetch_again(&shop(), &by()).unwrap(), sync, "{failed} {unfetched}");
        assert_eq!(deliver(20), again, "{failed} {unfetched}");
    }
    assert_eq!(deliver(10), None, "an older event is none, whatever became of it");
    // Who owns it names the same: from then on a 404 is his to mend, until a webhook asks again.
    let own = "url: https://a.example.com/2, updates: webhook";
    assert_eq!(db.put(spec(own, "").unwrap(), &Owner::Api, None, &by()).unwrap().generation, 5);
    assert!(!wanted().artifact_from_webhook);
    assert_eq!(deliver(20), Some(6));
    assert!(wanted().artifact_from_webhook);
}

fn a_file_that_was_never_readable_is_shown_and_leaves_nothing_behind(db: &dyn Store) {
    let owner = Owner::File("shop.yaml".into());
    let refusal = Refusal { kind: RefusalKind::SpecInvalid, message: "line 1".into() };
    db.set_refusal(&shop(), &owner, Some(&refusal)).unwrap();
    assert_eq!(db.desired_project(&shop()).unwrap().unwrap().intent, Intent::Nothing);
    db.set_refusal(&shop(), &owner, None).unwrap();
    assert_eq!(db.desired_project(&shop()).unwrap(), None);
}

fn a_write_ends_what_was_wrong_with_the_one_before_and_not_what_another_file_claims(db: &dyn Store) {
    db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    let held = RefusalKind::PruneRefused { until: HeldUntil::Confirmed };
    for (kind, stays) in [(RefusalKind::SpecInvalid, false), (held, false), (RefusalKind::Conflict, true)] {
        let refusal = Refusal { kind, message: "zz.yaml".into() };
        db.set_refusal(&shop(), &Owner::Api, Some(&refusal)).unwrap();
        db.put(spec(TWO, "").unwrap(), &Owner::Api, None, &by()).unwrap();
        assert_eq!(db.desired_project(&shop()).unwrap().unwrap().refusal, stays.then_some(refusal), "{kind:?}");
    }
}

/// Remembers that the artifact that is wanted now was asked for, and what became of it.
fn tried(db: &dyn Store, failed: bool, unfetched: bool) {
    let wanted = db.desired_project(&shop()).unwrap().unwrap();
    let spec = wanted.spec().unwrap();
    let content = Content::of(spec, spec.artifact.source().unwrap().clone(), &BTreeMap::new()).unwrap();
    let release = Release {
        content: content.into(),
        sha256: None,
        version: spec.artifact.version.clone(),
        slot: Slot::A,
        created_at: Timestamp(1),
        since: Timestamp(1),
        was_healthy: false,
        promotion_seq: 0,
        end: failed.then(|| {
            End::Rejected(Rejected {
                cause: Cause::unknown(Timestamp(1)),
                generation: wanted.generation,
                fetched: !unfetched,
                evidence: None,
            })
        }),
        rolled_back: false,
    };
    let mut progress = match failed {
        true => ProjectProgress {
            target: Target::Failed { release: ReleaseNo(1), kept_for_inspection: false },
            ..ProjectProgress::default()
        },
        false => ProjectProgress { serving: Some(ReleaseNo(1)), ..ProjectProgress::default() },
    };
    progress.releases.insert(ReleaseNo(1), release);
    db.save_progress(&BTreeMap::from([(shop(), progress)]), &[]).unwrap();
}

fn a_service_has_one_owner_until_it_is_let_go(db: &dyn Store) {
    let file = Owner::File("host.yaml".into());
    let put = |version, owner: &Owner| db.put_service(Service::Postgresql, version, owner, None, &by());
    assert_eq!(put(Version::Major(15), &file), Ok(WriteResult { generation: 1, created: true, changed: true }));
    assert_eq!(put(Version::Major(15), &file), Ok(WriteResult { generation: 1, created: false, changed: false }));
    assert!(matches!(put(Version::Default, &Owner::Api), Err(WriteError::ServiceOwned { .. })));
    assert!(matches!(
        db.delete_service(Service::Postgresql, &Owner::Api, true, &by()),
        Err(WriteError::ServiceOwned { .. })
    ));
    assert_eq!(db.delete_service(Service::Postgresql, &file, false, &By::File("host.yaml".into())), Ok(2));
    assert_eq!(put(Version::Default, &Owner::Api), Ok(WriteResult { generation: 3, created: true, changed: true }));
    let heir = Owner::File("new.yaml".into());
    assert!(db.put_service(Service::Postgresql, Version::Default, &heir, Some(&Owner::Api), &by()).is_ok());
    assert_eq!(db.desired_service(Service::Postgresql).unwrap().unwrap().owner, heir);
    assert_eq!(
        db.delete_service(Service::Redis, &Owner::Api, false, &by()),
        Err(WriteError::ServiceUnknown(Service::Redis))
    );
}

fn secrets_are_listed_by_their_newest_version_until_they_are_removed(db: &dyn Store) {
    let (name, value) = (SecretName::parse("S").unwrap(), |value: &str| Plain::parse(value.into()).unwrap());
    db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    let set = |text: &str| db.set_secret(&shop(), &name, &value(text), &by()).unwrap();
    assert_eq!((set("x"), set("x"), set("y")), (1, 1, 2));
    let listed = || db.secrets(&shop()).unwrap().into_iter().map(|it| (it.name, it.version)).collect::<Vec<_>>();
    assert_eq!(listed(), [(name.clone(), 2)]);
    assert_eq!(db.desired().unwrap().0[&shop()].secrets, [(name.clone(), 2)].into());
    assert_eq!(db.open_secret(&shop(), &name).unwrap().unwrap().as_str(), "y");
    let remove = || db.remove_secret(&shop(), &name, &by()).unwrap();
    assert!(remove() && !remove());
    assert_eq!((listed(), db.open_secret(&shop(), &name).unwrap()), (Vec::new(), None));
    assert_eq!(set("y"), 2, "it is still stored, and listed again");
    assert_eq!(listed(), [(name, 2)]);
}

fn only_what_was_removed_is_forgotten_and_then_all_of_it(db: &dyn Store) {
    db.put(spec(ONE, "A: x").unwrap(), &Owner::Api, None, &by()).unwrap();
    db.delete_record(&shop(), 1).unwrap();
    assert!(db.desired_project(&shop()).unwrap().is_some());
    db.delete(&shop(), &Owner::Api, true, &by()).unwrap();
    db.delete_record(&shop(), 1).unwrap();
    assert_eq!(db.desired_project(&shop()).unwrap().unwrap().intent, Intent::Delete { keep_data: true });
    db.delete_record(&shop(), 2).unwrap();
    assert_eq!((db.desired_project(&shop()).unwrap(), db.desired().unwrap().0.len()), (None, 0));
    db.save_progress(&BTreeMap::from([(shop(), ProjectProgress::default())]), &[]).unwrap();
    assert_eq!(db.progress().unwrap().projects.len(), 0, "a project that is forgotten leaves nothing");
    let again = db.put(spec(ONE, "A: { sealed: 1 }").unwrap(), &Owner::Api, None, &by());
    assert!(matches!(again, Err(WriteError::Invalid(_))), "its values went too");
}

fn a_file_with_another_name_takes_its_project_along(db: &dyn Store) {
    let (old, new) = (Owner::File("a.yaml".into()), Owner::File("b.yaml".into()));
    assert_eq!(db.change_owner(&shop(), &old, &new), Err(WriteError::Unknown(shop())));
    db.put(spec(ONE, "").unwrap(), &old, None, &by()).unwrap();
    assert!(matches!(db.change_owner(&shop(), &new, &old), Err(WriteError::Owned { .. })));
    db.change_owner(&shop(), &old, &new).unwrap();
    let wanted = db.desired_project(&shop()).unwrap().unwrap();
    assert_eq!((wanted.owner, wanted.generation), (new, 1));
}

fn a_suspension_stays_whatever_becomes_of_the_spec(db: &dyn Store) {
    let suspension = OperatorSuspension { by: "key ops".into(), since: Timestamp(1), reason: None, until: None };
    assert_eq!(db.set_suspension(&shop(), Some(&suspension), &by()), Err(WriteError::Unknown(shop())));
    db.put(spec(ONE, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    db.set_suspension(&shop(), Some(&suspension), &by()).unwrap();
    db.put(spec(TWO, "").unwrap(), &Owner::Api, None, &by()).unwrap();
    db.delete(&shop(), &Owner::Api, false, &by()).unwrap();
    let wanted = db.desired_project(&shop()).unwrap().unwrap();
    assert_eq!((wanted.generation, wanted.suspension), (3, Some(suspension)));
    assert!(db.put(spec(TWO, "").unwrap(), &Owner::Api, None, &by()).unwrap().changed, "the removal waits");
    db.delete(&shop(), &Owner::Api, false, &by()).unwrap();
    db.set_suspension(&shop(), None, &by()).unwrap();
    assert_eq!(db.put(spec(TWO, "").unwrap(), &Owner::Api, None, &by()), Err(WriteError::Deleting(shop())));
}

fn a_nonce_is_good_once_for_each_key(db: &dyn Store) {
    let key = |name: &str| KeyId::parse(name).unwrap();
    assert!(db.take_nonce(&key("admin"), "aa", Timestamp(5_000_000)).unwrap());
    assert!(!db.take_nonce(&key("admin"), "aa", Timestamp(5_000_000)).unwrap());
    assert!(db.take_nonce(&key("other"), "aa", Timestamp(5_000_000)).unwrap());
    db.set_note("k", "v");
    assert_eq!((db.note("k").as_deref(), db.note("l")), (Some("v"), None));
}
