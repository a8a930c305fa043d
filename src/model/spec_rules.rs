//! Checks the rules that span several values of a spec; each value alone is checked by its type.

use std::collections::{BTreeMap, BTreeSet};

use super::calendar;
use super::names::{Hostname, ProcessName, ReleaseNo};
use super::problem::Problem;
use super::quantity::{Bytes, Span, Timestamp};
use super::spec::{
    Artifact, ArtifactFrom, Deploy, Document, Process, Ready, Route, Sandbox, SecretUse, Source, Spec, Tls, Updates,
    has_hidden_query, hide_query, parse_url,
};

/// Returns every broken rule, in the order of the document's keys.
pub fn problems(spec: &Document) -> Vec<Problem> {
    let mut found = Vec::new();
    artifact(&spec.artifact, &mut found);
    times(spec, &mut found);
    variables(spec, &mut found);
    let unconfined = spec.sandbox == Sandbox::Off;
    let flaw = spec.release.as_ref().and_then(|release| release.run.flaw(unconfined));
    found.extend(flaw.map(|why| Problem::at("release.run", why)));
    if spec.processes.is_empty() {
        found.push(Problem::at("processes", "a project needs at least one process"));
    }
    for (name, process) in &spec.processes {
        kind(name, process, &mut found);
        let flaw = process.run.as_ref().and_then(|run| run.flaw(unconfined));
        found.extend(flaw.map(|why| Problem::at(format!("processes.{name}.run"), why)));
        if let Some(Err(why)) = process.schedule.as_ref().map(|schedule| calendar::check(schedule.as_str())) {
            found.push(Problem::at(format!("processes.{name}.schedule"), why));
        }
        readiness(
            &format!("processes.{name}"),
            process,
            spec.deploy.min_healthy + spec.deploy.drain,
            spec.deploy.deadline,
            &mut found,
        );
    }
    ports(spec, &mut found);
    routes(spec, &mut found);
    if spec.deploy.verify.is_some() && spec.verified_route().is_none() {
        found.push(Problem::at("deploy.verify.http", "no route takes this path; name one that visitors reach"));
    }
    if spec.limits.memory.is_some_and(|memory| memory < Bytes(4 << 20)) {
        found.push(Problem::at("limits.memory", "less than 4M: no process could start"));
    }
    if !(1..=65536).contains(&spec.limits.tasks) {
        found.push(Problem::at("limits.tasks", "between 1 and 65536"));
    }
    found.extend(hooks(spec));
    found
}

/// Restores the stored URLs where the spec has them as shown, with their query hidden. Returns the shown URLs for which
/// none is stored.
pub fn restore_hidden_urls(spec: &mut Document, stored: Option<&Spec>) -> Vec<Problem> {
    let mut stored = stored.cloned();
    let mut known: BTreeMap<&str, &mut String> = stored.iter_mut().flat_map(Spec::urls_mut).collect();
    let mut problems = Vec::new();
    for (path, url) in spec.urls_mut().filter(|(_, url)| has_hidden_query(url)) {
        match known.remove(path).filter(|known| hide_query(known) == *url) {
            Some(known) => *url = std::mem::take(known),
            None => problems.push(Problem::at(path, HIDDEN)),
        }
    }
    problems
}

const HIDDEN: &str =
    "this is a URL as zexio shows it, its query hidden, and no such URL is stored here; write the URL itself";

/// Returns what a file in the watched directory cannot contain: a file holds the whole spec, so nothing in it stands
/// for a stored value.
pub fn file_problems(spec: &mut Document) -> Vec<Problem> {
    let sealed = spec.env.iter().filter(|(_, value)| value.clear().is_none());
    let sealed = sealed.map(|(name, _)| {
        Problem::at(
            format!("env.{name}"),
            "a file has the value itself; {sealed: …} stands for a stored one only in `zexio apply`",
        )
    });
    sealed.collect::<Vec<_>>().into_iter().chain(restore_hidden_urls(spec, None)).collect()
}

