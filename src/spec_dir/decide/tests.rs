//! Observations of imaginary directories: what each one means, and what it must not mean.

use std::sync::Arc;

use super::*;
use crate::model::desired::{DesiredProject, DesiredService, ServiceIntent};
use crate::model::document;
use crate::model::reason::Reason;
use crate::model::spec::{Sealed, Spec};

const A: Digest = [1; 32];
const B: Digest = [2; 32];

fn id(name: &str) -> ProjectId {
    name.parse().unwrap()
}

fn spec(project: &str) -> Spec {
    let text = format!(
        "zexio: 1\nproject: {project}\nartifact: {{ url: https://a.example.com/x }}\nprocesses: {{ web: {{ run: ./x }} }}\n"
    );
    document::parse(text.as_bytes()).unwrap().try_map_env(|_, _| Ok::<_, ()>(Sealed { sealed: 1 })).unwrap()
}

fn wanted(owner: Owner, intent: Intent) -> DesiredProject {
    DesiredProject {
        generation: 1,
        intent,
        owner,
        secrets: BTreeMap::new(),
        refusal: None,
        suspension: None,
        artifact_from_webhook: false,
    }
}

fn file(name: &str) -> Owner {
    Owner::File(name.into())
}

fn refusal(reason: Reason) -> Option<Refusal> {
    serde_json::from_value(serde_json::json!({ "reason": reason, "message": "m" })).unwrap()
}

/// A directory and the desired state, over several observations.
struct Case {
    files: BTreeMap<String, File>,
    identity: &'static str,
    known: Desired,
    services: DesiredServices,
    prior: Prior,
    prune_max: usize,
}

impl Case {
    fn new() -> Self {
        let prior = Prior { identity: Some("1:1".into()), ..Prior::default() };
        Self {
            files: BTreeMap::new(),
            identity: "1:1",
            known: Desired::default(),
            services: DesiredServices::new(),
            prior,
            prune_max: 1,
        }
    }

    fn runs(mut self, project: &str, owner: Owner) -> Self {
        let intent = Intent::Run(Arc::new(spec(project)));
        self.known.0.insert(id(project), wanted(owner, intent));
        self
    }

    fn placeholder(mut self, project: &str, name: &str) -> Self {
        let mut wish = wanted(file(name), Intent::Nothing);
        wish.refusal = refusal(Reason::SpecInvalid);
        self.known.0.insert(id(project), wish);
        self
    }

    fn with_refusal(mut self, project: &str, reason: Reason) -> Self {
        self.known.0.get_mut(&id(project)).unwrap().refusal = refusal(reason);
        self
    }

    fn has(mut self, name: &str, project: &str) -> Self {
        self.files.insert(name.into(), File { digest: Some(A), holds: Holds::Spec(id(project)) });
        self
    }

    /// The file was applied before, unchanged.
    fn took(mut self, name: &str, project: &str) -> Self {
        self.prior.taken.insert(name.into(), (id(project), A));
        self.has(name, project)
    }

    fn broken(mut self, name: &str, named: Option<&str>) -> Self {
        let holds = Holds::Nothing { named: named.map(id), why: "line 3, column 1: nonsense".into() };
        self.files.insert(name.into(), File { digest: Some(B), holds });
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.files.remove(name);
        self
    }

    fn has_host(mut self, name: &str, services: &[Service]) -> Self {
        let services = services.iter().map(|service| (*service, Version::Default)).collect();
        self.files.insert(name.into(), File { digest: Some(A), holds: Holds::Host(services) });
        self
    }

    fn wants(mut self, service: Service, owner: Owner, refusal: Option<Refusal>) -> Self {
        let intent = ServiceIntent::Install(Version::Default);
        self.services.insert(service, DesiredService { generation: 1, intent, owner, refusal });
        self
    }

    fn scan(&mut self, ms: u64) -> Verdict {
        let listing = Listing::Read { identity: self.identity.into(), files: self.files.clone() };
        self.look_at(&listing, ms)
    }

    /// Observes as if a file were fixed, and then forgets that observation.
    fn look_with(&mut self, name: &str, project: &str, ms: u64) -> Verdict {
        let mut files = self.files.clone();
        files.insert(name.into(), File { digest: Some(A), holds: Holds::Spec(id(project)) });
        let before = self.prior.doubts.clone();
        let verdict = self.look_at(&Listing::Read { identity: self.identity.into(), files }, ms);
        self.prior.doubts = before;
        verdict
    }

