//! The agent dies before and after every change that it makes to the machine or to its progress.

use crate::world::Life;

const VERIFY: &str = "deploy: { verify: { http: /up, within: 5s } }";

/// A stage of a life: its name, what the operator does, and the release that serves after it.
type Stage = (&'static str, fn(&mut Life), Option<u32>);

/// A whole life: create, deploy, deploy something bad, deploy what is not verified, go back, delete. The agent dies before the change `dies_before`
/// of stage `stage`; the machine must come to the same end, and visitors must notice nothing. Tells whether it died.
fn live(dies_in: usize, dies_before: usize) -> bool {
    let mut life = Life::begin();
    let stages: [Stage; 6] = [
        ("create", |life| life.want("shop", "good-1"), Some(1)),
        ("deploy", |life| life.want("shop", "good-2"), Some(2)),
        ("bad deploy", |life| life.want("shop", "never-ready"), Some(2)),
        (
            "unverified deploy",
            |life| life.want_spec("shop", "url: \"https://a.example.com/unverified\"", VERIFY),
            Some(2),
        ),
        ("roll back", |life| life.want_spec("shop", "release: 1", ""), Some(1)),
        ("delete", |life| life.delete("shop"), None),
    ];
    let mut died = false;
    for (stage, (name, wish, serves)) in stages.into_iter().enumerate() {
        if stage > dies_in && serves.is_some() {
            continue; // after the death only the end of the life is left to see
        }
        let case = format!("{name}, as the agent died before change {dies_before} of stage {dies_in}");
        wish(&mut life);
        life.world.lock().gate.dies_before = (stage == dies_in).then_some(dies_before);
        life.settle();
        let mut machine = life.world.lock();
        died |= stage == dies_in && machine.gate.dies_before.is_none();
        machine.gate.dies_before = None;
        assert_eq!(machine.unserved, Vec::<String>::new(), "{case}");
        drop(machine);
        match serves {
            Some(release) => {
                assert_eq!(life.serving("shop"), Some(release), "{case}");
                let running: Vec<String> = life.running().into_iter().collect();
                assert_eq!(running, [format!("zexio-shop-web-r{release}.service")], "{case}");
                assert_eq!(life.plan(), Vec::<String>::new(), "{case}");
            }
            None => {
                let machine = life.world.lock();
                assert!(machine.desired.0.is_empty() && machine.units.is_empty(), "{case}");
                assert!(!machine.proxy.text.as_ref().is_some_and(|text| text.contains("shop.example.com")), "{case}");
            }
        }
    }
    died
}

#[test]
fn an_agent_that_dies_around_any_change_of_a_projects_life_comes_to_the_same_end_unnoticed() {
    let mut deaths = [0; 6];
    for (stage, deaths) in deaths.iter_mut().enumerate() {
        while live(stage, *deaths) {
            *deaths += 1;
        }
    }
    // create, deploy, bad deploy, unverified deploy, roll back, delete: as many as each has changes, so that the test does not go blind.
    assert!(deaths.iter().all(|deaths| (5..200).contains(deaths)), "{deaths:?}");
}
