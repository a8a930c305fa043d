//! What the loop counts of its own work.

use zexio::model::quantity::Span;

use crate::world::Life;

#[test]
fn rollouts_are_counted_by_how_they_end_and_timed_by_their_parts() {
    let mut life = Life::begin();
    for artifact in ["good-1", "good-2", "never-ready"] {
        life.want("shop", artifact);
        life.settle();
    }
    assert_eq!(life.metric(r#"zexio_rollouts_total{outcome="serving"}"#), 2.0);
    assert_eq!(life.metric(r#"zexio_rollouts_total{outcome="rejected"}"#), 1.0);
    for (phase, count) in [("whole", 3.0), ("fetch", 3.0), ("trial", 3.0), ("drain", 1.0)] {
        assert_eq!(life.metric(&format!(r#"zexio_rollout_seconds_count{{phase="{phase}"}}"#)), count, "{phase}");
    }
    let took = |phase: &str| life.metric(&format!(r#"zexio_rollout_seconds_sum{{phase="{phase}"}}"#));
    assert!((10.0..15.0).contains(&took("drain")), "the spec's drain, and the stop: {}", took("drain"));
    assert_eq!(took("whole"), took("fetch") + took("trial"));
    assert_eq!(life.metric(r#"zexio_steps_total{kind="fetch",outcome="done"}"#), 3.0);
    assert_eq!(life.metric(r#"zexio_projects_condition{condition="Stalled",reason="HealthCheckFailed"}"#), 1.0);
}

#[test]
fn the_queues_age_is_that_of_the_oldest_generation_which_came_to_no_end() {
    let mut life = Life::begin();
    life.world.lock().network = false;
    life.want("shop", "good-1");
    life.pass();
    life.world.lock().tick(Span::seconds(30));
    life.want("blog", "good-1");
    life.pass();
    assert_eq!((life.metric("zexio_queue_length"), life.metric("zexio_queue_age_seconds")), (2.0, 30.0));
    life.world.lock().network = true;
    life.settle();
    assert_eq!((life.metric("zexio_queue_length"), life.metric("zexio_queue_age_seconds")), (0.0, 0.0));
    assert_eq!(life.metric("zexio_projects"), 2.0);
}
