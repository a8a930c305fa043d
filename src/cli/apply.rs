//! Sends specs: to be wanted, or to see what they would come to.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::Format;
use super::client::{Ask, Client, read_input};
use super::failure::{CHANGES, Failure};
use super::text::{machine, say};
use super::validate::pointed;
use super::{show, wait};
use crate::model::document::{self, Problem};
use crate::model::names::ProjectId;
use crate::model::quantity::Span;

/// A spec to send.
struct Sending {
    name: String,
    project: ProjectId,
    text: Vec<u8>,
}

/// Writes the specs; waits for their ends, if asked to. All are written before any is waited for.
///
/// # Errors
/// A spec was refused, or did not become Ready.
pub fn apply(client: &Client, file: &Path, at_most: Option<Span>, format: Format) -> Result<(), Failure> {
    let mut written = Vec::new();
    for spec in specs(file)? {
        let (generation, outcome) = write(client, &spec)?;
        if format == Format::Table {
            say(&format!("{}  generation {generation}  {outcome}\n", spec.project))?;
        }
        written.push((spec.project, generation, outcome));
    }
    let results: Vec<Value> = written
        .iter()
        .map(|(project, generation, outcome)| json!({"project": project, "generation": generation, "outcome": outcome}))
        .collect();
    if let Some(text) = machine(format, &json!(results)) {
        say(&text)?;
    }
    match at_most {
        Some(at_most) => wait_for_all(client, &written, at_most, format),
        None => Ok(()),
    }
}

fn wait_for_all(
    client: &Client,
    written: &[(ProjectId, u64, &str)],
    at_most: Span,
    format: Format,
) -> Result<(), Failure> {
    let mut failed: Option<Failure> = None;
    for (project, generation, _) in written {
        match wait::for_ready(client, project, *generation, at_most) {
            Ok(said) if format == Format::Table => say(&format!("{project}  ready  {said}\n"))?,
            Ok(_) => {}
            Err(failure) => {
                let before = failed.take().map_or(String::new(), |failure| failure.message + "\n");
                failed = Some(Failure { message: before + &failure.message, ..failure });
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Shows what the specs would come to, and writes nothing; tells whether there is anything to do.
///
/// # Errors
/// A spec was refused.
pub fn rehearse(client: &Client, file: &Path, format: Format) -> Result<bool, Failure> {
    let mut steps = Vec::new();
    for spec in specs(file)? {
        let answer = put(client, &spec, "?dry_run=true")?.value()?;
        for step in
            show::list(&answer, "steps").iter().filter(|step| !steps.contains(*step)).cloned().collect::<Vec<_>>()
        {
            steps.push(step);
        }
    }
    show_plan(&steps, format)
}

/// Shows a plan; tells whether there is anything in it.
///
/// # Errors
/// Nobody reads it any more.
pub fn show_plan(steps: &[Value], format: Format) -> Result<bool, Failure> {
    let empty = "nothing to do\n".to_owned();
    let people = || if steps.is_empty() { empty } else { show::plan(steps) };
    say(&machine(format, &json!({ "steps": steps })).unwrap_or_else(people))?;
    Ok(!steps.is_empty())
}

/// Returns the exit status of `plan`, as the end of a verb.
///
/// # Errors
/// There is something to do.
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
        status => {
            Err(Failure::new(format!("{}: {}", spec.name, super::failure::refusal(status, &answer.body).message)))
        }
    }
}

/// Reads the specs of a file, a directory or standard input.
fn specs(path: &Path) -> Result<Vec<Sending>, Failure> {
    if path == Path::new("-") && std::io::stdin().is_terminal() {
        return Err(Failure::new("could not read a spec from standard input: it is a terminal"));
    }
    let files = if path.is_dir() { files_in(path)? } else { vec![path.to_owned()] };
    files.iter().map(|file| spec(file)).collect()
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("could not read {}: {e}", dir.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let fits = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        files.extend((fits && !hidden).then_some(path));
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(format!("there is no .yaml or .yml file in {}", dir.display())));
    }
    Ok(files)
}

/// Reads a spec as far as it takes to know whose it is; the agent checks the rest, by its own version's rules.
fn spec(file: &Path) -> Result<Sending, Failure> {
    let text = read_input(file)?;
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
    fn a_directory_is_its_specs_in_order_and_a_file_without_project_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b.yaml", "project: blog\n"), ("a.yml", "project: shop\n"), (".c.yaml", "x"), ("n.txt", "x")]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let projects: Vec<String> = specs(dir.path()).unwrap().iter().map(|spec| spec.project.to_string()).collect();
        assert_eq!(projects, ["shop", "blog"]);
        std::fs::write(dir.path().join("bad.yaml"), "zexio: [1\n").unwrap();
        let failure = specs(&dir.path().join("bad.yaml")).err().unwrap();
        assert!(failure.message.contains("bad.yaml:") && failure.message.contains('^'), "{}", failure.message);
    }
}
