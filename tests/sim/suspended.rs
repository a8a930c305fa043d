//! Stop, and go on; and what was told of it all.

use zexio::model::desired::OperatorSuspension;
use zexio::model::names::{ProjectId, Slot};
use zexio::model::observed::ActiveState;
use zexio::model::quantity::{Span, Timestamp};
use zexio::model::reason::Reason;
use zexio::model::status::{ConditionKind, ProjectState};

use crate::world::Life;

fn suspend(life: &mut Life, project: &str, until: Option<Span>) {
    let mut machine = life.world.lock();
    let since = machine.now;
    let until = until.map(|span| since.after(span));
    let suspension = OperatorSuspension { by: "key ops".into(), since, reason: Some("night".into()), until };
    machine.desired.0.get_mut(&ProjectId::parse(project).unwrap()).expect("a project").suspension = Some(suspension);
}

fn resume(life: &mut Life, project: &str) {
    let mut machine = life.world.lock();
    machine.desired.0.get_mut(&ProjectId::parse(project).unwrap()).expect("a project").suspension = None;
}

fn stop_web(life: &Life) {
    for seen in life.world.lock().units.values_mut() {
        seen.state = ActiveState::Inactive;
    }
}

fn told(life: &Life) -> Vec<Reason> {
    life.world.lock().events.iter().map(|event| event.reason).collect()
}

#[test]
fn a_held_project_is_neither_healed_nor_deployed_and_converges_at_once_when_it_is_resumed() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    suspend(&mut life, "shop", None);
    stop_web(&life);
    life.want("shop", "good-2");
    assert_eq!(life.settle(), Vec::<String>::new());
    assert_eq!(life.plan(), Vec::<String>::new());
    let status = life.status("shop");
    let message = &status.condition(ConditionKind::Suspended).expect("suspended").message;
    assert!(message.contains("until it is resumed, by key ops: night"), "{message}");
    assert_eq!(status.state, ProjectState::Suspended);
    assert!(!status.condition(ConditionKind::Ready).expect("a finding").holds, "what is seen is shown");
    resume(&mut life, "shop");
    life.pass();
    assert!(life.world.lock().calls.iter().any(|call| call == "fetch shop 2"), "the first pass acts");
    life.settle();
    assert_eq!(life.serving("shop"), Some(2));
    assert!(life.status("shop").condition(ConditionKind::Suspended).is_none());
    assert_eq!(told(&life).iter().filter(|reason| [Reason::Suspended, Reason::Resumed].contains(reason)).count(), 2);
}

/// What stopped an older generation says nothing of a newer one, which waits.
#[test]
fn a_wish_that_comes_during_a_suspension_is_not_said_to_have_failed() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "never-ready");
    life.settle();
    let failed = life.status("shop");
    assert!(failed.condition(ConditionKind::Stalled).is_some() && failed.observed_generation == 2);
    suspend(&mut life, "shop", None);
    life.settle();
    assert!(life.status("shop").condition(ConditionKind::Stalled).is_some(), "it is the failed one that is suspended");
    life.want("shop", "good-3");
    life.settle();
    let status = life.status("shop");
    assert_eq!((status.generation, status.observed_generation, status.state), (3, 2, ProjectState::Suspended));
    assert!(status.condition(ConditionKind::Stalled).is_none() && status.condition(ConditionKind::Suspended).is_some());
    let ready = status.condition(ConditionKind::Ready).unwrap();
    assert!(!ready.holds && ready.message.contains("generation 3 waits"), "{ready:?}");
    resume(&mut life, "shop");
    life.settle();
    let status = life.status("shop");
    assert_eq!((status.observed_generation, status.state), (3, ProjectState::Running));
}

#[test]
fn a_hold_ends_by_itself_and_a_rollout_has_all_of_its_time_after_it() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want_spec("shop", "url: 'https://a.example.com/good-2'", "deploy: { deadline: 1m }");
    life.pass();
    assert_eq!(life.status("shop").candidate.map(|release| release.0), Some(2));
    suspend(&mut life, "shop", Some(Span::seconds(3600)));
    life.pass();
    let before = life.world.lock().calls.len();
    life.world.lock().tick(Span::seconds(3599));
    life.pass();
    assert_eq!(life.world.lock().calls.len(), before);
    life.world.lock().tick(Span::seconds(1));
    life.settle();
    assert_eq!(life.serving("shop"), Some(2), "its deadline did not run meanwhile");
}

#[test]
fn the_removal_of_a_held_project_waits_until_it_is_resumed() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    suspend(&mut life, "shop", None);
    life.delete("shop");
    assert_eq!(life.settle(), Vec::<String>::new());
    let status = life.status("shop");
    assert_eq!(status.state, ProjectState::Suspended);
    assert!(
        status
            .condition(ConditionKind::Ready)
            .expect("a finding")
            .message
            .contains("its removal waits until it is resumed")
    );
    assert_eq!(status.serving.map(|release| release.0), Some(1));
    resume(&mut life, "shop");
    life.settle();
    assert!(life.world.lock().desired.0.is_empty() && life.world.lock().units.is_empty());
}

