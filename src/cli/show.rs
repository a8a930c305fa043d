//! Formats the agent's answers for people. Pure: values and a time in, text out.

use serde_json::Value;

use super::failure::Failure;
use super::text::{Colour, Paint, clean, table};
use crate::model::names::ReleaseNo;
use crate::model::quantity::Timestamp;
use crate::model::status::{Condition, ConditionKind, ProcessStatus, ProjectState, Status};

/// Parses a project's status out of the API's view of it.
///
/// # Errors
/// The status could not be parsed, and why.
pub fn status_of(view: &Value) -> Result<Status, Failure> {
    let status = view.get("status").filter(|status| status.is_object()).unwrap_or(view);
    serde_json::from_value(status.clone())
        .map_err(|e| Failure::new(format!("could not read the status in the agent's answer: {e}")))
}

/// Returns the list under a key, or the value itself if it is a list.
pub fn list<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer.get(key).unwrap_or(answer).as_array().map_or(&[], Vec::as_slice)
}

/// Returns the most important message about a project now.
pub fn leading(status: &Status) -> Option<&Condition> {
    let held = |kind: ConditionKind| status.condition(kind).filter(|condition| condition.holds);
    let ready = status.condition(ConditionKind::Ready);
    let outage = ready.filter(|ready| !ready.holds && ready.reason.is_outage());
    outage
        .or_else(|| held(ConditionKind::Stalled))
        .or_else(|| held(ConditionKind::Suspended))
        .or_else(|| held(ConditionKind::Ready))
        .or_else(|| held(ConditionKind::Reconciling))
        .or(ready)
}

/// Formats all projects, one a line.
pub fn overview(statuses: &[Status], now: Timestamp, paint: Paint) -> String {
    if statuses.is_empty() {
        return "no projects yet; `zexio apply -f shop.yaml` makes one\n".into();
    }
    let rows: Vec<Vec<String>> = statuses.iter().map(|status| row(status, now)).collect();
    let heading = ["PROJECT", "STATE", "SERVING", "CANDIDATE", "PID", "MEM", "CPU", "UPTIME", "OWNER", "REASON"];
    let plain = table(&heading, &rows);
    if paint.0 { coloured(&plain, statuses, paint) } else { plain }
}

fn row(status: &Status, now: Timestamp) -> Vec<String> {
    let serving: Vec<&ProcessStatus> =
        status.processes.iter().filter(|process| Some(process.release) == status.serving).collect();
    let main = serving.iter().find(|process| process.port.is_some()).or(serving.first());
    let memory: Vec<u64> = serving.iter().filter_map(|process| process.memory_bytes).collect();
    let cpu: Vec<f64> = serving.iter().filter_map(|process| process.cpu_seconds).collect();
    let up = main.filter(|process| process.pid.is_some()).and_then(|process| process.since);
    vec![
        status.project.to_string(),
        status.state.to_string(),
        dash(status.serving),
        dash(status.candidate),
        dash(main.and_then(|process| process.pid)),
        if memory.is_empty() { "-".into() } else { size(memory.iter().sum()) },
        if cpu.is_empty() { "-".into() } else { format!("{:.1}s", cpu.iter().sum::<f64>()) },
        up.map_or("-".into(), |since| age(since, now)),
        status.owner.clone(),
        leading(status).map_or("-".into(), |condition| condition.reason.to_string()),
    ]
}

/// Colours the state in each line. After the layout, because colour has no width.
fn coloured(plain: &str, statuses: &[Status], paint: Paint) -> String {
    let mut lines = plain.lines();
    let mut text = lines.next().map(|line| format!("{line}\n")).unwrap_or_default();
    for (line, status) in lines.zip(statuses) {
        let word = format!(" {} ", status.state);
        let painted = format!(" {} ", paint.put(colour(status.state), status.state.name()));
        text.push_str(&line.replacen(&word, &painted, 1));
        text.push('\n');
    }
    text
}

