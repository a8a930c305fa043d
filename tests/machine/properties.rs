//! A few hundred generated specs before the real thing: systemd takes every unit and timer and reads back what was
//! meant, Caddy takes every site and sends each path where it was meant to go.

#[path = "../properties/specs.rs"]
mod specs;

use std::collections::{BTreeMap, BTreeSet};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value;

use zexio::model::desired::WorkloadKind;
use zexio::model::layout::Layout;
use zexio::model::names::{ProjectId, Slot, UnitId};
use zexio::model::progress::Progress;
use zexio::plan::routes;
use zexio::render::caddyfile::{self, Site};
use zexio::render::unit;

use crate::machine::Machine;
use specs::{Deployed, document, proxy, read, renamed};

const SPECS: usize = 300;

/// The same specs on each run: what a machine shows must not depend on luck. Luck has the fast test.
fn generated() -> Vec<Deployed> {
    let (mut runner, mut from) = (TestRunner::deterministic(), 2000);
    let of = |i: usize| {
        let project = ProjectId::parse(&format!("p{i}")).expect("a name");
        let found = renamed(document().new_tree(&mut runner).expect("a spec").current(), &project);
        let deployed = Deployed::of(read(&found.to_string()), from);
        from += 2 * deployed.memory.ports.values().map(|ports| ports.len() as u16).sum::<u16>();
        deployed
    };
    (0..SPECS).map(of).collect()
}

fn layout() -> Layout {
    Layout::parse("/zexio").expect("a root")
}

/// Writes many small files into a machine at once, each as `path`, NUL, text, NUL.
fn write_all(machine: &Machine, files: &BTreeMap<String, String>) {
    let packed: String = files.iter().map(|(path, text)| format!("{path}\u{1}{text}\u{2}")).collect();
    machine.write_file("/root/packed", &packed);
    machine.must(
        "awk 'BEGIN { RS = \"\\002\"; FS = \"\\001\" } NF == 2 { printf \"%s\", $2 > $1; close($1) }' /root/packed",
    );
}

#[test]
fn systemd_takes_every_unit_and_reads_it_as_it_was_meant() {
    let machine = Machine::start();
    machine.must("install -m 755 /bin/true /usr/bin/zexio");
    let deployed = generated();
    let (mut files, mut meant) = (BTreeMap::new(), BTreeMap::new());
    for project in &deployed {
        for (unit, work) in project.units() {
            let text = unit::text(&unit, work, project.content(), Slot::A, project.memory.port_of(&unit), &layout());
            files.insert(Layout::unit_file(&unit).display().to_string(), text);
            if let WorkloadKind::Scheduled(calendar) = &work.kind {
                let text = unit::timer_text(&unit, calendar, Slot::A);
                files.insert(Layout::timer_file(&unit).display().to_string(), text);
            }
            meant.insert(unit.name(), properties(project, &unit));
        }
    }
    assert!(meant.len() > SPECS, "{} units were made", meant.len());
    write_all(&machine, &files);
    machine.must("systemctl daemon-reload");
    let verified = machine.sh("cd /etc/systemd/system && ls | grep -E '^zexio-p.*(service|timer)$' | xargs -n 200 systemd-analyze verify 2>&1 | grep zexio-p || true");
    assert_eq!(verified.stdout.trim(), "", "systemd-analyze verify has nothing to say of them");
    let keys = meant.values().next().expect("a unit").keys().cloned().collect::<Vec<_>>().join(",");
    let names: Vec<&String> = meant.keys().collect();
    let mut shown = BTreeMap::new();
    for names in names.chunks(200) {
        let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        let said = machine.must(&format!("systemctl show -p Id,{keys} {names}"));
        for block in said.split("\n\n") {
            let pairs = block.lines().filter_map(|line| line.split_once('='));
            let mut pairs: BTreeMap<String, String> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            if let Some(id) = pairs.remove("Id") {
                shown.insert(id, pairs);
            }
        }
    }
    for (unit, meant) in &meant {
        assert_eq!(shown.get(unit), Some(meant), "{unit}");
    }
}