    fn look_at(&mut self, listing: &Listing, ms: u64) -> Verdict {
        let verdict =
            decide(listing, &self.known, &self.services, &self.prior, Duration::from_millis(ms), self.prune_max);
        self.prior.doubts = verdict.doubts.clone();
        verdict
    }

    /// Observes, and records the refusals as production code does; returns each message and its kind.
    fn told(&mut self, ms: u64) -> Vec<(String, Option<Reason>)> {
        let verdict = self.scan(ms);
        for decision in &verdict.decisions {
            match decision {
                Decision::SetRefusal(project, owner, refusal) => {
                    let wish = self.known.0.get_mut(project).unwrap();
                    assert_eq!(wish.owner, *owner, "only its owner's refusals are written");
                    wish.refusal = refusal.clone();
                }
                Decision::SetServiceRefusal(service, _, refusal) => {
                    self.services.get_mut(service).unwrap().refusal = refusal.clone();
                }
                _ => {}
            }
        }
        reasons(&verdict)
    }

    fn message(&self, project: &str) -> &str {
        &self.known.0[&id(project)].refusal.as_ref().unwrap().message
    }

    /// Observes now and three seconds later; returns the second result.
    fn settled(&mut self) -> Verdict {
        let first = self.scan(0);
        assert!(!first.decisions.iter().any(|d| matches!(d, Decision::Delete(..))), "deleted at first sight");
        self.scan(3_000)
    }
}

fn reasons(verdict: &Verdict) -> Vec<(String, Option<Reason>)> {
    let said = verdict.decisions.iter().filter_map(|decision| match decision {
        Decision::SetRefusal(project, _, refusal) => {
            Some((project.to_string(), refusal.as_ref().map(|c| c.kind.reason())))
        }
        _ => None,
    });
    said.collect()
}

fn conflicts(project: &str) -> (String, Option<Reason>) {
    (project.to_owned(), Some(Reason::Conflict))
}

fn deleted(verdict: &Verdict) -> Vec<String> {
    let gone = verdict.decisions.iter().filter_map(|decision| match decision {
        Decision::Delete(project, _) => Some(project.to_string()),
        _ => None,
    });
    gone.collect()
}

#[test]
fn a_new_file_is_taken_and_an_unchanged_one_writes_nothing() {
    let verdict = Case::new().has("shop.yaml", "shop").scan(0);
    assert_eq!(verdict.decisions, [Decision::Put(id("shop"), "shop.yaml".into())]);
    let mut same = Case::new().runs("shop", file("shop.yaml")).took("shop.yaml", "shop");
    let verdict = same.scan(0);
    assert!(verdict.decisions.is_empty() && verdict.rescan_at.is_none(), "{verdict:?}");
}

#[test]
fn a_file_of_before_the_agent_started_is_put_once_more() {
    let verdict = Case::new().runs("shop", file("shop.yaml")).has("shop.yaml", "shop").scan(0);
    assert_eq!(verdict.decisions, [Decision::Put(id("shop"), "shop.yaml".into())]);
}

#[test]
fn a_file_that_an_editor_replaces_is_never_removed() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).took("shop.yaml", "shop");
    case = case.without("shop.yaml");
    assert!(case.scan(0).decisions.is_empty());
    case = case.took("shop.yaml", "shop");
    assert!(case.scan(400).decisions.is_empty());
    // The earlier absence no longer counts.
    case = case.without("shop.yaml");
    assert!(case.scan(2_500).decisions.is_empty());
}

#[test]
fn one_removed_file_removes_its_project_at_the_second_look() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).runs("blog", file("blog.yaml"));
    case = case.took("blog.yaml", "blog");
    let first = case.scan(0);
    assert!(first.decisions.is_empty());
    assert_eq!(first.rescan_at, Some(GONE_FOR));
    assert_eq!(deleted(&case.scan(2_000)), ["shop"]);
}