/// Returns the schedules that are over and never match again. One that is also in the stored spec is accepted: its time
/// came while it was there.
pub fn ended_schedules(spec: &Document, stored: Option<&Spec>, now: Timestamp) -> Vec<Problem> {
    let is_over = |(name, process): (&ProcessName, &Process)| {
        let schedule = process.schedule.as_ref()?;
        let known = stored.and_then(|stored| stored.processes.get(name)?.schedule.as_ref());
        let over = known != Some(schedule) && !calendar::comes_after(schedule.as_str(), now.0);
        let why = || format!("{:?} is over and never comes again", schedule.as_str());
        over.then(|| Problem::at(format!("processes.{name}.schedule"), why()))
    };
    spec.processes.iter().filter_map(is_over).collect()
}

fn artifact(artifact: &Artifact, found: &mut Vec<Problem>) {
    match &artifact.from {
        // A URL with a hidden query stands for the stored one, which is looked up where there is a store (`restore`).
        ArtifactFrom::Source(Source::Url { url, .. }) if !has_hidden_query(url) => {
            let why = parse_url(url).err().map(|bad| bad.or_like("https://example.com/shop-1.8.2.tar.gz"));
            found.extend(why.map(|why| Problem::at("artifact.url", why)));
        }
        ArtifactFrom::Release(ReleaseNo(0)) => found.push(Problem::at("artifact.release", "releases begin at 1")),
        ArtifactFrom::Source(_) | ArtifactFrom::Release(_) => {}
    }
}

/// No work fits into zero time; systemd even takes a 0 for no limit at all.
fn times(spec: &Document, found: &mut Vec<Problem>) {
    let mut bounds = vec![("deploy.deadline".to_owned(), spec.deploy.deadline)];
    bounds.extend(spec.deploy.verify.as_ref().map(|verify| ("deploy.verify.within".to_owned(), verify.within)));
    bounds.extend(spec.release.as_ref().map(|release| ("release.timeout".to_owned(), release.timeout)));
    for (name, process) in &spec.processes {
        bounds.extend(process.ready.as_ref().map(|ready| (format!("processes.{name}.ready.within"), ready.within)));
        bounds.push((format!("processes.{name}.stop.within"), process.stop.within));
    }
    let empty = bounds.into_iter().filter(|(_, span)| *span == Span(0));
    found.extend(empty.map(|(path, _)| Problem::at(path, "must be longer than 0s")));
    let Deploy { min_healthy, deadline, .. } = spec.deploy;
    if deadline > Span(0) && min_healthy >= deadline {
        let message = format!("must be shorter than deploy.deadline ({deadline})");
        found.push(Problem::at("deploy.min_healthy", message));
    }
}

fn variables(spec: &Document, found: &mut Vec<Problem>) {
    let mut taken: BTreeSet<&str> = spec.env.keys().map(|name| name.as_str()).collect();
    for (i, SecretUse { variable, .. }) in spec.secrets.iter().enumerate() {
        if !taken.insert(variable.as_str()) {
            found.push(Problem::at(
                format!("secrets.{i}"),
                format!("{variable} is set twice, by env or another secret"),
            ));
        }
    }
}

/// A process has one of three kinds, and only the keys that make sense for its kind.
fn kind(name: &ProcessName, process: &Process, found: &mut Vec<Problem>) {
    let at = |field: &str| format!("processes.{name}{field}");
    let mut refuse = |field: &str, there: bool, why: &str| {
        if there {
            found.push(Problem::at(at(field), why));
        }
    };
    let (site, timed) = (process.static_site.is_some(), process.schedule.is_some());
    refuse("", process.run.is_none() && !site, "needs run, a command, or static, a directory");
    refuse("", name.as_str() == "release", "the name is taken by the release command; choose another");
    refuse(".run", process.run.is_some() && site, "a static site runs nothing; leave it out");
    refuse(".routes", process.routes.is_empty() && site, "a static site needs a route");
    refuse(".spa", process.spa && !site, "only a static site has it");
    refuse(".clean_urls", process.clean_urls && !site, "only a static site has it");
    refuse(".ready", process.ready.is_some() && (site || timed), "only a process that runs all the time has it");
    refuse(
        ".instances",
        process.instances.count() > 1 && (site || timed),
        "only a process that runs all the time has it",
    );
    refuse(".h2c", process.h2c && !process.is_web(), "only a process that gets requests has it");
    refuse(".strategy", process.strategy.is_some() && (site || timed), "only a process that runs all the time has it");
    refuse(".schedule", timed && site, "a static site has none");
    refuse(".routes", timed && !process.routes.is_empty(), "a process with a schedule gets no requests");
}