fn colour(state: ProjectState) -> Colour {
    match state {
        ProjectState::Running => Colour::Green,
        ProjectState::Failed | ProjectState::Down => Colour::Red,
        _ => Colour::Yellow,
    }
}

/// Formats one project in full.
pub fn project(status: &Status, now: Timestamp, paint: Paint) -> String {
    let state = paint.put(colour(status.state), status.state.name());
    let rejected: Vec<String> = status.rejected.iter().map(ToString::to_string).collect();
    let mut text = format!("{}  {state}\n", status.project);
    let seen = format!("{} (seen {} ago)", status.observed_generation, age(status.observed_at, now));
    let facts = [
        ("owner", clean(&status.owner)),
        ("generation", status.generation.to_string()),
        ("observed", seen),
        ("serving", dash(status.serving)),
        ("candidate", dash(status.candidate)),
        ("last good", dash(status.last_good)),
        ("rejected", if rejected.is_empty() { "-".into() } else { rejected.join(", ") }),
    ];
    for (name, value) in facts {
        text.push_str(&format!("  {name:<11} {value}\n"));
    }
    text.push_str(&section(&conditions(status, now)));
    text.push_str(&section(&processes(status, now)));
    text.push_str(&section(&routes(status)));
    text
}

fn section(table: &str) -> String {
    if table.is_empty() { String::new() } else { format!("\n{table}") }
}

fn conditions(status: &Status, now: Timestamp) -> String {
    let row = |condition: &Condition| {
        let Condition { kind, holds, reason, message, since } = condition;
        let holds = if *holds { "True" } else { "False" };
        vec![kind.name().into(), holds.into(), reason.to_string(), age(*since, now), message.clone()]
    };
    let rows: Vec<Vec<String>> = status.conditions.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { table(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], &rows) }
}

fn processes(status: &Status, now: Timestamp) -> String {
    let row = |process: &ProcessStatus| {
        vec![
            process.name.to_string(),
            process.release.to_string(),
            match &process.last_run {
                Some(run) => format!("{}/{} ({})", word(&process.state), process.sub_state, clean(&run.result)),
                None => format!("{}/{}", word(&process.state), process.sub_state),
            },
            dash(process.pid),
            dash(process.port),
            process.memory_bytes.map_or("-".into(), size),
            process.cpu_seconds.map_or("-".into(), |cpu| format!("{cpu:.1}s")),
            dash(process.tasks),
            match (process.io_read_bytes, process.io_write_bytes) {
                (Some(read), Some(written)) => format!("{}/{}", size(read), size(written)),
                _ => "-".into(),
            },
            process.restarts.to_string(),
            process.since.map_or("-".into(), |since| age(since, now)),
        ]
    };
    let rows: Vec<Vec<String>> = status.processes.iter().map(row).collect();
    let heading =
        ["PROCESS", "RELEASE", "STATE", "PID", "PORT", "MEM", "CPU", "TASKS", "READ/WRITTEN", "RESTARTS", "SINCE"];
    if rows.is_empty() { String::new() } else { table(&heading, &rows) }
}

fn routes(status: &Status) -> String {
    let row = |route: &crate::model::status::RouteStatus| {
        let path = route.path.clone().unwrap_or_default();
        let live = match (route.live, &route.failing) {
            (true, _) => "live",
            (false, Some(_)) => "failing",
            (false, None) => "waits",
        };
        vec![format!("{}{path}", route.host), route.to.clone(), live.to_owned()]
    };
    let rows: Vec<Vec<String>> = status.routes.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { table(&["ROUTE", "TO", "STATE"], &rows) }
}