#[test]
fn more_than_may_go_at_once_do_not_go() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).runs("blog", file("blog.yaml"));
    let verdict = case.settled();
    let refused = |name: &str| (name.to_owned(), Some(Reason::PruneRefused));
    assert_eq!(reasons(&verdict), [refused("blog"), refused("shop")]);
    assert!(deleted(&verdict).is_empty());
    let Decision::SetRefusal(_, _, Some(said)) = &verdict.decisions[0] else { panic!("no refusal") };
    assert!(said.message.contains("2 projects would go at once, and prune.max is 1"), "{}", said.message);
    assert!(said.message.contains("zexio sync --prune"), "{}", said.message);
    case.prune_max = 2;
    assert_eq!(deleted(&case.scan(6_000)), ["blog", "shop"]);
}

#[test]
fn files_that_come_back_one_by_one_do_not_take_the_last_one_with_them() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).runs("blog", file("blog.yaml"));
    case = case
        .with_refusal("shop", Reason::PruneRefused)
        .with_refusal("blog", Reason::PruneRefused)
        .took("blog.yaml", "blog");
    let verdict = case.settled();
    assert_eq!(reasons(&verdict), [("blog".to_owned(), None)]);
    assert!(deleted(&verdict).is_empty());
}

#[test]
fn a_directory_that_vanished_removes_nothing() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).runs("api-made", Owner::Api);
    let lost = Listing::Lost("could not read the watched directory /zexio/specs: not found".into());
    assert!(case.look_at(&lost, 0).decisions.is_empty());
    let verdict = case.look_at(&lost, 2_000);
    assert_eq!(reasons(&verdict), [("shop".to_owned(), Some(Reason::PruneRefused))]);
    assert!(verdict.troubles[DIRECTORY].contains("/zexio/specs"));
}

#[test]
fn a_directory_that_is_back_without_a_file_waits_for_it_anew() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).wants(REDIS, file("host.yaml"), None);
    case.prune_max = 2;
    let lost = Listing::Lost("could not read the watched directory /zexio/specs: permission denied".into());
    case.look_at(&lost, 0);
    let verdict = case.scan(9_000);
    assert!(verdict.decisions.is_empty(), "{verdict:?}");
    let verdict = case.scan(11_000);
    assert_eq!((deleted(&verdict), drops(&verdict).len()), (vec!["shop".to_owned()], 1));
}

#[test]
fn another_directory_under_the_same_path_removes_nothing() {
    let mut case = Case::new().runs("shop", file("shop.yaml"));
    case.identity = "2:2";
    let verdict = case.settled();
    assert_eq!(reasons(&verdict), [("shop".to_owned(), Some(Reason::PruneRefused))]);
    assert!(!verdict.decisions.contains(&Decision::Note("2:2".into())), "it is not the one to trust yet");
    case = case.took("shop.yaml", "shop").with_refusal("shop", Reason::PruneRefused);
    let verdict = case.scan(9_000);
    assert_eq!(reasons(&verdict), [("shop".to_owned(), None)]);
    assert!(verdict.decisions.contains(&Decision::Note("2:2".into())));
}

#[test]
fn a_directory_that_was_never_noted_removes_nothing() {
    let mut case = Case::new().runs("shop", file("shop.yaml"));
    case.prior.identity = None;
    assert!(deleted(&case.settled()).is_empty());
}

#[test]
fn a_broken_file_keeps_its_project_and_tells_after_a_while() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).broken("shop.yaml", None);
    let first = case.scan(0);
    assert!(first.decisions.is_empty() && first.troubles.is_empty(), "half-written files are given time");
    assert_eq!(first.rescan_at, Some(WRONG_FOR));
    let verdict = case.scan(500);
    let [Decision::SetRefusal(_, owner, Some(said))] = &verdict.decisions[..] else { panic!("{verdict:?}") };
    assert_eq!((owner, said.kind.reason()), (&file("shop.yaml"), Reason::SpecInvalid));
    assert_eq!(said.message, "shop.yaml: line 3, column 1: nonsense");
    assert!(deleted(&case.scan(9_000)).is_empty());
}

#[test]
fn a_refusal_is_written_once_and_taken_back_when_the_file_is_fine() {
    let mut case = Case::new().runs("shop", file("shop.yaml")).broken("shop.yaml", None);
    let message = "shop.yaml: line 3, column 1: nonsense".to_owned();
    case.known.0.get_mut(&id("shop")).unwrap().refusal = Some(Refusal { kind: RefusalKind::SpecInvalid, message });
    assert!(case.settled().decisions.is_empty());
    case = case.took("shop.yaml", "shop");
    assert_eq!(reasons(&case.scan(9_000)), [("shop".to_owned(), None)]);
}