/// A process without a port cannot be given one.
fn ports(spec: &Document, found: &mut Vec<Problem>) {
    let processes = spec.processes.iter().filter(|(_, process)| !process.is_web());
    let runs = processes.filter_map(|(name, process)| Some((format!("processes.{name}.run"), process.run.as_ref()?)));
    let release = spec.release.as_ref().map(|release| ("release.run".to_owned(), &release.run));
    for (path, _) in runs.chain(release).filter(|(_, run)| run.uses("PORT")) {
        let why = "a process without routes has no $PORT; leave it out, give the process a route, or write $$PORT for \
                   the text itself";
        found.push(Problem::at(path, why));
    }
}

fn readiness(path: &str, process: &Process, after: Span, deadline: Span, found: &mut Vec<Problem>) {
    let ready = process.ready.clone().unwrap_or_else(Ready::default_tcp);
    if ready.timeout == Span(0) || ready.interval < Span(10) {
        found.push(Problem::at(format!("{path}.ready"), "timeout must be more than 0, interval at least 10ms"));
    }
    if process.ready.is_some() && deadline > Span(0) && ready.within + after >= deadline {
        let message =
            format!("within, deploy.min_healthy and deploy.drain together reach deploy.deadline ({deadline})");
        found.push(Problem::at(format!("{path}.ready.within"), message));
    }
}

/// A host has one kind of certificate, and each of its paths one destination.
fn routes(spec: &Document, found: &mut Vec<Problem>) {
    let mut tls: BTreeMap<&Hostname, Tls> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut redirected = BTreeSet::new();
    for (name, process) in &spec.processes {
        for (i, route) in process.routes.iter().enumerate() {
            let Route { host, path, redirect, .. } = route;
            let at = |field: &str| format!("processes.{name}.routes.{i}{field}");
            if *tls.entry(host).or_insert(route.tls) != route.tls {
                found.push(Problem::at(at(".tls"), format!("{host} has another tls in another route")));
            }
            if !taken.insert((host, path)) {
                found.push(Problem::at(at(""), format!("{host} with this path is routed twice")));
            }
            if redirect.is_some() && path.is_some() {
                found.push(Problem::at(at(".path"), "a redirect takes every path; leave it out"));
            }
            if redirect.is_some() && !route.headers.is_empty() {
                found.push(Problem::at(at(".headers"), "a redirect's answer gets none; leave them out"));
            }
            if redirect.as_ref().is_some_and(|site| site.as_str().ends_with(&format!("://{host}"))) {
                found.push(Problem::at(at(".redirect"), "leads back to the same host"));
            }
            if redirect.is_some() {
                redirected.insert(host);
            }
        }
    }
    for host in redirected {
        if taken.iter().filter(|(other, _)| *other == host).count() > 1 {
            found.push(Problem::at("processes", format!("{host} is redirected and routed too")));
        }
    }
}

fn hooks(spec: &Document) -> impl Iterator<Item = Problem> {
    let idle = !spec.hooks.is_empty() && spec.artifact.updates == Updates::Fixed;
    let why = "hooks can move nothing as long as only the spec may; write updates: webhook under artifact, or leave out hooks";
    let idle = idle.then(|| Problem::at("artifact.updates", why));
    idle.into_iter().chain(templates(spec))
}

