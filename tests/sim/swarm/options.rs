//! What a seed draws: which kinds of fault are on in a life and how often, and which parts of the spec its projects use.

use crate::chance::Chance;

/// What can happen in one life. Numbers are chances in a thousand, per effect or per step.
#[derive(Debug, Clone)]
pub struct Options {
    pub projects: usize,
    pub steps: u64,
    pub desired_store: u64,
    pub fails: u64,
    pub dies: u64,
    pub restarts: u64,
    pub blind: u64,
    pub lies: u64,
    pub drift: u64,
    pub jumps: u64,
    pub disk_full: u64,
    pub outages: u64,
    pub flaky: u64,
    pub caddy: u64,
    pub refuses: bool,
    /// Signals of systemd may be lost: the agent sees what happened only when it looks by itself.
    pub deaf_signals: bool,
    pub bad_apps: bool,
    pub deletes: bool,
    pub rollbacks: bool,
    pub webhooks: bool,
    pub suspends: bool,
    pub strangers: bool,
    pub tiny_ports: bool,
    pub shared_hosts: bool,
    pub kinds: Kinds,
    pub later: Later,
}

/// What is drawn from a source of its own: a life without it is what its seed always was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Later {
    /// Host services are asked for.
    pub services: bool,
    /// How often the package manager's work goes wrong, and daemons do not come up.
    pub work: u64,
    pub falls: u64,
    /// Projects are asked for by files in a directory, whose loss is no wish.
    pub directory: bool,
    pub prune_max: usize,
    /// How often a wish comes in the middle of a pass, per call of the pass.
    pub amid: u64,
    /// What the agent logs is looked at: each line costs time.
    pub listens: bool,
    /// Processes have a strategy of their own.
    pub strategies: bool,
    /// How often an app takes its time to end, and then ends badly.
    pub grudges: u64,
    /// Releases are verified through Caddy by the public name, and some do not answer there.
    pub verifies: bool,
}

impl Later {
    pub fn draw(chance: &mut Chance) -> Self {
        Self {
            services: chance.hits(250),
            work: sometimes(chance, 600),
            falls: sometimes(chance, 500),
            directory: chance.hits(200),
            prune_max: chance.pick(&[0, 1, 1, 2]),
            amid: sometimes(chance, 60),
            listens: chance.hits(250),
            strategies: chance.hits(300),
            grudges: sometimes(chance, 500),
            verifies: false,
        }
    }
}

fn sometimes(chance: &mut Chance, most: u64) -> u64 {
    if chance.hits(400) { 1 + chance.below(most) } else { 0 }
}

/// Which parts of the spec language are used.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    pub instances: bool,
    pub workers: bool,
    pub timers: bool,
    pub sites: bool,
    pub commands: bool,
    pub second_web: bool,
    pub redirects: bool,
    pub recreate: bool,
    pub hold: bool,
    pub notify: bool,
}

impl Options {
    pub fn draw(chance: &mut Chance) -> Self {
        Self {
            projects: chance.pick(&[1, 1, 1, 1, 2, 2, 3]),
            steps: 4 + chance.below(11),
            desired_store: 150 + chance.below(350),
            fails: sometimes(chance, 150),
            dies: sometimes(chance, 120),
            restarts: sometimes(chance, 100),
            blind: sometimes(chance, 200),
            lies: sometimes(chance, 200),
            drift: sometimes(chance, 300),
            jumps: if chance.hits(250) { 40 } else { 0 },
            disk_full: sometimes(chance, 100),
            outages: sometimes(chance, 150),
            flaky: sometimes(chance, 500),
            caddy: sometimes(chance, 100),
            refuses: chance.hits(80),
            deaf_signals: chance.hits(300),
            bad_apps: chance.hits(600),
            deletes: chance.hits(400),
            rollbacks: chance.hits(500),
            webhooks: chance.hits(300),
            suspends: chance.hits(250),
            strangers: chance.hits(300),
            tiny_ports: chance.hits(150),
            shared_hosts: chance.hits(200),
            kinds: Kinds {
                instances: chance.hits(250),
                workers: chance.hits(250),
                timers: chance.hits(200),
                sites: chance.hits(250),
                commands: chance.hits(250),
                second_web: chance.hits(250),
                redirects: chance.hits(150),
                recreate: chance.hits(200),
                hold: chance.hits(200),
                notify: chance.hits(200),
            },
            later: Later::default(),
        }
    }
}