#[test]
fn a_broken_file_of_an_unknown_project_is_shown_under_the_name_it_names_or_has() {
    let said = Some(Reason::SpecInvalid);
    let verdict = Case::new().broken("x.yaml", Some("shop")).settled();
    assert_eq!(reasons(&verdict), [("shop".to_owned(), said)]);
    let verdict = Case::new().broken("blog.yaml", None).settled();
    assert_eq!(reasons(&verdict), [("blog".to_owned(), said)]);
    let verdict = Case::new().broken("My Notes.yaml", None).settled();
    assert!(verdict.decisions.is_empty());
    assert_eq!(verdict.troubles["My Notes.yaml"], "line 3, column 1: nonsense");
}

#[test]
fn a_placeholder_goes_with_its_file_and_counts_for_no_guard() {
    let mut case = Case::new().placeholder("shop", "shop.yaml").placeholder("blog", "blog.yaml");
    let verdict = case.settled();
    assert_eq!(reasons(&verdict), [("blog".to_owned(), None), ("shop".to_owned(), None)]);
    assert!(deleted(&verdict).is_empty());
}

#[test]
fn a_placeholder_whose_file_is_repaired_becomes_its_project() {
    let verdict = Case::new().placeholder("shop", "shop.yaml").has("shop.yaml", "shop").scan(0);
    assert_eq!(verdict.decisions[0], Decision::Put(id("shop"), "shop.yaml".into()));
    assert_eq!(reasons(&verdict), [("shop".to_owned(), None)]);
}

#[test]
fn of_two_files_for_one_project_the_first_keeps_it_and_is_told_of_the_second_once() {
    let verdict = Case::new().has("a.yaml", "shop").has("b.yaml", "shop").scan(0);
    assert_eq!(verdict.decisions[0], Decision::Put(id("shop"), "a.yaml".into()));
    assert_eq!((verdict.decisions.len(), reasons(&verdict)), (2, vec![conflicts("shop")]));
    assert!(verdict.troubles["b.yaml"].contains("belongs to file:a.yaml"));
    // The first is the one that had it, not the one with the smaller name.
    let mut case = Case::new().runs("shop", file("b.yaml")).took("b.yaml", "shop").has("a.yaml", "shop");
    assert_eq!(case.told(0), [conflicts("shop")]);
    let says = "a.yaml claims this project too, which belongs to file b.yaml; remove one of the two";
    assert_eq!(case.message("shop"), says);
    let verdict = case.settled();
    assert!(verdict.decisions.is_empty(), "{verdict:?}");
    assert!(verdict.troubles["a.yaml"].contains("belongs to file:b.yaml"));
    case = case.has("c.yaml", "shop");
    assert_eq!(case.told(6_000), [conflicts("shop")]);
    assert!(case.message("shop").starts_with("a.yaml, c.yaml claim this project too"), "{}", case.message("shop"));
    // It ends when they go, or are about something else.
    case = case.without("a.yaml").has("c.yaml", "cafe");
    let verdict = case.scan(7_000);
    assert_eq!(verdict.decisions[0], Decision::Put(id("cafe"), "c.yaml".into()));
    assert_eq!(reasons(&verdict), [("shop".to_owned(), None)]);
}

#[test]
fn a_project_that_two_files_claim_goes_on_being_updated_by_its_own() {
    let mut case = Case::new().runs("shop", file("b.yaml")).took("b.yaml", "shop").has("a.yaml", "shop");
    case.told(0);
    case.files.get_mut("b.yaml").unwrap().digest = Some(B);
    assert_eq!(case.scan(1_000).decisions, [Decision::Put(id("shop"), "b.yaml".into())]);
}

#[test]
fn what_is_wrong_with_the_projects_own_file_is_told_before_a_second_one() {
    let mut case = Case::new().runs("shop", file("b.yaml")).took("b.yaml", "shop").has("a.yaml", "shop");
    case.told(0);
    case = case.broken("b.yaml", Some("shop"));
    case.told(1_000);
    assert_eq!(case.told(2_000), [("shop".to_owned(), Some(Reason::SpecInvalid))]);
    assert_eq!(case.told(3_000), []);
    case = case.without("a.yaml");
    assert_eq!(case.told(4_000), [], "the second one goes, its own is as wrong as before");
    assert!(case.message("shop").starts_with("b.yaml: line 3"));
    case = case.has("a.yaml", "shop");
    assert_eq!(case.told(5_000), []);
    case = case.took("b.yaml", "shop");
    assert_eq!(case.told(6_000), [conflicts("shop")]);
}

