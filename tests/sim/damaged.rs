//! One project's row cannot be read: that project stands still, and the others go on.

use zexio::model::names::ProjectId;
use zexio::model::quantity::Span;
use zexio::model::reason::Reason;
use zexio::model::status::ConditionKind;

use crate::world::Life;
use crate::world::store::Damaged;

fn shop() -> ProjectId {
    ProjectId::parse("shop").unwrap()
}

/// Two projects serve; then something of shop is damaged, and both are asked for another release.
fn damaged(part: Damaged) -> Life {
    let mut life = Life::begin();
    for project in ["shop", "wiki"] {
        life.want(project, "good-1");
    }
    life.settle();
    life.world.lock().unreadable.insert(shop(), part);
    life
}

fn reason(life: &Life) -> Option<Reason> {
    let machine = life.world.lock();
    machine.statuses[&shop()].condition(ConditionKind::Stalled).map(|condition| condition.reason)
}

#[test]
fn a_damaged_row_stops_its_project_alone_until_it_is_mended() {
    for part in [Damaged::Record, Damaged::Progress] {
        let mut life = damaged(part);
        let before = life.world.lock().progress.projects[&shop()].clone();
        for project in ["shop", "wiki"] {
            life.want(project, "good-2");
        }
        let calls = life.settle();
        assert!(calls.iter().all(|call| !call.contains("shop")), "{part:?}: {calls:#?}");
        assert_eq!(reason(&life), Some(Reason::Database), "{part:?}");
        let machine = life.world.lock();
        assert_eq!(machine.progress.projects[&shop()], before, "{part:?}: what is remembered is as it was");
        let wiki = ProjectId::parse("wiki").unwrap();
        assert_eq!(machine.statuses[&wiki].serving.map(|release| release.0), Some(2), "{part:?}");
        assert!(machine.sites.iter().any(|site| site.project == shop()), "{part:?}: Caddy serves it");
        let told =
            machine.events.iter().filter(|event| event.project == Some(shop()) && event.reason == Reason::Database);
        assert_eq!(told.count(), 1, "{part:?}");
        drop(machine);

        life.world.lock().unreadable.clear();
        life.settle();
        assert_eq!(life.world.lock().statuses[&shop()].serving.map(|release| release.0), Some(2), "{part:?}");
        assert_eq!(reason(&life), None, "{part:?}");
    }
}

#[test]
fn what_a_project_has_is_its_own_though_its_progress_cannot_be_read() {
    let mut life = damaged(Damaged::Progress);
    let before = life.world.lock().sites.clone();
    life.want_spec("blog", "url: 'https://a.example.com/good-1'", "");
    let taken = "url: 'https://a.example.com/good-1'";
    let text = format!(
        "zexio: 1\nproject: thief\nartifact: {{ {taken} }}\nprocesses: {{ web: {{ run: ./app, routes: [{{ host: shop.example.com }}] }} }}\n"
    );
    life.want_text(&text);
    for _ in 0..60 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let machine = life.world.lock();
    let blog = &machine.statuses[&ProjectId::parse("blog").unwrap()];
    let ready = blog.condition(ConditionKind::Ready).expect("it is told");
    assert!(
        ready.reason == Reason::Database && ready.message.contains("those of project shop could not be read"),
        "{ready:?}"
    );
    let thief = ProjectId::parse("thief").unwrap();
    let stalled = machine.statuses[&thief].condition(ConditionKind::Stalled).expect("a conflict");
    assert_eq!(stalled.reason, Reason::Conflict);
    let ports = |project: &str| {
        let progress = &machine.progress.projects[&ProjectId::parse(project).unwrap()];
        progress.ports.values().flatten().flat_map(|ports| [ports.a, ports.b]).collect::<Vec<u16>>()
    };
    assert!(ports("blog").iter().all(|port| !ports("shop").contains(port)));
    assert_eq!(machine.sites, before, "routes wait rather than lose those that cannot be written again");
}
