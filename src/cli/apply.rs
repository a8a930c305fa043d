//! Sends specs: to apply them, or for a dry run.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Format;
use super::client::{Ask, Client};
use super::failure::{self, CHANGES, Failure};
use super::files::{files_at, read_input};
use super::output::{machine, say};
use super::text::Paint;
use super::validate::pointed;
use super::{service, show, wait};
use crate::model::document::{self, Subject};
use crate::model::names::ProjectId;
use crate::model::problem::Problem;
use crate::model::quantity::Span;
use crate::model::services::{Service, Version};

/// A spec to send, and where it comes from.
struct Sending {
    name: String,
    project: ProjectId,
    text: Vec<u8>,
}

/// Writes the specs; waits for their ends if requested. All are written before any is waited for.
///
/// # Errors
/// A spec was refused, or did not become Ready.
pub fn apply(client: &Client, file: &Path, at_most: Option<Span>, format: Format) -> Result<(), Failure> {
    let sendings = sendings(file)?;
    let (mut written, mut results) = (Vec::new(), Vec::new());
    for (service, version) in &sendings.services {
        let (generation, outcome) = service::put(client, *service, &version.shown(*service))?;
        if format == Format::Table {
            say(&format!("{service}  generation {generation}  {outcome}\n"))?;
        }
        results.push(json!({"service": service, "generation": generation, "outcome": outcome}));
    }
    for spec in sendings.specs {
        let (generation, outcome) = write(client, &spec)?;
        if format == Format::Table {
            say(&format!("{}  generation {generation}  {outcome}\n", spec.project))?;
        }
        results.push(json!({"project": spec.project, "generation": generation, "outcome": outcome}));
        written.push((spec.project, generation, outcome));
    }
    if let Some(text) = machine(format, &json!(results)) {
        say(&text)?;
    }
    match at_most {
        Some(at_most) => {
            let services: Vec<Service> = sendings.services.into_keys().collect();
            wait_for_all(client, &services, &written, at_most, format)
        }
        None => Ok(()),
    }
}