#[test]
fn a_contesting_file_takes_over_only_once_the_first_is_really_gone() {
    let mut case = Case::new().runs("shop", file("a.yaml")).took("a.yaml", "shop").has("b.yaml", "shop");
    case.scan(0);
    case = case.without("a.yaml");
    assert!(case.scan(1_000).decisions.is_empty());
    let verdict = case.scan(3_000);
    assert!(matches!(verdict.decisions[0], Decision::Adopt { .. }), "{verdict:?}");
    assert!(deleted(&verdict).is_empty());
}

#[test]
fn a_renamed_file_takes_its_project_along() {
    let verdict = Case::new().runs("shop", file("a.yaml")).has("b.yaml", "shop").scan(0);
    let adopt = Decision::Adopt { project: id("shop"), from: file("a.yaml"), to: file("b.yaml") };
    assert_eq!(verdict.decisions, [adopt, Decision::Put(id("shop"), "b.yaml".into())]);
    assert!(verdict.rescan_at.is_none());
}

#[test]
fn a_file_renamed_and_broken_at_once_keeps_its_project_too() {
    let mut case = Case::new().runs("shop", file("a.yaml")).broken("b.yaml", Some("shop"));
    let verdict = case.settled();
    assert!(matches!(verdict.decisions[0], Decision::Adopt { .. }), "{verdict:?}");
    assert_eq!(reasons(&verdict), [("shop".to_owned(), Some(Reason::SpecInvalid))]);
    assert!(deleted(&verdict).is_empty());
}

#[test]
fn nothing_goes_while_a_file_that_nobody_can_read_may_be_the_missed_one() {
    let refused = ("one".to_owned(), Some(Reason::PruneRefused));
    let mut case = Case::new().runs("one", file("one.yaml")).placeholder("two", "two.yaml").broken("two.yaml", None);
    case.settled();
    assert!(case.told(3_000).contains(&refused));
    let says = "one.yaml is gone, but two.yaml cannot be read and may be that file under a new name; nothing was removed. \
                Mend two.yaml, or run `zexio sync one --prune` to remove the project";
    assert_eq!(case.message("one"), says);
    assert!(case.scan(9_000).decisions.is_empty(), "it is told once");
    // Once fixed, it is the missing one.
    let verdict = case.look_with("two.yaml", "one", 10_000);
    let adopt = Decision::Adopt { project: id("one"), from: file("one.yaml"), to: file("two.yaml") };
    assert_eq!(verdict.decisions[..2], [adopt, Decision::Put(id("one"), "two.yaml".into())]);
    assert!(reasons(&verdict).contains(&("one".to_owned(), None)) && deleted(&verdict).is_empty());
    // Or it is not, and the removal continues, even after a restart of the agent.
    assert_eq!(deleted(&case.look_with("two.yaml", "two", 10_000)), ["one"]);
    case.prior.doubts = Doubts::default();
    case = case.has("two.yaml", "two");
    assert_eq!(deleted(&case.scan(11_000)), Vec::<String>::new());
    assert_eq!(deleted(&case.scan(13_000)), ["one"]);
}

#[test]
fn a_file_that_nobody_could_read_before_is_not_the_missed_one() {
    let mut case = Case::new().runs("one", file("one.yaml")).has("one.yaml", "one").broken("two.yaml", None);
    case.settled();
    case.files.remove("one.yaml");
    case.scan(60_000);
    assert_eq!(deleted(&case.scan(63_000)), ["one"]);
}

#[test]
fn a_broken_file_of_which_the_project_is_known_holds_no_other_removal_back() {
    let gone = |case: Case| deleted(&case.runs("one", file("one.yaml")).settled());
    assert_eq!(gone(Case::new().runs("two", file("two.yaml")).broken("two.yaml", None)), ["one"]);
    assert_eq!(gone(Case::new().broken("two.yaml", Some("two"))), ["one"]);
    let host = Case::new().broken("host.yaml", None).wants(REDIS, file("host.yaml"), None);
    assert_eq!(gone(host), ["one"]);
}