/// Explains a project's state in a paragraph.
pub fn why(status: &Status, now: Timestamp) -> String {
    let project = &status.project;
    let serving = match status.serving {
        Some(release) if status.state == ProjectState::Down => format!("Release {release} of {project} is to serve"),
        Some(release) => format!("Release {release} of {project} serves"),
        None => format!("Nothing of {project} serves"),
    };
    let candidate = status.candidate.map_or(String::new(), |release| format!("; release {release} is on trial"));
    let mut said = format!("{serving}{candidate}. Its state is {}", status.state);
    if let Some(leading) = leading(status) {
        let since = age(leading.since, now);
        said.push_str(&format!(", for {since} ({}): {}", leading.reason, clean(&leading.message)));
    }
    said.push('.');
    if let Some(suspended) =
        status.condition(ConditionKind::Suspended).filter(|_| status.condition(ConditionKind::Stalled).is_some())
    {
        said.push_str(&format!(" It is suspended: {}.", clean(&suspended.message)));
    }
    if status.observed_generation < status.generation {
        let (wanted, seen) = (status.generation, status.observed_generation);
        said.push_str(&format!(" Generation {wanted} is wanted; {seen} is the newest that came to an end."));
    }
    if let Some(release) = status.rejected.last() {
        said.push_str(&format!(" Release {release} failed and is not tried again until its spec changes."));
    }
    for process in status.processes.iter().filter(|process| process.restarts > 0) {
        let (name, times) = (&process.name, process.restarts);
        said.push_str(&format!(" Process {name} was restarted {times} times."));
    }
    for route in status.routes.iter().filter(|route| !route.live && route.failing.is_none()) {
        said.push_str(&format!(" Caddy does not have {} yet.", route.host));
    }
    said.push('\n');
    let wrong = leading(status).filter(|leading| leading.kind != ConditionKind::Ready || !leading.holds);
    if let Some(Condition { reason, .. }) = wrong {
        let mending = reason.mending().replace("PROJECT", project.as_str());
        said.push_str(&format!("\n{reason}: {} {mending}\n", reason.meaning()));
    }
    said
}

/// How many of a failed release's last log lines are shown; `history -o json` has them all.
const LAST_LINES: usize = 20;

/// Formats a failed release's evidence.
pub fn evidence(number: ReleaseNo, releases: &[Value]) -> String {
    let release =
        releases.iter().find(|release| release.get("number").and_then(Value::as_u64) == Some(u64::from(number.0)));
    let Some(evidence) = release.and_then(|release| release.get("evidence")) else { return String::new() };
    let lines = |key: &str| -> Vec<String> {
        let lines = evidence.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        lines.map(|line| format!("  {}\n", clean(line))).collect()
    };
    let (findings, log) = (lines("findings"), lines("log"));
    let shown = &log[log.len().saturating_sub(LAST_LINES)..];
    let part = |head: String, lines: &[String]| {
        if lines.is_empty() { String::new() } else { format!("\n{head}\n{}", lines.concat()) }
    };
    part(format!("What release {number} showed:"), &findings) + &part("Its last log lines:".to_owned(), shown)
}

/// Formats a plan: its steps, and what is waiting.
pub fn plan(steps: &[Value], waiting: &[Value], paint: Paint) -> String {
    let nothing = if steps.is_empty() { "nothing to do\n" } else { "" };
    let line = |step: &Value| {
        let part = |key: &str| clean(step.get(key).and_then(Value::as_str).unwrap_or_default());
        let whose = step.get("project").and_then(Value::as_str).map_or("all", |project| project);
        let sign = part("sign");
        let colour = match sign.as_str() {
            "+" => Colour::Green,
            "-" => Colour::Red,
            _ => Colour::Yellow,
        };
        format!("{} {}: {}  ({})\n", paint.put(colour, &sign), clean(whose), part("action"), part("reason"))
    };
    let still = |one: &Value| {
        let part = |key: &str| clean(one.get(key).and_then(Value::as_str).unwrap_or_default());
        format!("{} {}: {}  ({})\n", paint.put(Colour::Yellow, "!"), part("project"), part("message"), part("reason"))
    };
    nothing.chars().map(String::from).chain(steps.iter().map(line)).chain(waiting.iter().map(still)).collect()
}