#[test]
fn a_removal_that_was_stopped_halfway_can_be_taken_back() {
    // Wherever the stop comes: each pass of the removal is one case.
    for passes in 0..12 {
        let mut life = Life::begin();
        life.want("shop", "good-1");
        life.settle();
        life.delete("shop");
        for _ in 0..passes {
            life.pass();
            life.world.lock().tick(Span::seconds(1));
        }
        if life.world.lock().desired.0.is_empty() {
            assert!(passes > 2, "the removal takes some passes");
            return;
        }
        suspend(&mut life, "shop", None);
        assert_eq!(life.settle(), Vec::<String>::new());
        life.want("shop", "good-1");
        assert_eq!(life.settle(), Vec::<String>::new());
        resume(&mut life, "shop");
        life.settle();
        assert_eq!(
            (life.status("shop").state, life.running().len()),
            (ProjectState::Running, 1),
            "after {passes} passes"
        );
    }
    panic!("the removal did not come to its end");
}

#[test]
fn a_spec_that_suspends_itself_does_not_hold_its_own_removal() {
    let mut life = Life::begin();
    life.want_spec("shop", "url: 'https://a.example.com/good-1'", "suspend: true");
    life.settle();
    life.delete("shop");
    life.settle();
    assert!(life.world.lock().desired.0.is_empty());
}

#[test]
fn what_was_rejected_is_not_tried_again_for_a_suspension() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "never-ready");
    life.settle();
    suspend(&mut life, "shop", None);
    life.settle();
    resume(&mut life, "shop");
    assert_eq!(life.settle(), Vec::<String>::new());
    assert_eq!(life.serving("shop"), Some(1));
}

#[test]
fn a_life_is_told_in_order_and_an_idle_loop_tells_and_writes_nothing() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.want("shop", "never-ready");
    life.settle();
    let story = [Reason::Trial, Reason::Promoted, Reason::Serving, Reason::HealthCheckFailed];
    let told: Vec<Reason> = told(&life).into_iter().filter(|reason| story.contains(reason)).collect();
    assert_eq!(told, [Reason::Trial, Reason::Promoted, Reason::Serving, Reason::Trial, Reason::HealthCheckFailed]);
    let machine = life.world.lock();
    for call in machine.calls.iter().filter(|call| call.starts_with("start zexio")) {
        assert!(machine.events.iter().any(|event| event.message.contains(call.as_str())), "{call} was not told");
    }
    let failed = machine.events.iter().find(|event| event.reason == Reason::HealthCheckFailed).expect("told");
    let of = (failed.project.as_ref().map(ToString::to_string), failed.generation, failed.release.map(|n| n.0));
    assert_eq!(of, (Some("shop".into()), Some(2), Some(2)));
    let (events, writes) = (machine.events.len(), machine.writes);
    drop(machine);
    for _ in 0..20 {
        life.world.lock().tick(Span::seconds(60));
        life.pass();
    }
    let machine = life.world.lock();
    assert_eq!((machine.events.len(), machine.writes), (events, writes));
}

#[test]
fn telling_makes_no_deploy_write_more_often() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    life.world.lock().writes_of_events = 0;
    life.want("shop", "good-2");
    while life.world.lock().slot(&ProjectId::parse("shop").unwrap(), "web") == Slot::A {
        life.pass();
        let machine = life.world.lock();
        assert_eq!(machine.writes_of_events, 0, "before the traffic moved: {:?}", machine.events);
        drop(machine);
        life.world.lock().tick(Span::seconds(1));
    }
}

#[test]
fn a_process_that_falls_and_comes_back_is_told() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.settle();
    let begun = life.world.lock().events.len();
    stop_web(&life);
    life.settle();
    let machine = life.world.lock();
    let told: Vec<Reason> = machine.events[begun..].iter().map(|event| event.reason).collect();
    assert_eq!(told, [Reason::ServingDamaged, Reason::ProcessDown, Reason::Serving]);
}

#[test]
fn a_step_that_fails_is_told_with_its_cause() {
    let mut life = Life::begin();
    life.want("shop", "good-1");
    life.world.lock().deaf = true;
    for _ in 0..20 {
        life.pass();
        life.world.lock().tick(Span::seconds(1));
    }
    let machine = life.world.lock();
    let failed = machine.events.iter().find(|event| event.reason == Reason::Systemd).expect("the failure is told");
    assert!(failed.message.starts_with("could not enable zexio-shop-web-r1.service: nobody answers"), "{failed:?}");
    assert!(failed.time > Timestamp(0));
}