#[test]
fn a_file_that_is_half_written_when_another_is_gone_for_long_is_waited_for_without_a_word() {
    let mut case = Case::new().runs("one", file("one.yaml"));
    case.scan(0);
    case = case.broken("two.yaml", None);
    let verdict = case.scan(2_000);
    assert!(verdict.decisions.is_empty(), "{verdict:?}");
    assert_eq!(verdict.rescan_at, Some(Duration::from_millis(2_500)));
}

#[test]
fn services_stay_too_while_a_file_that_nobody_can_read_may_be_theirs() {
    let mut case = Case::new().wants(REDIS, file("host.yaml"), None).broken("services-2.yaml", Some("x"));
    assert_eq!(drops(&case.settled()), [REDIS], "that one is about a project");
    case = case.broken("services-2.yaml", None).placeholder("services-2", "services-2.yaml");
    case.told(4_000);
    assert!(case.services[&REDIS].refusal.as_ref().is_some_and(|told| told.message.contains("Mend services-2.yaml")));
    assert!(case.scan(9_000).decisions.is_empty(), "it is told once");
    assert_eq!(drops(&case.look_with("services-2.yaml", "services-2", 10_000)), [REDIS]);
}

#[test]
fn two_files_that_swap_their_projects_swap_owners() {
    let mut case = Case::new().runs("shop", file("a.yaml")).runs("blog", file("b.yaml"));
    case = case.has("a.yaml", "blog").has("b.yaml", "shop");
    let verdict = case.settled();
    assert_eq!(verdict.decisions.iter().filter(|d| matches!(d, Decision::Adopt { .. })).count(), 2);
    assert!(deleted(&verdict).is_empty());
}

#[test]
fn a_file_that_names_another_project_removes_the_one_it_named_before() {
    let mut case = Case::new().runs("shop", file("a.yaml")).has("a.yaml", "store");
    let verdict = case.settled();
    assert_eq!(deleted(&verdict), ["shop"]);
    assert_eq!(verdict.decisions[0], Decision::Put(id("store"), "a.yaml".into()));
}

#[test]
fn a_project_of_the_api_is_not_taken_by_a_file() {
    let mut case = Case::new().runs("shop", Owner::Api).has("shop.yaml", "shop");
    assert_eq!(case.told(0), [conflicts("shop")]);
    assert!(case.message("shop").starts_with("shop.yaml claims this project too, which belongs to the API; "));
    let verdict = case.settled();
    assert!(verdict.decisions.is_empty());
    assert!(verdict.troubles["shop.yaml"].contains("project shop belongs to api"));
    case = case.without("shop.yaml");
    assert_eq!(case.told(6_000), [("shop".to_owned(), None)]);
    let verdict = Case::new().runs("shop", Owner::Api).broken("shop.yaml", Some("shop")).settled();
    assert!(verdict.decisions.is_empty(), "a broken file does not stall it either");
}

#[test]
fn a_file_that_returns_while_its_project_goes_waits_for_the_end() {
    let mut case = Case::new().has("shop.yaml", "shop");
    case.known.0.insert(id("shop"), wanted(file("shop.yaml"), Intent::Delete { keep_data: false }));
    let verdict = case.scan(0);
    assert!(verdict.decisions.is_empty() && verdict.rescan_at.is_some());
    assert!(verdict.troubles["shop.yaml"].contains("being deleted"));
}

const REDIS: Service = Service::Redis;
const NODE: Service = Service::Nodejs;

fn put(service: Service, name: &str, heir_of: Option<Owner>) -> Decision {
    Decision::PutService { service, version: Version::Default, file: name.into(), heir_of }
}

fn drops(verdict: &Verdict) -> Vec<Service> {
    let gone = verdict.decisions.iter().filter_map(|decision| match decision {
        Decision::DropService(service, _) => Some(*service),
        _ => None,
    });
    gone.collect()
}

#[test]
fn a_host_file_asks_for_its_services_and_lets_go_those_it_names_no_more() {
    let mut case = Case::new().has_host("host.yaml", &[REDIS, NODE]);
    assert_eq!(case.scan(0).decisions, [put(NODE, "host.yaml", None), put(REDIS, "host.yaml", None)]);
    let mut taken = Case::new().has_host("host.yaml", &[REDIS]).wants(REDIS, file("host.yaml"), None);
    assert!(taken.scan(0).decisions.is_empty());
    let mut less = taken.has_host("host.yaml", &[]);
    assert_eq!(drops(&less.scan(0)), [REDIS]);
}

