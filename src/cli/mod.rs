//! The command line. `agent`, `launch` and `unpack` are passed to the hooks that implement them; every other verb talks
//! to the agent, or works on this machine's own files.

mod apply;
pub mod args;
mod client;
mod deploy;
mod doctor;
mod failure;
mod files;
mod init;
mod manual;
mod output;
mod pack;
mod prompt;
mod service;
mod show;
mod signing;
mod stats;
mod text;
mod validate;
mod wait;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use args::{Args, Format, Key, Secret, Verb};
use client::{Ask, Client, Place, query};
use failure::{ERROR, Failure};
use files::read_input;
pub use init::{InitHooks, JoinProxy};
use output::{machine, say, yaml};
use signing::{Signer, Target};
use text::{Paint, table};

use crate::host::clock::SystemClock;
use crate::keys::{Keys, Scope};
use crate::model::names::{KeyId, ProjectId};
use crate::model::quantity::{Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::schema;
use crate::model::status::{ConditionKind, Status};
use crate::plan::services::PackageJob;
use crate::port::Clock;
use crate::settings;
use crate::sign::Key as SigningKey;

/// Formats a plan's steps for people, without colours.
pub fn plan_text(steps: &[Value]) -> String {
    show::plan(steps, &[], Paint(false))
}

/// The verbs that other modules implement.
#[derive(Clone, Copy)]
pub struct Entry {
    pub agent: fn() -> ExitCode,
    /// Opens the launch blob of a unit.
    pub hand_over: fn(&str, bool) -> ExitCode,
    /// Becomes an app (exec).
    pub launch: fn(bool) -> ExitCode,
    /// Waits for the app's other processes to exit.
    pub wait_for_rest: fn() -> ExitCode,
    pub unpack: fn(Vec<String>) -> ExitCode,
    /// Runs the package manager for a host service.
    pub provision: fn(&PackageJob) -> ExitCode,
    /// The machine's part of `init`.
    pub init: InitHooks,
}

/// Runs the command that the arguments name.
pub fn run(entry: Entry) -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let done = match args.verb {
        Verb::Agent => return (entry.agent)(),
        Verb::HandOver { unit, later } => return (entry.hand_over)(&unit, later),
        Verb::Launch { notify } => return (entry.launch)(notify),
        Verb::WaitForRest => return (entry.wait_for_rest)(),
        Verb::Unpack { rest } => return (entry.unpack)(rest),
        Verb::Provision { task, service, version, major, purge } => {
            match service::order(task, service, version.as_deref(), major, purge) {
                Ok(order) => return (entry.provision)(&order),
                Err(failure) => Err(failure),
            }
        }
        Verb::Init { yes, restart_caddy } => init::init(&entry.init, yes, restart_caddy, args.output),
        Verb::Version => version(args.output),
        Verb::Schema => schema(args.output),
        Verb::Validate { ref files, ref more } => validate::validate(&[files.as_slice(), more].concat(), args.output),
        Verb::Completions { shell } => {
            only_text(args.output, "completions are a script for a shell").and_then(|()| manual::completions(shell))
        }
        Verb::Man { ref directory } => {
            only_text(args.output, "man pages are files for man").and_then(|()| manual::man(directory))
        }
        Verb::Doctor => doctor::doctor(args.agent.as_deref(), args.key.as_deref(), args.output),
        Verb::Key(ref verb) => key(verb, args.output),
        Verb::Sign { ref method, ref url, ref body, ref content_type } => {
            sign(args.key.as_deref(), method, url, body.as_deref(), content_type, args.output)
        }
        verb => connect(args.agent.as_deref(), args.key.as_deref())
            .and_then(|client| ask(&Session { client, format: args.output }, verb)),
    };
    end(done)
}

/// Refuses an output format that the verb does not have.
fn only_text(format: Format, why: &str) -> Result<(), Failure> {
    match format {
        Format::Table => Ok(()),
        _ => Err(Failure::new(format!("{why}, and have no other form; leave -o out"))),
    }
}

/// Prints the schema: as JSON, which editors read, unless YAML is requested.
fn schema(format: Format) -> Result<(), Failure> {
    let text = machine(format, &schema::schema()).filter(|_| format == Format::Yaml);
    say(&text.unwrap_or_else(schema::text))
}

fn version(format: Format) -> Result<(), Failure> {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    say(&machine(format, &json!({ "version": VERSION })).unwrap_or(format!("zexio {VERSION}\n")))
}