/// Returns what systemd has to make of a unit, as `systemctl show` prints it.
fn properties(project: &Deployed, unit: &UnitId) -> BTreeMap<String, String> {
    let (content, work) = (project.content(), &project.content().processes[&unit.process]);
    let signal = format!("{:?}", work.stop.signal);
    let number = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGWINCH"];
    let numbers = [1, 2, 3, 10, 12, 15, 28];
    let signal = number.iter().position(|name| *name == signal).map(|at| numbers[at]).expect("a signal");
    let notifies = work.ready.as_ref().is_some_and(|ready| ready.check == zexio::model::spec::Check::Notify);
    let kind = match &work.kind {
        WorkloadKind::Scheduled(_) | WorkloadKind::Release(_) => "oneshot",
        _ if notifies => "notify",
        _ => "exec",
    };
    let pairs = [
        ("LoadState", "loaded".to_owned()),
        ("Type", kind.to_owned()),
        ("User", format!("zx-{}", unit.project)),
        ("Slice", "zexio-apps.slice".to_owned()),
        ("MemoryMax", content.limits.memory.map_or("infinity".to_owned(), |memory| memory.0.to_string())),
        ("TasksMax", content.limits.tasks.to_string()),
        ("KillSignal", signal.to_string()),
        ("FragmentPath", Layout::unit_file(unit).display().to_string()),
        ("Description", project_description(unit)),
        ("NeedDaemonReload", "no".to_owned()),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

fn project_description(unit: &UnitId) -> String {
    let instance = unit.instance.map(|instance| format!(", instance {instance}")).unwrap_or_default();
    format!("zexio app {}, process {}, release {}{instance}", unit.project, unit.process, unit.release)
}

#[test]
fn caddy_takes_every_site_and_sends_each_path_where_it_was_meant_to_go() {
    let machine = Machine::start();
    let mut progress = Progress::default();
    let mut taken = BTreeSet::new();
    for project in generated() {
        // Two projects never have one host: `plan/target.rs` sees to that.
        let hosts: BTreeSet<_> = project.memory.routes.values().flatten().map(|route| route.host.clone()).collect();
        if taken.is_disjoint(&hosts) {
            taken.extend(hosts);
            progress.projects.extend(project.progress().projects);
        }
    }
    let sites = routes::sites(&progress, &layout());
    assert!(sites.len() > 50, "{} sites were made", sites.len());
    machine.write_file("/root/Caddyfile", &caddyfile::text(&proxy(), &sites).expect("it renders"));
    let adapted = machine.must("caddy adapt --adapter caddyfile --config /root/Caddyfile 2>/dev/null");
    machine.must("caddy validate --adapter caddyfile --config /root/Caddyfile");
    let adapted: Value = serde_json::from_str(&adapted).expect("JSON");
    let mut found = BTreeMap::new();
    let servers = adapted["apps"]["http"]["servers"].as_object().expect("servers");
    for route in servers.values().flat_map(|server| server["routes"].as_array().into_iter().flatten()) {
        for host in route["match"][0]["host"].as_array().into_iter().flatten() {
            let mut said = Vec::new();
            collect(route, "/", &mut said);
            assert!(
                found.insert(host.as_str().unwrap_or_default().to_owned(), said).is_none(),
                "{host} is there twice"
            );
        }
    }
    assert_eq!(found.len(), sites.len());
    for site in &sites {
        assert_eq!(found.get(site.host.as_str()), Some(&meant(site)), "{}", site.host);
    }
}

/// Returns where a site's requests go, in the order in which Caddy asks: path and addresses, root or redirect.
fn meant(site: &Site) -> Vec<String> {
    let mut meant: Vec<String> = site.redirect.iter().map(|to| format!("/ to {to}{{http.request.uri}}")).collect();
    for route in &site.routes {
        let path = route.path.as_ref().map_or("/", |path| path.as_str());
        let headers: Value = serde_json::to_value(&route.headers).expect("JSON");
        let headers = headers.as_object().into_iter().flatten();
        meant.extend(headers.map(|(name, text)| {
            format!("{path} header {}: {}", name.to_lowercase(), text.as_str().unwrap_or_default())
        }));
        match &route.root {
            Some(root) => meant.push(format!("{path} root {root}")),
            None => {
                meant.push(format!("{path} to {}", route.b.join(" ")));
                meant.push(format!("{path} to {}", route.a.join(" ")));
            }
        }
    }
    meant.sort();
    meant
}

/// Collects the same from Caddy's own configuration.
fn collect(route: &Value, path: &str, said: &mut Vec<String>) {
    let own = route["match"].as_array().into_iter().flatten().find_map(|m| m["path"][0].as_str());
    let path = own.unwrap_or(path);
    for handle in route["handle"].as_array().into_iter().flatten() {
        match handle["handler"].as_str().unwrap_or_default() {
            "subroute" => {
                handle["routes"].as_array().into_iter().flatten().for_each(|route| collect(route, path, said));
            }
            "reverse_proxy" => {
                let dials = handle["upstreams"].as_array().into_iter().flatten();
                let dials: Vec<&str> = dials.filter_map(|upstream| upstream["dial"].as_str()).collect();
                said.push(format!("{path} to {}", dials.join(" ")));
            }
            "vars" => said.extend(handle["root"].as_str().map(|root| format!("{path} root {root}"))),
            "headers" => {
                let set = handle["response"]["set"].as_object().into_iter().flatten();
                said.extend(set.map(|(name, text)| {
                    format!("{path} header {}: {}", name.to_lowercase(), text[0].as_str().unwrap_or_default())
                }));
            }
            "static_response" => {
                let to = handle["headers"]["Location"][0].as_str();
                said.extend(to.map(|to| format!("{path} to {to}")));
            }
            _ => {}
        }
    }
    said.sort();
}