fn templates(spec: &Document) -> impl Iterator<Item = Problem> {
    spec.hooks.built().into_iter().flat_map(|hook| {
        let at = |key: &str| format!("hooks.{}.{key}", hook.provider);
        let repo = hook.repo_flaw().map(|why| Problem::at(at("repo"), why));
        [repo, hook.template_flaw().map(|why| Problem::at(at("artifact"), why))].into_iter().flatten()
    })
}

#[cfg(test)]
mod tests {
    use crate::model::document::parse;
    use crate::model::spec::{Check, Plain};

    fn refusal(processes: &str, rest: &str) -> String {
        let text = format!(
            "zexio: 1\nproject: shop\nartifact: {{ url: https://a.example.com/x, updates: webhook }}\nprocesses: {processes}\n{rest}\n"
        );
        parse(text.as_bytes()).map(|_| ()).map_err(|e| e.to_string()).err().unwrap_or_default()
    }

    fn hook(repo: &str, event: &str, artifact: &str) -> String {
        format!("hooks: {{ github: {{ repo: '{repo}', event: {event}, artifact: '{artifact}', secret: S }} }}")
    }

    #[test]
    fn a_hook_may_build_the_same_url_always_and_a_gitlab_group_may_stand_in_another() {
        let web = "{ web: { run: ./x } }";
        assert_eq!(refusal(web, &hook("acme-inc/shop_2.0", "workflow_run", "https://x/latest.tgz?sha={sha}")), "");
        let gitlab = "hooks: { gitlab: { repo: a/b/c, event: release, artifact: 'https://x/latest.tgz', tags: 'web/*', prereleases: true, secret: S } }";
        assert_eq!(refusal(web, gitlab), "");
    }