/// Reports a usage error. Status 2 is taken: it means that `plan` found changes.
fn usage(error: &clap::Error) -> ExitCode {
    let status = if error.use_stderr() { ERROR } else { 0 };
    let _ = error.print();
    ExitCode::from(status)
}

fn end(done: Result<(), Failure>) -> ExitCode {
    let Err(failure) = done else { return ExitCode::SUCCESS };
    if !failure.message.is_empty() {
        let _ = writeln!(std::io::stderr(), "error: {}", failure.message);
    }
    ExitCode::from(failure.status)
}

fn connect(agent: Option<&str>, key: Option<&Path>) -> Result<Client, Failure> {
    let place = Place::parse(agent)?;
    // Without a socket there is no agent; report that, not that the key cannot be read.
    if let Place::Socket(path) = &place
        && let Err(e) = path.symlink_metadata()
    {
        let path = path.display();
        return Err(Failure::new(format!(
            "could not reach the agent at {path}: {e}; is it running? systemctl status zexio-agent"
        )));
    }
    Ok(Client::new(place, Signer::read(key)?))
}

/// What a verb needs: the client and the output format.
struct Session {
    client: Client,
    format: Format,
}

impl Session {
    fn now() -> Timestamp {
        SystemClock.now()
    }

    /// Sends a request, and shows the answer raw or formatted for people.
    fn show(&self, ask: &Ask<'_>, people: impl FnOnce(&Value) -> Result<String, Failure>) -> Result<(), Failure> {
        let answer = self.client.value(ask)?;
        match machine(self.format, &answer) {
            Some(text) => say(&text),
            None => say(&people(&answer)?),
        }
    }

    /// Reports that something was done.
    fn done(&self, answer: &Value, people: &str) -> Result<(), Failure> {
        say(&machine(self.format, answer).unwrap_or_else(|| format!("{people}\n")))
    }
}

fn ask(session: &Session, verb: Verb) -> Result<(), Failure> {
    let format = session.format;
    match verb {
        Verb::Plan { file: Some(file), .. } => apply::dry_run(&session.client, &file, format).and_then(apply::changes),
        Verb::Plan { project, file: None } => plan(session, project.as_ref()),
        Verb::Apply { file, dry_run: true, .. } => apply::dry_run(&session.client, &file, format).map(|_| ()),
        Verb::Apply { file, wait, .. } => apply::apply(&session.client, &file, wait.wait, format),
        Verb::Get { project } => get(session, project.as_ref()),
        Verb::Status { project, watch } => status(session, project.as_ref(), watch),
        Verb::Why { project } => why(session, &project),
        Verb::Logs { project, system: _, follow, lines, process, release, since, grep } => {
            let mut pairs = vec![("lines", lines.to_string())];
            pairs.extend(process.map(|process| ("process", process.to_string())));
            pairs.extend(release.map(|release| ("release", release.to_string())));
            pairs.extend(since.map(|since| since_when(&since)).transpose()?.map(|at| ("since", at)));
            pairs.extend(grep.map(|pattern| ("grep", pattern.as_str().to_owned())));
            pairs.extend(follow.then(|| ("follow", "true".to_owned())));
            let whose = project.map_or("/v1/system".to_owned(), |project| format!("/v1/projects/{project}"));
            logs(session, &format!("{whose}/logs{}", query(&pairs)))
        }
        Verb::Stats { prometheus: Some(file), .. } => stats::metrics(session, file.as_deref()),
        Verb::Stats { watch: true, .. } => stats::watch(session),
        Verb::Stats { .. } => stats::once(session),
        Verb::History { project } => session.show(&Ask::get(format!("/v1/projects/{project}/releases")), |answer| {
            Ok(show::history(show::list(answer, "releases"), Session::now()))
        }),
        Verb::Deploy { project, path, version, wait } => {
            deploy::deploy(session, &project, &path, version.as_ref(), wait.wait)
        }
        Verb::Rollback { project, to, wait } => rollback(session, &project, to, wait.wait),
        Verb::Delete { project, keep_data, yes, wait } => delete(session, &project, keep_data, yes, wait.wait),
        Verb::Secret(verb) => secret(session, &verb),
        Verb::Service(verb) => service::service(session, verb),
        Verb::Events { project, follow, lines, since, reason } => {
            let mut pairs = vec![("lines", lines.to_string())];
            pairs.extend(since.map(|since| since_when(&since)).transpose()?.map(|at| ("since", at)));
            pairs.extend(reason.map(|reason| ("reason", reason)));
            pairs.extend(follow.then(|| ("follow", "true".to_owned())));
            let whose = project.map_or(String::new(), |project| format!("/projects/{project}"));
            events(session, &format!("/v1{whose}/events{}", query(&pairs)))
        }
        Verb::Suspend { project, reason, until } => suspend(session, &project, reason, until.as_deref()),
        Verb::Resume { project, wait } => {
            let answer =
                session.client.value(&Ask::json("POST", format!("/v1/projects/{project}/resume"), &json!({})))?;
            session.done(&answer, &format!("{project}  resumed"))?;
            finish(session, &project, generation_in(&answer)?, wait.wait)
        }
        Verb::Sync { project, prune, wait } => sync(session, project, prune, wait.wait),
        // These need no agent and ran earlier.
        Verb::Init { .. }
        | Verb::Agent
        | Verb::Launch { .. }
        | Verb::HandOver { .. }
        | Verb::WaitForRest
        | Verb::Provision { .. }
        | Verb::Unpack { .. }
        | Verb::Validate { .. } => Ok(()),
        Verb::Key(_) | Verb::Sign { .. } | Verb::Schema | Verb::Version => Ok(()),
        Verb::Doctor | Verb::Completions { .. } | Verb::Man { .. } => Ok(()),
    }
}