/// Formats a project's releases.
pub fn history(releases: &[Value], now: Timestamp) -> String {
    let row = |release: &Value| {
        let part = |key: &str| release.get(key).and_then(scalar).unwrap_or("-".into());
        let made = release.get("created_at").and_then(Value::as_str).and_then(|at| Timestamp::parse(at).ok());
        let why = release.get("why").and_then(|why| why.get("message").unwrap_or(why).as_str()).unwrap_or_default();
        let sha256: String = part("sha256").chars().take(12).collect();
        let when = made.map_or("-".into(), |made| format!("{} ago", age(made, now)));
        vec![part("number"), part("state"), part("version"), sha256, when, why.to_owned()]
    };
    let rows: Vec<Vec<String>> = releases.iter().map(row).collect();
    if rows.is_empty() { "no releases yet\n".into() } else { table(&HISTORY, &rows) }
}

const HISTORY: [&str; 6] = ["RELEASE", "STATE", "VERSION", "SHA256", "MADE", "WHY IT ENDED"];

/// Formats a project's secrets, by name.
pub fn secrets(secrets: &[Value], now: Timestamp) -> String {
    let row = |secret: &Value| {
        let part = |key: &str| secret.get(key).and_then(scalar).unwrap_or("-".into());
        let at = Timestamp::parse(&part("updated_at")).ok();
        vec![part("name"), part("version"), at.map_or("-".into(), |at| format!("{} ago", age(at, now)))]
    };
    let rows: Vec<Vec<String>> = secrets.iter().map(row).collect();
    if rows.is_empty() { "no secrets\n".into() } else { table(&["NAME", "VERSION", "UPDATED"], &rows) }
}

/// Formats one line of a log: a JSON object, or any other text.
pub fn log_line(raw: &str) -> String {
    let Ok(Value::Object(entry)) = serde_json::from_str::<Value>(raw) else { return clean(raw) };
    let first = |keys: &[&str]| keys.iter().find_map(|key| entry.get(*key).and_then(scalar));
    let Some(message) = first(&["message", "line", "text"]) else { return clean(raw) };
    let time = first(&["time", "at", "timestamp"]).unwrap_or_default();
    let process = first(&["process"]).unwrap_or_default();
    let release = first(&["release"]).map(|release| format!("r{release}")).unwrap_or_default();
    let source = [process, release].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let parts = [time, source, message];
    parts.iter().filter(|part| !part.is_empty()).map(|part| clean(part)).collect::<Vec<_>>().join("  ")
}

/// Formats an event: a JSON object, or any other text.
pub fn event(raw: &str) -> String {
    let Ok(Value::Object(entry)) = serde_json::from_str::<Value>(raw) else { return clean(raw) };
    let part = |key: &str| entry.get(key).and_then(scalar).unwrap_or_default();
    let (time, project) = (part("last_seen"), entry.get("project").and_then(scalar).unwrap_or("-".into()));
    let often = entry.get("count").and_then(Value::as_u64).filter(|count| *count > 1);
    let often = often.map_or(String::new(), |count| format!("  ({count} times since {})", part("time")));
    let mark = if part("level") == "warning" { '!' } else { ' ' };
    clean(&format!("{time} {mark} {project:<12}  {:<18}  {}{often}", part("reason"), part("message")))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn word(state: &impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().as_ref().and_then(scalar).unwrap_or_default()
}

fn dash(value: Option<impl ToString>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

/// Formats an amount of memory for people.
pub fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if amount < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{amount:.1}{unit}") };
        }
        amount /= 1024.0;
    }
    format!("{amount:.1}T")
}

/// Formats how long ago something was, in at most two units.
fn age(since: Timestamp, now: Timestamp) -> String {
    span(now.since(since).0 / 1000)
}

