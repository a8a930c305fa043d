//! Many starts at once: a few go on, the others wait in turn, and nothing that is good is rejected for the wait.

use zexio::model::quantity::Span;
use zexio::model::reason::Reason;
use zexio::model::status::ConditionKind;

use crate::world::Life;

/// The most units that may be starting at once.
const AT_ONCE: usize = 8;

fn wanted(life: &mut Life, project: &str, artifact: &str) {
    let deploy = "deploy: { min_healthy: 100ms, drain: 1s, deadline: 15s }";
    life.want_spec(project, &format!("url: 'https://a.example.com/{artifact}'"), deploy);
}

fn starting(life: &Life) -> usize {
    life.world.lock().units.values().filter(|seen| seen.sub_state == "start").count()
}

/// Runs passes until this holds; returns the most units that were starting at once.
fn until(life: &mut Life, holds: impl Fn(&Life) -> bool) -> usize {
    let mut most = 0;
    for _ in 0..3000 {
        life.pass();
        most = most.max(starting(life));
        if holds(life) {
            return most;
        }
        life.world.lock().tick(Span(100));
    }
    panic!("it did not come about");
}

#[test]
fn many_new_projects_come_up_a_few_at_a_time_and_none_is_rejected_for_the_wait() {
    let mut life = Life::begin();
    // Eight at a time take 8 s, so the last ones wait for longer than their deadline.
    life.world.lock().set_up = 1000;
    let names: Vec<String> = (0..24).map(|number| format!("p{number}")).collect();
    names.iter().for_each(|name| wanted(&mut life, name, "good-1"));
    life.pass();
    let mut most = until(&mut life, |life| starting(life) == AT_ONCE);
    let status = names.iter().map(|name| life.status(name)).filter_map(|status| {
        status.condition(ConditionKind::Ready).filter(|ready| ready.reason == Reason::Queued).cloned()
    });
    let messages: Vec<String> = status.map(|ready| ready.message).collect();
    assert_eq!(messages.len(), names.len() - AT_ONCE);
    assert!(messages.iter().any(|message| message.contains("it is next")), "{messages:?}");
    assert!(messages.iter().any(|message| message.contains("more than 9 before it")), "{messages:?}");
    // Another agent keeps the order and the clocks.
    life.restart_agent();
    most = most.max(until(&mut life, |life| names.iter().all(|name| life.serving(name) == Some(1))));
    assert_eq!(most, AT_ONCE);
    life.settle();
    for name in &names {
        let status = life.status(name);
        assert!(status.rejected.is_empty() && status.condition(ConditionKind::Ready).unwrap().holds, "{status:?}");
    }
}

#[test]
fn an_update_goes_before_what_is_new_and_a_repair_before_both() {
    let mut life = Life::begin();
    for name in ["shop", "wiki"] {
        wanted(&mut life, name, "good-1");
    }
    life.settle();
    life.world.lock().set_up = 1000;
    let names: Vec<String> = (0..24).map(|number| format!("p{number}")).collect();
    names.iter().for_each(|name| wanted(&mut life, name, "good-1"));
    until(&mut life, |life| starting(life) == AT_ONCE);
    wanted(&mut life, "shop", "good-2");
    let down = life.world.lock().units.keys().find(|unit| unit.project.as_str() == "wiki").cloned().unwrap();
    life.world.lock().down(&down);
    until(&mut life, |life| life.serving("shop") == Some(2) && life.running().contains(&down.name()));
    let up = names.iter().filter(|name| life.serving(name).is_some()).count();
    assert!(up <= 2 * AT_ONCE, "{up} new ones went before");
}

#[test]
fn one_project_of_many_instances_does_not_keep_others_waiting() {
    let mut life = Life::begin();
    life.world.lock().set_up = 1000;
    let text = "zexio: 1\nproject: big\nartifact: { url: 'https://a.example.com/good-1' }\nprocesses: { web: { run: ./app, instances: 24 } }";
    life.want_text(text);
    until(&mut life, |life| starting(life) == AT_ONCE);
    wanted(&mut life, "small", "good-1");
    until(&mut life, |life| life.serving("small") == Some(1));
    assert!(life.running().len() <= 2 * AT_ONCE + 1, "{:?}", life.running());
    let most = until(&mut life, |life| life.serving("big") == Some(1));
    assert_eq!(most, AT_ONCE);
}