/// Explains a project's state in a paragraph; if its newest release failed, with that release's evidence.
fn why(session: &Session, project: &ProjectId) -> Result<(), Failure> {
    session.show(&Ask::get(format!("/v1/projects/{project}")), |view| {
        let status = show::status_of(view)?;
        let failed = status.rejected.last().filter(|_| status.condition(ConditionKind::Stalled).is_some());
        let evidence = match failed {
            Some(release) => {
                let history = session.client.value(&Ask::get(format!("/v1/projects/{project}/releases")))?;
                show::evidence(*release, show::list(&history, "releases"))
            }
            None => String::new(),
        };
        Ok(show::why(&status, Session::now()) + &evidence + &lately(session, project)?)
    })
}

/// How many warnings `why` shows.
const LATELY: usize = 5;

/// Shows the newest warnings of the last day, including those already resolved.
fn lately(session: &Session, project: &ProjectId) -> Result<String, Failure> {
    let mut warnings = Vec::new();
    let events = Ask::get(format!("/v1/projects/{project}/events{}", query(&[("since", "24h".to_owned())])));
    session.client.lines(&events, &mut |line| {
        let warns = serde_json::from_str(line).is_ok_and(|event: Value| event["level"] == "warning");
        warnings.extend(warns.then(|| show::event(line)));
        Ok(())
    })?;
    let newest = &warnings[warnings.len().saturating_sub(LATELY)..];
    let shown: String = newest.iter().map(|line| format!("  {line}\n")).collect();
    Ok(if shown.is_empty() { shown } else { format!("\nWarnings of the last day, the newest last:\n{shown}") })
}

fn plan(session: &Session, project: Option<&ProjectId>) -> Result<(), Failure> {
    let path = project.map_or("/v1/plan".to_owned(), |project| format!("/v1/projects/{project}/plan"));
    let answer = session.client.value(&Ask::get(path))?;
    let (steps, waiting) = (show::list(&answer, "steps"), show::list(&answer, "waiting"));
    apply::show_plan(steps, waiting, session.format).and_then(apply::changes)
}

fn get(session: &Session, project: Option<&ProjectId>) -> Result<(), Failure> {
    match project {
        Some(project) => session.show(&Ask::get(format!("/v1/projects/{project}")), |view| Ok(yaml(view))),
        None => session.show(&Ask::get("/v1/projects"), |answer| {
            let rows = statuses(answer)?.into_iter().map(|status| {
                let Status { project, generation, owner, state, .. } = status;
                vec![project.to_string(), generation.to_string(), owner, state.to_string()]
            });
            let rows: Vec<Vec<String>> = rows.collect();
            Ok(table(&["PROJECT", "GENERATION", "OWNER", "STATE"], &rows) + &troubles(answer))
        }),
    }
}

fn statuses(answer: &Value) -> Result<Vec<Status>, Failure> {
    show::list(answer, "projects").iter().map(show::status_of).collect()
}

