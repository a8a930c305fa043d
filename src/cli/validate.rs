//! Checks spec files without an agent, and points at the problems.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Format;
use super::failure::{ERROR, Failure};
use super::files::{files_at, read_input};
use super::output::{machine, say};
use super::text::clean;
use crate::host::clock::SystemClock;
use crate::model::document::{self, Subject};
use crate::model::problem::Problem;
use crate::model::spec_rules;
use crate::port::Clock;

/// How much of a line is shown.
const WIDEST: usize = 160;

/// Checks each file and prints its problems.
///
/// # Errors
/// At least one is invalid; its problems were printed.
pub fn validate(files: &[PathBuf], format: Format) -> Result<(), Failure> {
    let mut found = Vec::new();
    let named: Vec<Vec<PathBuf>> = files.iter().map(|path| files_at(path)).collect::<Result<_, _>>()?;
    for file in &named.concat() {
        let text = read_input(file)?;
        let problems = problems_of(&text);
        if format == Format::Table {
            say(&shown(file, &text, &problems))?;
        }
        found.push(json!({ "file": file.display().to_string(), "problems": problems }));
    }
    let bad = found.iter().any(|file| file["problems"].as_array().is_some_and(|problems| !problems.is_empty()));
    if let Some(text) = machine(format, &json!(found)) {
        say(&text)?;
    }
    if bad { Err(Failure { status: ERROR, message: String::new() }) } else { Ok(()) }
}

fn problems_of(text: &[u8]) -> Vec<Problem> {
    let found = document::parse_any(text).and_then(|subject| match subject {
        Subject::Project(document) => {
            document::located(text, spec_rules::ended_schedules(&document, None, SystemClock.now()))
        }
        Subject::Host(_) => Ok(()),
    });
    found.err().map(|error| error.problems).unwrap_or_default()
}

fn shown(file: &Path, text: &[u8], problems: &[Problem]) -> String {
    if problems.is_empty() {
        return format!("{}: fine\n", clean(&file.display().to_string()));
    }
    problems.iter().map(|problem| pointed(&file.display().to_string(), text, problem)).collect()
}

/// Shows a problem with its line, and a caret under its place.
pub fn pointed(file: &str, text: &[u8], problem: &Problem) -> String {
    let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", clean(&problem.path)) };
    let (file, message) = (clean(file), clean(&problem.message));
    let Some(place) = problem.place else { return format!("{file}: {path}{message}\n") };
    let head = format!("{file}:{}:{}: {path}{message}\n", place.line, place.column);
    let text = String::from_utf8_lossy(text);
    let at = usize::try_from(place.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(line) = text.lines().nth(at) else { return head };
    // A tab's width depends on the terminal; one space is as wide as its caret.
    let before = usize::try_from(place.column.saturating_sub(1)).unwrap_or(0).min(line.chars().count());
    // The terminal may be a CI's log, which many can read: of such a line only its key is shown, if nothing else
    // precedes it.
    let private =
        document::is_private(&problem.path) && (line.contains("secret") || !problem.path.starts_with("hooks"));
    let key: String = line.chars().take(before).collect();
    let is_key = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-: ".contains(&b)) && key.matches(':').count() < 2;
    let name: String = line.chars().skip(before).take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let name = if line.contains(&format!("{name}:")) && !name.is_empty() { format!("{name}: ") } else { String::new() };
    let line = match private {
        true if is_key => format!("{key}{name}…"),
        true => return head,
        false => line.to_owned(),
    };
    // A long line is cut around the place, so that the caret stands under it.
    let skipped = before.saturating_sub(WIDEST / 2) / (WIDEST / 2) * (WIDEST / 2);
    let line = line.chars().skip(skipped).take(WIDEST).map(|c| if c.is_control() { ' ' } else { c });
    let (line, before) = (line.collect::<String>(), before - skipped);
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    format!("{head} {number} | {line}\n {margin} | {}^\n", " ".repeat(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8]) -> String {
        let problems = document::parse_any(text).err().map(|error| error.problems).unwrap_or_default();
        shown(Path::new("shop.yaml"), text, &problems)
    }

    const MINIMAL: &str = "zexio: 1\nproject: shop\nartifact: { url: https://a.example.com/x.tar.gz }\nprocesses: { web: { run: ./shop } }\n";

    #[test]
    fn a_caret_points_at_the_place() {
        assert_eq!(
            check(format!("{MINIMAL}deploy:\n  drian: 5s\n").as_bytes()),
            "shop.yaml:6:3: deploy.drian: unknown key; did you mean drain?\n 6 |   drian: 5s\n   |   ^\n"
        );
        assert_eq!(check(MINIMAL.as_bytes()), "shop.yaml: fine\n");
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        for extra in ["env: { A: 1, B: hunter2 }", "secrets: [hunter-2]", "hooks: { standard: { secret: hunter-2 } }"] {
            let said = check(format!("{MINIMAL}{extra}\n").as_bytes());
            assert!(said.starts_with("shop.yaml:5:") && !said.contains("hunter"), "{said}");
        }
        let said = check(format!("{MINIMAL}env:\n  A: 20020020\n").as_bytes());
        assert!(said.ends_with("\n 6 |   A: …\n   |      ^\n"), "{said}");
    }

    #[test]
    fn a_caret_stays_under_its_place_in_a_long_line() {
        let line = format!("x-pad: {{ a: {} }}, keep: 0", "y".repeat(300));
        let text = MINIMAL.replace("{ web: { run: ./shop } }", &format!("{{ web: {{ run: ./shop, {line} }} }}"));
        let said = check(text.as_bytes());
        let lines: Vec<&str> = said.lines().collect();
        let at = lines[2].find('^').unwrap();
        assert!(lines[1].len() < 200 && lines[1][at..].starts_with("keep"), "{said}");
    }

    #[test]
    fn a_problem_without_a_place_and_bytes_that_are_no_text_are_shown_too() {
        assert!(check(&[b'a', 0xff]).starts_with("shop.yaml: not UTF-8"));
        let tabbed = check(b"zexio: 1\n\tproject: shop\n");
        assert!(tabbed.contains("shop.yaml:") && !tabbed.contains('\t'), "{tabbed}");
    }

    #[test]
    fn a_directory_stands_for_the_documents_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let valid = || validate(&[dir.path().to_owned()], Format::Table).is_ok();
        assert!(!valid(), "an empty one is no answer");
        write("notes.txt", "no: spec");
        write("shop.yaml", MINIMAL);
        assert!(valid());
        write("other.yml", "zexio: 1\n");
        assert!(!valid());
    }
}