    #[test]
    fn hooks_that_may_move_nothing_are_refused_with_the_line_to_write() {
        let text = |updates: &str, hooks: &str| {
            format!(
                "zexio: 1\nproject: shop\nartifact: {{ url: https://a.example.com/x{updates} }}\nprocesses: {{ web: {{ run: ./x }} }}\nhooks: {hooks}\n"
            )
        };
        let refusal = |updates: &str, hooks: &str| parse(text(updates, hooks).as_bytes()).err().map(|e| e.to_string());
        for hooks in ["{ generic: {} }", "{ standard: { secret: S } }"] {
            let why = "artifact.updates: hooks can move nothing as long as only the spec may; write updates: webhook under \
                       artifact, or leave out hooks";
            assert_eq!(refusal("", hooks), Some(format!("line 3, column 1: {why}")));
            assert_eq!(refusal(", updates: fixed", hooks), Some(format!("line 3, column 52: {why}")));
            assert_eq!(refusal(", updates: webhook", hooks), None);
        }
        assert_eq!(refusal("", "{}"), None);
    }

    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        let web = "{ web: { run: ./x } }";
        for (processes, rest, said) in [
            ("{}", "", "at least one process"),
            (web, "env: { A: x }\nsecrets: [A]", "set twice"),
            (web, "limits: { memory: 1M }", "4M"),
            ("{ web: { ready: { tcp: true } } }", "", "needs run"),
            ("{ web: { run: ~/bin/app } }", "", "apps cannot get at homes"),
            ("{ web: { run: [~/bin/app] } }", "release: { run: [$HOME/x] }", "release.run: \"$HOME/x\" is a place"),
            ("{ release: { run: ./x } }", "", "taken by the release command"),
            ("{ docs: { static: public } }", "", "needs a route"),
            ("{ docs: { static: ../etc, routes: [{ host: a.b.c }] } }", "", "beneath the bundle"),
            ("{ docs: { static: public, run: ./x, routes: [{ host: a.b.c }] } }", "", "runs nothing"),
            ("{ jobs: { run: ./x, schedule: daily, instances: 2 } }", "", "runs all the time"),
            ("{ jobs: { run: ./x, schedule: daily, strategy: recreate } }", "", "runs all the time"),
            ("{ jobs: { run: ./x, schedule: 'daily\\nUser=root' } }", "", "calendar expression"),
            ("{ web: { run: ./x, instances: 65 } }", "", "between 1 and 64"),
            ("{ web: { run: ./x, ready: { http: /up, tcp: true } } }", "", "exactly one of http"),
            ("{ web: { run: ./x, ready: { tcp: true, within: 5m } } }", "", "deploy.deadline"),
            ("{ web: { run: ./x, routes: [{ host: a.b.c }, { host: a.b.c }] } }", "", "routed twice"),
            (
                "{ web: { run: ./x, routes: [{ host: a.b.c }, { host: a.b.c, path: /x, tls: off }] } }",
                "",
                "another tls",
            ),
            ("{ web: { run: ./x, routes: [{ host: a.b.c, redirect: 'https://a.b.c' }] } }", "", "same host"),
            (
                "{ web: { run: ./x, routes: [{ host: a.b.c, path: /x, redirect: 'https://d.b.c' }] } }",
                "",
                "takes every path",
            ),
            (
                "{ web: { run: ./x, routes: [{ host: a.b.c, headers: { A: b }, redirect: 'https://d.b.c' }] } }",
                "",
                "gets none",
            ),
            (
                "{ web: { run: ./x, routes: [{ host: a.b.c, redirect: 'https://d.b.c' }, { host: a.b.c, path: /x }] } }",
                "",
                "redirected and routed too",
            ),
            (web, "deploy: { deadline: 0s }", "line 5, column 21: deploy.deadline: must be longer than 0s"),
            (web, "release: { run: ./x, timeout: 0s }", "release.timeout: must be longer than 0s"),
            ("{ web: { run: ./x, ready: { tcp: true, within: 0s } } }", "", "ready.within: must be longer than 0s"),
            ("{ web: { run: ./x, stop: { within: 0s } } }", "", "stop.within: must be longer than 0s"),
            (web, "deploy: { min_healthy: 5m }", "deploy.min_healthy: must be shorter than deploy.deadline (5m)"),
            (web, "limits: { tasks: 0 }", "between 1 and 65536"),
            ("{ web: { run: ./x, ready: { tcp: true, timeout: 0s } } }", "", "timeout must be more than 0"),
            ("{ web: { run: ./x, ready: { tcp: true, interval: 9ms } } }", "", "at least 10ms"),
            ("{ web: { run: [] } }", "", "the command is empty"),
            ("{ web: { run: -x } }", "", "is not a program"),
            ("{ web: { run: bin/../../x } }", "", "leads out of the bundle"),
            ("{ web: { run: [./x, \"a\\0b\"] } }", "", "a NUL byte"),
            ("{ web: { run: 3 } }", "", "a string or a list of words"),
            ("{ web: { run: ./x && ./y } }", "", r#"write [sh, -c, "./x && exec ./y"]"#),
            ("{ jobs: { run: ./x $PORT } }", "", "processes.jobs.run: a process without routes has no $PORT"),
            ("{ jobs: { run: [./x, 'a${PORT}'] } }", "", "has no $PORT"),
            (
                "{ jobs: { run: ./x, schedule: '0 3 * * *' } }",
                "",
                "processes.jobs.schedule: \"0 3 * * *\" is cron's way",
            ),
            ("{ jobs: { run: ./x, schedule: '*-02-30' } }", "", "never comes"),
            ("{ jobs: { run: ./x, schedule: '@daily' } }", "", "systemd's is \"daily\""),
            (web, "release: { run: ./x $PORT }", "release.run: a process without routes has no $PORT"),
            (web, "env: { A: \"a\\0b\" }", "a NUL byte"),
            ("{ web: { run: ./x, routes: [{ host: a.b.c, redirect: 'https://d.b.c/x' }] } }", "", "no path"),
            (
                web,
                "hooks: { github: { repo: a/b, event: release, artifact: 'https://x/{env}', secret: S } }",
                "placeholders",
            ),
            (web, &hook("../x y", "release", "https://x/{tag}"), "hooks.github.repo: not a repository like owner/name"),
            (web, &hook("https://github.com/a/b", "release", "https://x/{tag}"), "not its address"),
            (web, &hook("a/b/c", "release", "https://x/{tag}"), "not a repository like owner/name"),
            (web, &hook("a/b.git", "release", "https://x/{tag}"), "without .git"),
            (web, &hook("a/b", "release", "{tag}.tar.gz"), "hooks.github.artifact: not a URL like"),
            (web, &hook("a/b", "release", "https://{tag}.example.com/x"), "its host is written out"),
            (web, &hook("a/b", "release", "https://x.example.com/{tag} x"), "holds a space"),
            (web, &hook("a/b", "release", "ftp://x.example.com/{tag}"), "its scheme is not https"),
            (web, &hook("a/b", "release", "https://x/{sha}"), "event: release does not say {sha}, only {tag}"),
            (
                web,
                "hooks: { gitlab: { repo: a, event: pipeline, artifact: 'https://x/{sha}', secret: S } }",
                "group/name",
            ),
            (
                web,
                "hooks: { forgejo: { repo: a/b, event: release, artifact: 'https://x/{run}', secret: S } }",
                "hooks.forgejo.artifact: event: release does not say {run}",
            ),
            (
                web,
                "hooks: { forgejo: { repo: a/b, event: release, artifact: 'https://x/{tag}', tags: 'v?', secret: S } }",
                "not a pattern of tags like web-*",
            ),
        ] {
            let refused = refusal(processes, rest);
            assert!(refused.contains(said), "{processes} {rest}: {refused:?}");
        }
    }