/// Shows the watched directory's files that belong to no project.
fn troubles(answer: &Value) -> String {
    let Some(troubles) = answer.get("file_troubles").and_then(Value::as_object) else { return String::new() };
    let said = troubles.iter().filter_map(|(file, message)| Some((file, message.as_str()?)));
    said.map(|(file, message)| format!("file {}: {}\n", text::clean(file), text::clean(message))).collect()
}

/// How long between two polls of `status --watch`.
const BEAT: Duration = Duration::from_secs(2);

fn status(session: &Session, project: Option<&ProjectId>, watch: bool) -> Result<(), Failure> {
    let paint = Paint::of_stdout();
    let ask = Ask::get(project.map_or("/v1/projects".to_owned(), |project| format!("/v1/projects/{project}")));
    let people = |answer: &Value| match project {
        Some(_) => Ok(show::project(&show::status_of(answer)?, Session::now(), paint)),
        None => Ok(show::overview(&statuses(answer)?, Session::now(), paint) + &troubles(answer)),
    };
    if !watch {
        return session.show(&ask, people);
    }
    let (mut before, mut unreached) = (String::new(), 0);
    loop {
        let shown = session.client.value(&ask).and_then(|answer| match session.format {
            Format::Table => people(&answer),
            Format::Json => Ok(format!("{answer}\n")),
            Format::Yaml => Ok(format!("---\n{}", yaml(&answer))),
        });
        let shown = match shown {
            // The agent may restart during the watch.
            Err(failure) if unreached < wait::BEARABLE => {
                unreached += 1;
                if session.format == Format::Table { format!("{}\n", failure.message) } else { before.clone() }
            }
            Err(failure) => return Err(failure),
            Ok(shown) => {
                unreached = 0;
                shown
            }
        };
        if shown != before {
            let clear = match (session.format, paint.0) {
                (Format::Table, true) => "\x1b[H\x1b[2J",
                (Format::Table, false) if !before.is_empty() => "\n",
                _ => "",
            };
            say(&format!("{clear}{shown}"))?;
            before = shown;
        }
        std::thread::sleep(BEAT);
    }
}

/// Checks a time, or how long ago it was. It is sent as written: "ten minutes ago" is by the agent's clock.
fn since_when(raw: &str) -> Result<String, Failure> {
    match Timestamp::parse(raw).is_ok() || Span::parse(raw).is_ok() {
        true => Ok(raw.to_owned()),
        false => Err(Failure::new(format!("{raw:?} is neither a time like 2026-12-01T08:00:00Z nor a span like 10m"))),
    }
}

fn logs(session: &Session, target: &str) -> Result<(), Failure> {
    let (format, mut any) = (session.format, false);
    session.client.lines(&Ask::get(target), &mut |line| {
        any |= !line.is_empty();
        said(format, line, show::log_line)
    })?;
    if !any {
        // On stderr: a program that reads stdout gets the empty result.
        let _ = writeln!(std::io::stderr(), "no line of the log is what was asked for");
    }
    Ok(())
}

/// Shows events: lines of JSON, or the text after "data:" of server-sent ones.
fn events(session: &Session, target: &str) -> Result<(), Failure> {
    let format = session.format;
    session.client.lines(&Ask::get(target), &mut |line| match line.strip_prefix("data: ") {
        Some(data) => said(format, data, show::event),
        None if line.starts_with('{') => said(format, line, show::event),
        None => Ok(()),
    })
}

fn said(format: Format, line: &str, people: impl Fn(&str) -> String) -> Result<(), Failure> {
    match format {
        _ if line.is_empty() => Ok(()),
        Format::Table => say(&format!("{}\n", people(line))),
        Format::Json => say(&format!("{line}\n")),
        Format::Yaml => say(&format!("---\n{}", yaml(&serde_json::from_str(line).unwrap_or_else(|_| json!(line))))),
    }
}

fn suspend(session: &Session, project: &ProjectId, reason: Option<String>, until: Option<&str>) -> Result<(), Failure> {
    let until = until.map(|raw| until_when(raw, Session::now())).transpose()?;
    let body = json!({ "reason": reason, "until": until });
    let answer = session.client.value(&Ask::json("POST", format!("/v1/projects/{project}/suspend"), &body))?;
    let until = until.map_or_else(|| format!("`zexio resume {project}`"), |until| until.to_string());
    session.done(&answer, &format!("{project}  suspended until {until}"))
}