fn wait_for_all(
    client: &Client,
    services: &[Service],
    written: &[(ProjectId, u64, &str)],
    at_most: Span,
    format: Format,
) -> Result<(), Failure> {
    let mut failed: Option<Failure> = None;
    let services = services.iter().map(|name| (name.to_string(), service::for_service(client, *name, at_most)));
    let projects = written
        .iter()
        .map(|(project, generation, _)| (project.to_string(), wait::for_ready(client, project, *generation, at_most)));
    for (name, waited) in services.chain(projects) {
        match waited {
            Ok(said) if format == Format::Table => say(&format!("{name}  ready  {said}\n"))?,
            Ok(_) => {}
            Err(failure) => {
                let before = failed.take().map_or(String::new(), |failure| failure.message + "\n");
                failed = Some(Failure { message: before + &failure.message, ..failure });
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Shows the plan for the specs, and writes nothing; tells whether there is anything to do.
///
/// # Errors
/// A spec was refused.
pub fn dry_run(client: &Client, file: &Path, format: Format) -> Result<bool, Failure> {
    let (mut steps, mut waiting) = (Vec::new(), Vec::new());
    let sendings = sendings(file)?;
    for (service, version) in &sendings.services {
        let shown = client.value(&Ask::get(format!("/v1/services/{service}")))?;
        let version = version.shown(*service);
        if shown["desired"]["version"] != json!(version) {
            let (action, reason) =
                (format!("install {service} {version}"), "the service is not wanted yet as it is asked for");
            steps.push(json!({ "project": null, "action": action, "reason": reason, "sign": "+" }));
        }
    }
    for spec in sendings.specs {
        let answer = put(client, &spec, "?dry_run=true")?.value()?;
        for step in
            show::list(&answer, "steps").iter().filter(|step| !steps.contains(*step)).cloned().collect::<Vec<_>>()
        {
            steps.push(step);
        }
        waiting.extend(show::list(&answer, "waiting").iter().cloned());
    }
    show_plan(&steps, &waiting, format)
}

/// Shows a plan; tells whether there is anything in it.
///
/// # Errors
/// The output is closed.
pub fn show_plan(steps: &[Value], waiting: &[Value], format: Format) -> Result<bool, Failure> {
    let shown = machine(format, &json!({ "steps": steps, "waiting": waiting }));
    say(&shown.unwrap_or_else(|| show::plan(steps, waiting, Paint::of_stdout())))?;
    Ok(!steps.is_empty())
}

/// Returns the exit status of `plan`, as the end of a verb.
///
/// # Errors
/// The plan has steps.
pub fn changes(any: bool) -> Result<(), Failure> {
    if any { Err(Failure { status: CHANGES, message: String::new() }) } else { Ok(()) }
}

fn write(client: &Client, spec: &Sending) -> Result<(u64, &'static str), Failure> {
    let before = generation(client, &spec.project)?;
    let answer = put(client, spec, "")?;
    let value = answer.value()?;
    let generation = value.get("generation").and_then(Value::as_u64);
    let generation = generation.ok_or_else(|| Failure::new("the agent's answer has no generation"))?;
    let outcome = match before {
        _ if answer.status == 201 => "new",
        Some(before) if before == generation => "unchanged",
        _ => "changed",
    };
    Ok((generation, outcome))
}

fn generation(client: &Client, project: &ProjectId) -> Result<Option<u64>, Failure> {
    let answer = client.send(&Ask::get(format!("/v1/projects/{project}")))?;
    if answer.status == 404 {
        return Ok(None);
    }
    Ok(answer.value()?.get("generation").and_then(Value::as_u64))
}

fn put(client: &Client, spec: &Sending, query: &str) -> Result<super::client::Answer, Failure> {
    let is_json = spec.text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let answer = client.send(&Ask {
        method: "PUT",
        target: format!("/v1/projects/{}{query}", spec.project),
        content_type: if is_json { "application/json" } else { "application/yaml" },
        body: spec.text.clone(),
        ..Ask::default()
    })?;
    match answer.status {
        200..=299 => Ok(answer),
        status => Err(Failure::new(refused(spec, status, &answer.body))),
    }
}

/// Shows each problem that the agent found, at its place in the spec.
fn refused(spec: &Sending, status: u16, body: &[u8]) -> String {
    let flaws = failure::flaws(body);
    if flaws.is_empty() {
        return format!("{}: {}", spec.name, failure::refusal(status, body).message);
    }
    let shown: String = flaws.iter().map(|flaw| pointed(&spec.name, &spec.text, flaw)).collect();
    format!("the agent refused {} ({status})\n{}", spec.name, shown.trim_end())
}

/// The documents of a file, a directory or standard input.
#[derive(Default)]
struct Sendings {
    services: BTreeMap<Service, Version>,
    specs: Vec<Sending>,
}

/// Reads a file, a directory or standard input.
fn sendings(path: &Path) -> Result<Sendings, Failure> {
    if path == Path::new("-") && std::io::stdin().is_terminal() {
        return Err(Failure::new("could not read a spec from standard input: it is a terminal"));
    }
    let mut found = Sendings::default();
    for file in files_at(path)? {
        let text = read_input(&file)?;
        if document::is_about_host(&text) {
            found.services.extend(services(&file, &text)?);
        } else {
            found.specs.push(spec(&file, text)?);
        }
    }
    Ok(found)
}

/// Parses a document about the host.
fn services(file: &Path, text: &[u8]) -> Result<BTreeMap<Service, Version>, Failure> {
    let name = file.display().to_string();
    match document::parse_any(text) {
        Ok(Subject::Host(services)) => Ok(services),
        Ok(Subject::Project(_)) => Ok(BTreeMap::new()),
        Err(error) => {
            let said: String = error.problems.iter().map(|problem| pointed(&name, text, problem)).collect();
            Err(Failure::new(format!("could not read the services of {name}\n{}", said.trim_end())))
        }
    }
}

/// Parses just enough of a spec to find its project; the agent checks the rest, by its own version's rules.
fn spec(file: &Path, text: Vec<u8>) -> Result<Sending, Failure> {
    let name = file.display().to_string();
    match document::project_named_in(&text) {
        Some(project) => Ok(Sending { name, project, text }),
        None => {
            let problems = document::parse(&text).err().map(|error| error.problems).unwrap_or_default();
            let said: String = problems.iter().map(|problem: &Problem| pointed(&name, &text, problem)).collect();
            Err(Failure::new(format!("could not tell the project of {name}\n{}", said.trim_end())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_refuses_is_pointed_at() {
        let text = b"project: shop\nkeep: 0\n".to_vec();
        let spec = Sending { name: "shop.yaml".into(), project: "shop".parse().unwrap(), text };
        let body = br#"{"status":422,"code":"invalid","detail":"x","errors":[{"path":"keep","message":"0 is too few","line":2,"column":7}]}"#;
        assert_eq!(
            refused(&spec, 422, body),
            "the agent refused shop.yaml (422)\nshop.yaml:2:7: keep: 0 is too few\n 2 | keep: 0\n   |       ^"
        );
        assert_eq!(refused(&spec, 409, br#"{"code":"owner","detail":"no"}"#), "shop.yaml: no (409 owner)");
    }

    #[test]
    fn a_directory_is_its_specs_in_order_and_a_file_without_project_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b.yaml", "project: blog\n"), ("a.yml", "project: shop\n"), (".c.yaml", "x"), ("n.txt", "x")]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("host.yaml"), "zexio: 1\nkind: host\nservices: { redis: {} }\n").unwrap();
        let found = sendings(dir.path()).unwrap();
        let projects: Vec<String> = found.specs.iter().map(|spec| spec.project.to_string()).collect();
        assert_eq!(projects, ["shop", "blog"]);
        assert_eq!(found.services, [(Service::Redis, Version::Default)].into());
        std::fs::write(dir.path().join("bad.yaml"), "zexio: [1\n").unwrap();
        let failure = sendings(&dir.path().join("bad.yaml")).err().unwrap();
        assert!(failure.message.contains("bad.yaml:") && failure.message.contains('^'), "{}", failure.message);
    }
}