/// Formats a duration in at most two units.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-12-01T08:00:00Z").unwrap()
    }

    fn shop() -> Value {
        json!({"project":"shop","generation":7,"observed_generation":6,"observed_at":"2026-12-01T07:59:58.000Z",
          "owner":"api","state":"failed","conditions":[
            {"type":"Ready","status":"False","reason":"HealthCheckFailed","message":"release 7 never answered /up","since":"2026-12-01T07:58:00.000Z"},
            {"type":"Stalled","status":"True","reason":"HealthCheckFailed","message":"release 7 never answered /up","since":"2026-12-01T07:58:00.000Z"}],
          "serving":6,"candidate":null,"last_good":5,"rejected":[7],
          "processes":[{"name":"web","release":6,"unit":"zexio-shop-web-r6.service","state":"active","sub_state":"running",
            "pid":4711,"slot":"a","port":21003,"memory_bytes":18_400_000,"cpu_seconds":1.25,"tasks":11,"io_read_bytes":2048,"io_write_bytes":0,"restarts":2,"since":"2026-11-30T06:00:00.000Z"}],
          "routes":[{"host":"shop.example.com","to":"127.0.0.1:21003","live":true},
                    {"host":"shop.example.com","path":"/api/*","to":"127.0.0.1:21003","live":false}]})
    }

    fn new() -> Value {
        json!({"project":"blog","generation":1,"observed_generation":0,"observed_at":"2026-12-01T07:59:58.000Z",
          "owner":"file:blog.yaml","state":"pending","conditions":[],"serving":null,"candidate":1,"last_good":null,
          "rejected":[],"processes":[],"routes":[]})
    }

    fn read(view: &Value) -> Status {
        status_of(view).unwrap()
    }

    #[test]
    fn the_overview_has_one_line_for_each_project() {
        let view = json!({"project":"x","status":new(),"spec":null});
        assert_eq!(
            overview(&[read(&shop()), read(&view)], now(), Paint(false)),
            "\
PROJECT  STATE    SERVING  CANDIDATE  PID   MEM    CPU   UPTIME  OWNER           REASON
shop     failed   6        -          4711  17.5M  1.2s  1d2h    api             HealthCheckFailed
blog     pending  -        1          -     -      -     -       file:blog.yaml  -
"
        );
        assert!(overview(&[read(&shop())], now(), Paint(true)).contains(" \x1b[31mfailed\x1b[0m "));
    }

    #[test]
    fn a_project_is_shown_in_full() {
        assert_eq!(
            project(&read(&shop()), now(), Paint(false)),
            "\
shop  failed
  owner       api
  generation  7
  observed    6 (seen 2s ago)
  serving     6
  candidate   -
  last good   5
  rejected    7

CONDITION  STATUS  REASON             SINCE  MESSAGE
Ready      False   HealthCheckFailed  2m0s   release 7 never answered /up
Stalled    True    HealthCheckFailed  2m0s   release 7 never answered /up

PROCESS  RELEASE  STATE           PID   PORT   MEM    CPU   TASKS  READ/WRITTEN  RESTARTS  SINCE
web      6        active/running  4711  21003  17.5M  1.2s  11     2.0K/0B       2         1d2h

ROUTE                   TO               STATE
shop.example.com        127.0.0.1:21003  live
shop.example.com/api/*  127.0.0.1:21003  waits
"
        );
    }

    #[test]
    fn why_says_it_in_a_paragraph() {
        assert_eq!(
            why(&read(&shop()), now()),
            "Release 6 of shop serves. Its state is failed, for 2m0s (HealthCheckFailed): release 7 never answered /up. \
             Generation 7 is wanted; 6 is the newest that came to an end. Release 7 failed and is not tried again until \
             its spec changes. Process web was restarted 2 times. Caddy does not have shop.example.com yet.\n\n\
             HealthCheckFailed: A process ended too often, or was not ready within `ready.within`. \
             `zexio logs shop --release N`; mend the app, deploy again.\n"
        );
    }

    #[test]
    fn what_a_failed_release_showed_follows_the_paragraph() {
        let releases =
            json!([{"number":7,"evidence":{"findings":["web: exited with status 3"],"log":["a","\u{1b}[2Jb"]}}]);
        let said = evidence(ReleaseNo(7), list(&json!({ "releases": releases }), "releases"));
        assert!(
            said.starts_with("\nWhat release 7 showed:\n  web: exited with status 3\n\nIts last log lines:\n  a\n"),
            "{said}"
        );
        assert!(!said.contains('\u{1b}'), "what an app writes is shown, not run");
        assert_eq!(evidence(ReleaseNo(6), &[]), "");
    }

    #[test]
    fn a_plan_shows_each_step_with_its_sign_and_reason() {
        let steps = json!([
            {"project":"shop","action":"fetch release 2","reason":"the release is not on disk","sign":"+"},
            {"project":null,"action":"load routes into Caddy","reason":"Caddy does not have the desired routes","sign":"~"}]);
        assert_eq!(
            plan(list(&steps, "steps"), &[], Paint(false)),
            "+ shop: fetch release 2  (the release is not on disk)\n\
             ~ all: load routes into Caddy  (Caddy does not have the desired routes)\n"
        );
        assert!(plan(list(&steps, "steps"), &[], Paint(true)).starts_with("\x1b[32m+\x1b[0m shop: "));
    }

    #[test]
    fn a_plan_without_steps_says_whether_somebody_waits() {
        let waiting = json!([{"project":"shop","reason":"SecretMissing","message":"no value is stored for TOKEN"}]);
        assert_eq!(plan(&[], &[], Paint(false)), "nothing to do\n");
        assert_eq!(
            plan(&[], list(&waiting, ""), Paint(false)),
            "nothing to do\n! shop: no value is stored for TOKEN  (SecretMissing)\n"
        );
    }

    #[test]
    fn history_and_secrets_are_tables() {
        let releases = json!([{"number":2,"state":"rejected","version":"1.8.2","sha256":"9f86d081884c7d659a2feaa0","created_at":"2026-12-01T07:00:00Z",
            "why":{"reason":"HealthCheckFailed","message":"never answered"}},{"number":1,"state":"serving","why":null}]);
        assert_eq!(
            history(list(&releases, "releases"), now()),
            "\
RELEASE  STATE     VERSION  SHA256        MADE      WHY IT ENDED
2        rejected  1.8.2    9f86d081884c  1h0m ago  never answered
1        serving   -        -             -
"
        );
        let stored = json!([{"name":"TOKEN","version":3,"updated_at":"2026-12-01T07:59:00Z"}]);
        assert_eq!(secrets(list(&stored, "secrets"), now()), "NAME   VERSION  UPDATED\nTOKEN  3        1m0s ago\n");
    }

    #[test]
    fn an_event_is_a_line_that_cannot_write_on_the_terminal() {
        let raw = r#"{"id":7,"time":"2026-12-01T07:00:00Z","project":"shop","release":2,"level":"warning",
            "reason":"ProcessDown","message":"a\u001b[2J","count":3,"last_seen":"2026-12-01T08:00:00Z"}"#;
        let shown = event(raw);
        assert_eq!(
            shown,
            "2026-12-01T08:00:00Z ! shop          ProcessDown         a\\u{1b}[2J  (3 times since 2026-12-01T07:00:00Z)"
        );
    }

    #[test]
    fn a_log_line_cannot_write_on_the_terminal() {
        let raw = r#"{"time":"2026-12-01T08:00:00Z","process":"web","release":7,"message":"a\u001b[2J\rfake"}"#;
        assert_eq!(log_line(raw), "2026-12-01T08:00:00Z  web/r7  a\\u{1b}[2J\\u{d}fake");
        assert_eq!(log_line("plain \x07"), "plain \\u{7}");
    }
}