/// Parses a time, or how long until then.
fn until_when(raw: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let wrong = || Failure::new(format!("{raw:?} is neither a time like 2026-12-01T08:00:00Z nor a span like 2h"));
    if let Ok(moment) = Timestamp::parse(raw) {
        return Ok(moment);
    }
    let span = humantime::parse_duration(raw).map_err(|_| wrong())?;
    Ok(now.after(Span(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))))
}

/// Says that a change waits because its project is suspended: otherwise a change without effect is most puzzling.
fn waits(answer: &Value) -> String {
    let suspended = answer.get("suspended").and_then(Value::as_str);
    suspended.map_or(String::new(), |why| format!("; it waits, since the project is suspended: {}", text::clean(why)))
}

fn rollback(session: &Session, project: &ProjectId, to: Option<u32>, at_most: Option<Span>) -> Result<(), Failure> {
    let body = to.map_or_else(|| json!({}), |release| json!({ "to": release }));
    let answer = session.client.value(&Ask::json("POST", format!("/v1/projects/{project}/rollback"), &body))?;
    let generation = generation_in(&answer)?;
    let to = answer
        .get("release")
        .and_then(Value::as_u64)
        .map_or(String::new(), |release| format!("  to release {release}"));
    session.done(&answer, &format!("{project}  generation {generation}{to}{}", waits(&answer)))?;
    finish(session, project, generation, at_most)
}

/// Waits until a project is Ready, if requested.
///
/// # Errors
/// It failed, or the time is up.
fn finish(session: &Session, project: &ProjectId, generation: u64, at_most: Option<Span>) -> Result<(), Failure> {
    let Some(at_most) = at_most else { return Ok(()) };
    let said = wait::for_ready(&session.client, project, generation, at_most)?;
    if session.format == Format::Table { say(&format!("{project}  ready  {said}\n")) } else { Ok(()) }
}

fn generation_in(answer: &Value) -> Result<u64, Failure> {
    let generation = answer.get("generation").and_then(Value::as_u64);
    generation.ok_or_else(|| Failure::new("the agent's answer has no generation"))
}

fn delete(
    session: &Session,
    project: &ProjectId,
    keep_data: bool,
    yes: bool,
    at_most: Option<Span>,
) -> Result<(), Failure> {
    if !yes {
        let data = if keep_data { "; its data stays" } else { " and its data" };
        prompt::confirm(&format!("this removes {project}{data}. Type its name to go on:"), project.as_str())?;
    }
    let flag = if keep_data { "?keep_data=true" } else { "" };
    let ask = Ask { method: "DELETE", target: format!("/v1/projects/{project}{flag}"), ..Ask::default() };
    let answer = session.client.value(&ask)?;
    session.done(&answer, &format!("{project}  is being removed{}", waits(&answer)))?;
    let Some(at_most) = at_most else { return Ok(()) };
    wait::for_end(&session.client, project, at_most)?;
    if session.format == Format::Table { say(&format!("{project}  gone\n")) } else { Ok(()) }
}

fn secret(session: &Session, verb: &Secret) -> Result<(), Failure> {
    match verb {
        Secret::Set { project, name, file, wait } => {
            let value = prompt::secret(name.as_str(), file.as_deref())?;
            let ask = Ask {
                method: "PUT",
                target: format!("/v1/projects/{project}/secrets/{name}"),
                content_type: "application/octet-stream",
                body: value.to_vec(),
                ..Ask::default()
            };
            let answer = session.client.value(&ask)?;
            session.done(&answer, &format!("{project}  {name}  stored"))?;
            // A secret changes no generation: this waits for the one desired at that time.
            finish(session, project, 0, wait.wait)
        }
        Secret::List { project } => session.show(&Ask::get(format!("/v1/projects/{project}/secrets")), |answer| {
            Ok(show::secrets(show::list(answer, "secrets"), Session::now()))
        }),
        Secret::Rm { project, name } => {
            let target = format!("/v1/projects/{project}/secrets/{name}");
            session.client.value(&Ask { method: "DELETE", target, ..Ask::default() })?;
            let removed = json!({ "project": project, "name": name, "removed": true });
            session.done(&removed, &format!("{project}  {name}  removed"))
        }
    }
}

