//! Runs lives on every processor and says what they came to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::life::{Outcome, Rig, live};
use super::oracle::Promise;

/// Every seed that ever failed, one a line; what follows a # says what it found.
const FAILED: &str = include_str!("seeds.txt");

/// What many lives came to.
#[derive(Default)]
struct Sum {
    lives: u64,
    passes: u64,
    calls: u64,
    faults: BTreeMap<String, u64>,
    checked: BTreeMap<Promise, u64>,
    reached: BTreeMap<String, u64>,
    failed: Vec<u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, life: Outcome) {
        self.lives += 1;
        self.passes += life.passes;
        self.calls += life.calls;
        life.faults.into_iter().for_each(|(what, n)| *self.faults.entry(what).or_default() += n);
        life.checked.into_iter().for_each(|(promise, n)| *self.checked.entry(promise).or_default() += n);
        life.reached.into_iter().for_each(|what| *self.reached.entry(what).or_default() += 1);
        if life.breach.is_some() {
            self.failed.push(seed);
        }
    }

    fn merge(&mut self, other: Sum) {
        self.lives += other.lives;
        self.passes += other.passes;
        self.calls += other.calls;
        other.faults.into_iter().for_each(|(what, n)| *self.faults.entry(what).or_default() += n);
        other.checked.into_iter().for_each(|(promise, n)| *self.checked.entry(promise).or_default() += n);
        other.reached.into_iter().for_each(|(what, n)| *self.reached.entry(what).or_default() += n);
        self.failed.extend(other.failed);
    }
}

fn run(seeds: &[u64], rig: Rig) -> Sum {
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut own = Sum::default();
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    own.add(*seed, live(*seed, rig));
                    if own.failed.len() > 20 {
                        break;
                    }
                }
                sum.lock().expect("no worker panics").merge(own);
            });
        }
    });
    let mut sum = sum.into_inner().expect("no worker panics");
    sum.failed.sort_unstable();
    sum
}

/// Tells the end of the first failed life; none failed: nothing.
fn told(sum: &Sum, rig: Rig) -> String {
    let Some(seed) = sum.failed.first() else { return String::new() };
    let life = live(*seed, Rig { told: true, ..rig });
    let mut text = format!(
        "seed {seed} failed: {}\n",
        life.breach.map_or("not when told again".to_owned(), |breach| breach.to_string())
    );
    let steps = std::env::var("STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(40);
    for line in life.told.iter().skip(life.told.len().saturating_sub(steps)) {
        let _ = writeln!(text, "  {line}");
    }
    let _ = writeln!(text, "again: make sim SEEDS=1 FROM={seed}");
    for seed in &sum.failed {
        let why = live(*seed, rig).breach.map_or_else(String::new, |breach| breach.to_string());
        let _ = writeln!(text, "failed: {seed} {}", why.chars().take(160).collect::<String>());
    }
    text
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
#[ignore = "make sim runs it, with as many seeds as it is told"]
fn a_large_swarm() {
    let (seeds, from) = (number("SEEDS", 200_000), number("FROM", 0));
    let began = Instant::now();
    let sum = run(&(from..from + seeds).collect::<Vec<_>>(), Rig::default());
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} lives in {took:.1} s: {:.0} a second; {} passes, {} steps",
        sum.lives,
        sum.lives as f64 / took,
        sum.passes,
        sum.calls
    );
    println!("faults injected:");
    sum.faults.iter().for_each(|(what, n)| println!("  {n:>10}  {what}"));
    println!("promises checked:");
    sum.checked.iter().for_each(|(promise, n)| println!("  {n:>10}  {promise:?}"));
    println!("lives that reached:");
    sum.reached.iter().for_each(|(what, n)| println!("  {n:>10}  {what}"));
    print!("{}", told(&sum, Rig::default()));
    assert!(sum.failed.is_empty(), "{} of {} seeds failed", sum.failed.len(), sum.lives);
}

#[test]
fn every_promise_is_kept_in_five_thousand_lives() {
    let sum = run(&(0..number("SWARM", 5_000)).collect::<Vec<_>>(), Rig::default());
    assert!(sum.failed.is_empty(), "{}", told(&sum, Rig::default()));
    // The swarm must not go blind: each of these happens in some of the lives.
    for state in [
        "Serving",
        "Deleting",
        "Suspended",
        "HealthCheckFailed",
        "VerifyFailed",
        "ArtifactFailed",
        "Conflict",
        "rolled back",
        "superseded",
        "forgotten",
        "DependencyMissing",
        "PackagesFailed",
        "ServiceDown",
        "VersionUnavailable",
        "Running",
        "a service was forgotten",
        "PruneRefused",
        "SpecInvalid",
        "a project went with its file",
    ] {
        assert!(sum.reached.get(state).is_some_and(|n| *n > 20), "{state}: {:?}", sum.reached);
    }
}

#[test]
fn every_seed_that_ever_failed_is_lived_again() {
    let seeds = FAILED.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let seeds = seeds.collect::<Vec<u64>>();
    // The older ones failed before the swarm drew as much as it does now.
    for rig in [Rig::default(), Rig { plain: true, ..Rig::default() }] {
        let sum = run(&seeds, rig);
        assert!(sum.lives > 0 && sum.failed.is_empty(), "{}", told(&sum, rig));
    }
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in 0..40 {
        let lives = [(); 2].map(|()| live(seed, Rig { told: true, ..Rig::default() }));
        assert!(!lives[0].told.is_empty(), "{seed}");
        assert_eq!(lives[0].told, lives[1].told, "{seed}");
    }
}