    #[test]
    fn a_release_may_take_traffic_at_once_and_leave_it_at_once() {
        assert_eq!(refusal("{ web: { run: ./x } }", "deploy: { min_healthy: 0s, drain: 0s }"), "");
    }

    #[test]
    fn a_value_that_no_program_could_be_started_with_is_refused() {
        let env = |length: usize| format!("env: {{ A: {} }}", "a".repeat(length));
        assert_eq!(refusal("{ web: { run: ./x } }", &env(Plain::LONGEST)), "");
        let refused = refusal("{ web: { run: ./x } }", &env(Plain::LONGEST + 1));
        assert!(refused.contains("122881 bytes; 122880 is the most"), "{refused}");
    }

    #[test]
    fn a_probe_asks_for_a_path_with_its_query() {
        let text = "zexio: 1\nproject: shop\nartifact: { file: x }\nprocesses: { web: { run: ./x, ready: { http: /up?x=1 } } }";
        let document = parse(text.as_bytes()).unwrap();
        let ready = document.processes.values().next().and_then(|process| process.ready.clone()).unwrap();
        assert!(matches!(ready.check, Check::Http { path, host: None, .. } if path.as_str() == "/up?x=1"));
    }

    #[test]
    fn two_sources_of_an_artifact_are_refused() {
        let text = "zexio: 1\nproject: shop\nartifact: { url: https://a.example.com/x, release: 3 }\nprocesses: { web: { run: ./x } }";
        assert!(parse(text.as_bytes()).is_err_and(|e| e.to_string().contains("exactly one of url, file, release")));
        let digest = "a".repeat(64);
        let text = format!(
            "zexio: 1\nproject: shop\nartifact: {{ release: 3, sha256: {digest} }}\nprocesses: {{ web: {{ run: ./x }} }}"
        );
        assert!(parse(text.as_bytes()).is_err_and(|e| e.to_string().contains("has its own")));
        let text = "zexio: 1\nproject: shop\nartifact: { release: 0 }\nprocesses: { web: { run: ./x } }";
        assert!(parse(text.as_bytes()).is_err_and(|e| e.to_string().contains("releases begin at 1")));
    }
}