/// Requests a pass over each project; with `prune`, over those whose removal was held back, which are then removed.
fn sync(session: &Session, project: Option<ProjectId>, prune: bool, at_most: Option<Span>) -> Result<(), Failure> {
    let mut answers = if prune && project.is_none() { service::confirm_removals(session)? } else { Vec::new() };
    let projects = match project {
        Some(project) => vec![project],
        None => {
            let all = statuses(&session.client.value(&Ask::get("/v1/projects"))?)?;
            all.into_iter().filter(|status| !prune || is_held_back(status)).map(|status| status.project).collect()
        }
    };
    let flag = if prune { "?prune=true" } else { "" };
    let mut asked = Vec::new();
    for project in projects {
        let ask = Ask::json("POST", format!("/v1/projects/{project}/sync{flag}"), &json!({}));
        let answer = session.client.value(&ask)?;
        asked.push((project.clone(), generation_in(&answer)?));
        let done = if prune { "is being removed" } else { "asked for a pass" };
        if session.format == Format::Table {
            say(&format!("{project}  {done}{}\n", waits(&answer)))?;
        }
        answers.push(answer);
    }
    let nothing = if prune { "no removal was held back\n" } else { "no projects yet\n" };
    match machine(session.format, &json!(answers)) {
        Some(text) => say(&text)?,
        None if answers.is_empty() => say(nothing)?,
        None => {}
    }
    for (project, generation) in asked {
        match (prune, at_most) {
            (true, Some(at_most)) => drop(wait::for_end(&session.client, &project, at_most)?),
            _ => finish(session, &project, generation, at_most)?,
        }
    }
    Ok(())
}

fn is_held_back(status: &Status) -> bool {
    status.condition(ConditionKind::Stalled).is_some_and(|condition| condition.reason == Reason::PruneRefused)
}

fn key(verb: &Key, format: Format) -> Result<(), Failure> {
    let keys = Keys::at(settings::KEYS);
    match verb {
        Key::Add { kid, scope } => {
            let key = keys.create(kid, scope)?;
            new_key(format, kid, scope, &key, "it is shown this once")
        }
        Key::Rotate { kid } => {
            let (key, scope) = keys.rotate(kid)?;
            let file = keys.path(kid);
            let note = format!(
                "it is shown this once, and stands in {}; a request signed with the old one is refused from now on",
                file.display()
            );
            new_key(format, kid, &scope, &key, &note)
        }
        Key::List => {
            let all = keys.list()?;
            let shown: Vec<Value> = all.iter().map(|(kid, s)| json!({ "kid": kid, "scope": s.to_string() })).collect();
            let rows: Vec<Vec<String>> = all.iter().map(|(kid, s)| vec![kid.to_string(), s.to_string()]).collect();
            say(&machine(format, &json!(shown)).unwrap_or_else(|| table(&["KEY", "SCOPE"], &rows)))
        }
        Key::Revoke { kid } if keys.remove(kid)? => {
            let people = format!("key {kid} revoked\n");
            say(&machine(format, &json!({ "kid": kid, "revoked": true })).unwrap_or(people))
        }
        Key::Revoke { kid } => Err(Failure::new(format!("there is no key {kid}"))),
    }
}

fn new_key(format: Format, kid: &KeyId, scope: &Scope, key: &SigningKey, note: &str) -> Result<(), Failure> {
    let text = key.text();
    let people = format!("key {kid} ({scope}); {note}:\n{}\n", text.as_str());
    let shown = json!({ "kid": kid, "scope": scope.to_string(), "key": text.as_str() });
    say(&machine(format, &shown).unwrap_or(people))
}

fn sign(
    key: Option<&Path>,
    method: &str,
    url: &str,
    body: Option<&Path>,
    content_type: &str,
    format: Format,
) -> Result<(), Failure> {
    let target = Target::parse(method, url)?;
    let body = body.map(read_input).transpose()?.unwrap_or_default();
    let value = Signer::read(key)?.header(&target.head(content_type), &body)?;
    let header = json!({ "header": "X-Signature", "value": value });
    say(&machine(format, &header).unwrap_or(format!("{value}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_ends_at_a_moment_or_after_a_span() {
        let now = Timestamp::parse("2026-12-01T08:00:00Z").unwrap();
        for (raw, until) in [
            ("2h", "2026-12-01T10:00:00Z"),
            ("3days", "2026-12-04T08:00:00Z"),
            ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(until_when(raw, now).unwrap(), Timestamp::parse(until).unwrap(), "{raw}");
        }
        assert!(until_when("tomorrow", now).unwrap_err().message.contains("\"tomorrow\" is neither"));
    }
}
