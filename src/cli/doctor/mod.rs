//! Examines this machine and says how to fix what is wrong. It reads, and changes nothing.
//!
//! What cannot work is an error; what works and could be better is advice.

mod files;
mod machine;
mod network;
mod routes;
mod services;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Format;
use super::client::{Answer, Ask, Client, Place};
use super::connect;
use super::failure::{ERROR, Failure};
use super::output::{machine, say};
use super::text::{Colour, Paint, clean};
use crate::settings::{self, Settings};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, and could be better.
    Advice,
    /// It does not work.
    Wrong,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    message: String,
    /// How to fix it.
    mend: Option<String>,
}

fn ok(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, state: State::Ok, message: message.into(), mend: None }
}

fn advice(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check, state: State::Advice, message: message.into(), mend: Some(mend.into()) }
}

fn wrong(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check, state: State::Wrong, message: message.into(), mend: Some(mend.into()) }
}

/// Examines the machine and shows the findings.
///
/// # Errors
/// A check found something wrong, which was printed.
pub fn doctor(agent: Option<&str>, key: Option<&Path>, format: Format) -> Result<(), Failure> {
    if matches!(Place::parse(agent)?, Place::Web(_)) {
        return Err(Failure::new("could not examine another machine: run `zexio doctor` there, without --agent"));
    }
    if !geteuid().is_root() {
        return Err(Failure::new("could not examine the machine: run this as root"));
    }
    let findings = examine(agent, key);
    let found = json!({ "well": is_well(&findings), "findings": findings });
    say(&machine(format, &found).unwrap_or_else(|| shown(&findings, Paint::of_stdout())))?;
    if is_well(&findings) { Ok(()) } else { Err(Failure { status: ERROR, message: String::new() }) }
}

fn examine(agent: Option<&str>, key: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let settings = match Settings::read(Path::new(settings::FILE)) {
        Ok(settings) => {
            let there = Path::new(settings::FILE).exists();
            let how = if there { "is sound" } else { "is not there; the defaults hold" };
            findings.push(ok("settings", format!("{} {how}", settings::FILE)));
            settings
        }
        Err(cause) => {
            findings.push(wrong("settings", cause, format!("correct {}", settings::FILE)));
            Settings::default()
        }
    };
    findings.extend(machine::findings(&settings));
    findings.extend(files::findings(&settings));
    let (client, agents) = reach(agent, key);
    findings.push(agents);
    let listed = |path: &str, key: &str| listed(client.as_ref(), path, key);
    findings.extend(services::findings(&listed("/v1/services", "services")));
    let projects = listed("/v1/projects", "projects");
    findings.extend(network::findings(&settings, &projects));
    findings.extend(routes::findings(&projects));
    findings
}

/// How long a just started agent may take for its first pass.
const FIRST_PASS: Duration = Duration::from_secs(15);

/// Connects to the agent and asks whether its loop is alive.
fn reach(agent: Option<&str>, key: Option<&Path>) -> (Option<Client>, Finding) {
    let look = "`systemctl status zexio-agent` and `journalctl -u zexio-agent -n 50` say more";
    let asked = connect(agent, key).and_then(|client| Ok((health(&client)?, client)));
    match asked {
        Ok((answer, client)) if answer.status == 200 => (Some(client), ok("agent", "it answers, and its loop runs")),
        Ok((_, client)) => (Some(client), wrong("agent", "it answers, but its loop finished no pass lately", look)),
        Err(failure) => (None, wrong("agent", failure.message, look)),
    }
}

/// Asks for the agent's health; if just started, waits for its first pass.
fn health(client: &Client) -> Result<Answer, Failure> {
    let began = Instant::now();
    loop {
        let answer = client.send(&Ask::get("/healthz"))?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let is_new = answer.status != 200 && said.get("last_pass").is_some_and(Value::is_null);
        if !is_new || began.elapsed() > FIRST_PASS {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn listed(client: Option<&Client>, path: &str, key: &str) -> Vec<Value> {
    let answer = client.and_then(|client| client.value(&Ask::get(path)).ok()).unwrap_or_default();
    super::show::list(&answer, key).to_vec()
}

fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.state != State::Wrong)
}

fn shown(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for Finding { check, state, message, mend } in findings {
        let (word, colour) = match state {
            State::Ok => ("ok    ", Colour::Green),
            State::Advice => ("advice", Colour::Yellow),
            State::Wrong => ("wrong ", Colour::Red),
        };
        text.push_str(&format!("{}  {check:<10}  {}\n", paint.put(colour, word), clean(message)));
        if let Some(mend) = mend {
            text.push_str(&format!("{:20}mend: {}\n", "", clean(mend)));
        }
    }
    let count = |state: State| findings.iter().filter(|finding| finding.state == state).count();
    let (bad, better) = (count(State::Wrong), count(State::Advice));
    text + &match (bad, better) {
        (0, 0) => "\nall well\n".to_owned(),
        (0, better) => format!("\nall well; {better} to improve\n"),
        (bad, better) => format!("\n{bad} wrong, {better} to improve\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_mends_it_and_advice_does_not_make_a_machine_ill() {
        let mut findings = vec![ok("systemd", "252"), advice("caddy", "2.6.2 is old", "install a newer one")];
        assert!(is_well(&findings));
        findings.push(wrong("keys", "k is mode\u{1b} 0644", "chmod 0600 k"));
        assert!(!is_well(&findings));
        assert_eq!(
            shown(&findings, Paint(false)),
            "\
ok      systemd     252
advice  caddy       2.6.2 is old
                    mend: install a newer one
wrong   keys        k is mode\\u{1b} 0644
                    mend: chmod 0600 k

1 wrong, 1 to improve
"
        );
    }
}