#[test]
fn a_second_host_file_or_a_service_of_the_api_is_a_conflict_that_is_told() {
    let mut second = Case::new()
        .has_host("host.yaml", &[REDIS])
        .wants(REDIS, file("host.yaml"), None)
        .has_host("another.yaml", &[NODE]);
    let verdict = second.scan(0);
    assert!(verdict.decisions.is_empty(), "{:?}", verdict.decisions);
    assert!(verdict.troubles["another.yaml"].contains("belong to file:host.yaml"), "{:?}", verdict.troubles);
    // The second takes over once the first is really gone, not before.
    let mut left = second.without("host.yaml");
    assert!(left.scan(1_000).decisions.is_empty());
    let verdict = left.scan(4_000);
    let heir_of_another = |service| put(service, "another.yaml", None);
    assert_eq!(verdict.decisions, [heir_of_another(NODE), Decision::DropService(REDIS, file("host.yaml"))]);

    let mut api = Case::new().wants(REDIS, Owner::Api, None).has_host("host.yaml", &[REDIS, NODE]);
    let verdict = api.scan(0);
    assert_eq!(verdict.decisions, [put(NODE, "host.yaml", None)], "the others are taken");
    assert!(verdict.troubles["host.yaml"].contains("service redis belongs to api"), "{:?}", verdict.troubles);
}

#[test]
fn a_host_file_with_a_new_name_takes_its_services_along() {
    let mut case = Case::new().wants(REDIS, file("old.yaml"), None).has_host("new.yaml", &[REDIS]);
    assert_eq!(case.scan(0).decisions, [put(REDIS, "new.yaml", Some(file("old.yaml")))]);
}

#[test]
fn a_host_file_that_is_gone_lets_its_services_go_within_the_guard() {
    let mut case = Case::new().wants(REDIS, file("host.yaml"), None).wants(NODE, file("host.yaml"), None);
    assert_eq!(drops(&case.settled()), [NODE, REDIS], "two services, but one file");

    let mut two = Case::new().wants(REDIS, file("host.yaml"), None).runs("shop", file("shop.yaml"));
    let verdict = two.settled();
    assert!(drops(&verdict).is_empty() && deleted(&verdict).is_empty(), "{verdict:?}");
    let held = |decision: &Decision| matches!(decision, Decision::SetServiceRefusal(REDIS, _, Some(told)) if told.holds_a_removal());
    assert!(verdict.decisions.iter().any(held), "{verdict:?}");

    let mut moved = Case::new().wants(REDIS, file("host.yaml"), None);
    moved.identity = "2:2";
    assert!(drops(&moved.settled()).is_empty());
    let mut lost = Case::new().wants(REDIS, file("host.yaml"), None);
    lost.look_at(&Listing::Lost("gone".into()), 0);
    let verdict = lost.look_at(&Listing::Lost("gone".into()), 3_000);
    assert!(drops(&verdict).is_empty() && verdict.decisions.iter().any(held), "{verdict:?}");

    let refused = refusal(Reason::PruneRefused);
    let mut back = Case::new().wants(REDIS, file("host.yaml"), refused.clone()).has_host("host.yaml", &[REDIS]);
    assert_eq!(back.scan(0).decisions, [Decision::SetServiceRefusal(REDIS, file("host.yaml"), None)]);
    let mut still = Case::new().wants(REDIS, file("host.yaml"), refused);
    assert!(drops(&still.settled()).is_empty(), "what was refused stays so");
}

#[test]
fn a_host_file_that_went_wrong_keeps_its_services_and_makes_no_project() {
    let mut case = Case::new().wants(REDIS, file("host.yaml"), None).broken("host.yaml", None);
    assert!(case.scan(0).decisions.is_empty());
    let verdict = case.scan(3_000);
    let [Decision::SetServiceRefusal(REDIS, _, Some(told))] = verdict.decisions.as_slice() else {
        panic!("{verdict:?}")
    };
    assert_eq!(told.kind, RefusalKind::SpecInvalid);
    let mut never = Case::new();
    never.files.insert("host.yaml".into(), File { digest: Some(B), holds: Holds::BrokenHost("nonsense".into()) });
    let verdict = never.settled();
    assert!(verdict.decisions.is_empty() && verdict.troubles.contains_key("host.yaml"), "{verdict:?}");
}
