//! The journal, read through `journalctl`: it reads every version of the files, and can be killed.
//!
//! Lines are selected by fields that only journald can write. What a program claims about itself (its identifier, its
//! `UNIT=`) is ignored.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::host::clock::SystemClock;
use crate::model::names::UnitId;
use crate::model::pattern::Pattern;
use crate::model::quantity::Timestamp;
use crate::model::reason::Reason;
use crate::port::{Clock, Journal, LogLine, LogLines, LogQuery, PortError, Tail};

/// How many lines are queued for a reader.
const QUEUE: usize = 256;
/// How long a reader may read nothing before it is dropped.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest line of journalctl's output; a byte can take four characters there.
const LONGEST: usize = 4 << 20;
/// How much of the past is buffered in order to reverse it, newest last.
const HELD: usize = 8 << 20;

/// Reads this server's journal.
pub struct Journalctl {
    program: PathBuf,
}

impl Default for Journalctl {
    fn default() -> Self {
        Self { program: PathBuf::from("/usr/bin/journalctl") }
    }
}

impl Journalctl {
    /// Uses another program in place of journalctl.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Journal for Journalctl {
    fn read(&self, query: LogQuery) -> Result<LogLines, PortError> {
        let (send, lines) = mpsc::channel(QUEUE);
        // Without a unit, journalctl would show every unit's lines.
        if query.units.is_empty() {
            return Ok(lines);
        }
        if let Some(odd) = query.units.iter().find(|unit| !is_unit(unit)) {
            return Err(PortError::permanent(Reason::JournalFailed, format!("could not read the journal of {odd:?}")));
        }
        if !self.program.exists() {
            let message = format!("could not read the journal: there is no {}", self.program.display());
            return Err(PortError::transient(Reason::JournalFailed, message));
        }
        let (units, grep) = (query.units.iter().cloned().collect(), query.grep.clone());
        let reader = Reader { program: self.program.clone(), units, grep, send };
        tokio::spawn(reader.run(query, SystemClock.now()));
        Ok(lines)
    }
}

impl Tail for Journalctl {
    fn tail(&self, units: &[UnitId], lines: u32) -> Vec<LogLine> {
        let entries = self.newest_now(units.iter().map(UnitId::name).collect(), lines);
        entries.into_iter().map(|entry| entry.line).collect()
    }
}

impl Journalctl {
    /// Returns a unit's newest messages, oldest first; none if the journal cannot be read.
    pub fn newest_of(&self, unit: &str, lines: u32) -> Vec<String> {
        let entries = self.newest_now(BTreeSet::from([unit.to_owned()]), lines);
        entries.into_iter().map(|Entry { line, .. }| line.message).collect()
    }

    /// Returns systemd's own messages about a run of a unit, oldest first; none if the journal cannot be read.
    pub fn said_by_systemd(&self, unit: &str, run: &str) -> Vec<Message> {
        let output = std::process::Command::new(&self.program)
            .args(["--output=json", "--all", "--no-pager", "--quiet", "--lines=1000"])
            .arg("--output-fields=MESSAGE,MESSAGE_ID")
            .args(["_PID=1".to_owned(), format!("UNIT={unit}"), format!("INVOCATION_ID={run}")])
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let output = output.map(|output| output.stdout).unwrap_or_default();
        let entries = output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let message = |entry: Value| Message {
            text: text(&entry["MESSAGE"]),
            id: entry["MESSAGE_ID"].as_str().map(str::to_owned),
        };
        entries.map(message).collect()
    }

    /// Reads for the loop, which is not async.
    fn newest_now(&self, units: BTreeSet<String>, lines: u32) -> Vec<Entry> {
        let (send, _nobody) = mpsc::channel(1);
        let reader = Reader { program: self.program.clone(), units, grep: None, send };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let read = runtime.map_err(|e| failed(&self.program, &e)).and_then(|runtime| {
            let read = async { timeout(TIMEOUT, reader.newest(lines, None)).await };
            runtime.block_on(read).map_err(|e| failed(&self.program, &e))?
        });
        read.unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        })
    }
}

fn is_unit(name: &str) -> bool {
    name.ends_with(".service") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@".contains(&b))
}

/// A message of systemd's about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub text: String,
    /// The MESSAGE_ID, if any.
    pub id: Option<String>,
}

/// A read for one caller.
struct Reader {
    program: PathBuf,
    units: BTreeSet<String>,
    grep: Option<Pattern>,
    send: mpsc::Sender<Result<LogLine, PortError>>,
}

/// A line with its journal cursor.
struct Entry {
    line: LogLine,
    cursor: String,
}

impl Reader {
    async fn run(self, query: LogQuery, now: Timestamp) {
        if let Err(error) = self.read(&query, now).await {
            // A disconnected reader needs no reason.
            let _ = timeout(TIMEOUT, self.send.send(Err(error))).await;
        }
    }

    async fn read(&self, query: &LogQuery, now: Timestamp) -> Result<(), PortError> {
        let mut cursor = None;
        if let Some(lines) = query.lines {
            for entry in self.newest(lines, query.since).await? {
                cursor = Some(entry.cursor);
                if !self.pass(entry.line).await {
                    return Ok(());
                }
            }
            if !query.follow {
                return Ok(());
            }
        }
        let from = match (cursor, query.lines) {
            (Some(cursor), _) => format!("--after-cursor={cursor}"),
            // No earlier line: start at the time of reading, so that lines written since are not lost.
            (None, Some(_)) => at(query.since.map_or(now, |since| since.max(now))),
            (None, None) => at(query.since.unwrap_or(now)),
        };
        self.rest(from, query.follow).await
    }

    /// Returns the newest lines, oldest first. Read backwards: forwards, `--since` with `-n` means the first lines in
    /// some versions of journalctl and the last ones in others.
    async fn newest(&self, lines: u32, since: Option<Timestamp>) -> Result<Vec<Entry>, PortError> {
        if lines == 0 {
            return Ok(Vec::new());
        }
        let mut args = vec!["--reverse".to_owned()];
        // Filtered here: not every journalctl can, and its patterns may take forever.
        args.extend(self.grep.is_none().then(|| format!("--lines={lines}")));
        args.extend(since.map(at));
        let mut output = self.start(&args, None)?;
        let (mut found, mut held) = (Vec::new(), 0);
        loop {
            let entry = tokio::select! {
                entry = output.next(&self.units) => entry?,
                () = self.send.closed() => break,
            };
            let Some(entry) = entry else { break };
            if !self.chooses(&entry) {
                continue;
            }
            held += entry.line.message.len();
            found.push(entry);
            if held > HELD || found.len() >= lines as usize {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Passes on lines as they arrive. By default `--follow` is limited to the boot id in /proc, and in a container the
    /// agent may see another one there than journald does; `--merge` has no such limit, but reads other machines' lines
    /// too.
    async fn rest(&self, from: String, follow: bool) -> Result<(), PortError> {
        let machine = machine().filter(|_| follow);
        let mut args = vec![from];
        args.extend(follow.then(|| ["--follow".to_owned(), "--no-tail".to_owned()]).into_iter().flatten());
        args.extend(machine.is_some().then(|| "--merge".to_owned()));
        let mut output = self.start(&args, machine.as_deref())?;
        loop {
            let entry = tokio::select! {
                entry = output.next(&self.units) => entry?,
                () = self.send.closed() => return Ok(()),
            };
            match entry {
                Some(entry) if !self.chooses(&entry) => {}
                Some(entry) => {
                    if !self.pass(entry.line).await {
                        return Ok(());
                    }
                }
                None if follow => return Err(failed(&self.program, &"it ended")),
                None => return Ok(()),
            }
        }
    }

    fn chooses(&self, entry: &Entry) -> bool {
        self.grep.as_ref().is_none_or(|pattern| pattern.is_in(&entry.line.message))
    }

    async fn pass(&self, line: LogLine) -> bool {
        matches!(timeout(TIMEOUT, self.send.send(Ok(line))).await, Ok(Ok(())))
    }

    fn start(&self, args: &[String], machine: Option<&str>) -> Result<Output, PortError> {
        let mut child = Command::new(&self.program)
            .args(["--output=json", "--all", "--no-pager", "--quiet"])
            .arg("--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT,_PID,OBJECT_SYSTEMD_UNIT,_TRANSPORT")
            .args(args)
            .args(matches(&self.units, machine))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(&self.program, &e))?;
        let stdout = child.stdout.take().ok_or_else(|| failed(&self.program, &"it has no output"))?;
        Ok(Output { child, program: self.program.clone(), lines: Box::pin(BufReader::new(stdout)) })
    }
}

fn failed(program: &Path, cause: &dyn std::fmt::Display) -> PortError {
    PortError::transient(
        Reason::JournalFailed,
        format!("could not read the journal with {}: {cause}", program.display()),
    )
}

/// Formats a time for journalctl: seconds with their fraction.
fn at(moment: Timestamp) -> String {
    format!("--since=@{}.{:03}", moment.0 / 1000, moment.0 % 1000)
}

/// Returns the machine id under which journald knows this server.
fn machine() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?.trim().to_owned();
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// Selects the units' own output, systemd's messages about them, and journald's notes about dropped lines. Exact fields
/// instead of `-u`: that would also match lines of other programs about the unit, some of which any user can write.
fn matches(units: &BTreeSet<String>, machine: Option<&str>) -> Vec<String> {
    let machine = machine.map(|id| format!("_MACHINE_ID={id}"));
    let those = |field: &str, trusted: Option<&str>| -> Vec<String> {
        let named = units.iter().map(|unit| format!("{field}={unit}"));
        machine.clone().into_iter().chain(trusted.map(str::to_owned)).chain(named).collect()
    };
    let told = [those("UNIT", Some("_PID=1")), those("OBJECT_SYSTEMD_UNIT", Some("_TRANSPORT=driver"))];
    told.into_iter().fold(those("_SYSTEMD_UNIT", None), |all, more| [all, more].join(&"+".to_owned()))
}

/// A running journalctl, killed on drop.
struct Output {
    child: Child,
    program: PathBuf,
    lines: std::pin::Pin<Box<dyn AsyncBufRead + Send>>,
}

impl Output {
    /// Returns these units' next line.
    async fn next(&mut self, units: &BTreeSet<String>) -> Result<Option<Entry>, PortError> {
        loop {
            let line = read_line(&mut self.lines).await.map_err(|e| failed(&self.program, &e))?;
            let Some(line) = line else { return self.end().await };
            if let Some(entry) = entry(&line, units) {
                return Ok(Some(entry));
            }
        }
    }

    async fn end(&mut self) -> Result<Option<Entry>, PortError> {
        let status = self.child.wait().await.map_err(|e| failed(&self.program, &e))?;
        if status.success() { Ok(None) } else { Err(failed(&self.program, &format!("it ended with {status}"))) }
    }
}

/// Reads up to a line's end; an overlong line is read and dropped.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let (mut line, mut any) = (Vec::new(), false);
    loop {
        let piece = from.fill_buf().await?;
        if piece.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = piece.iter().position(|b| *b == b'\n');
        let taken = end.unwrap_or(piece.len());
        if line.len() + taken <= LONGEST {
            line.extend_from_slice(piece.get(..taken).unwrap_or_default());
        } else {
            line.clear();
        }
        from.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Parses an entry, if journald's own fields say that one of these units wrote it.
fn entry(line: &[u8], units: &BTreeSet<String>) -> Option<Entry> {
    let fields: Value = serde_json::from_slice(line).ok()?;
    let field = |name: &str| fields.get(name).and_then(Value::as_str);
    let written_by = field("_SYSTEMD_UNIT").filter(|unit| units.contains(*unit));
    let told_by_systemd = || field("UNIT").filter(|unit| field("_PID") == Some("1") && units.contains(*unit));
    // Only journald itself writes by this transport: lines came too fast to be kept.
    let told_by_journald =
        || field("OBJECT_SYSTEMD_UNIT").filter(|unit| field("_TRANSPORT") == Some("driver") && units.contains(*unit));
    let own = written_by.is_some();
    let unit = written_by.or_else(told_by_systemd).or_else(told_by_journald)?.to_owned();
    let micros: u64 = field("__REALTIME_TIMESTAMP")?.parse().ok()?;
    let line = LogLine {
        time: Timestamp(micros / 1000),
        unit,
        priority: field("PRIORITY").and_then(|raw| raw.parse().ok()).filter(|priority| *priority <= 7),
        message: text(fields.get("MESSAGE").unwrap_or(&Value::Null)),
        own,
    };
    Some(Entry { line, cursor: field("__CURSOR")?.to_owned() })
}

/// Reads a message: a string; bytes if it is not printable; a list of either if the field was repeated; null if there
/// is none.
fn text(message: &Value) -> String {
    match message {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_u64) => {
            let bytes: Vec<u8> = items.iter().filter_map(|item| u8::try_from(item.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const UNIT: &str = "zexio-shop-web-r1.service";

    fn units() -> BTreeSet<String> {
        BTreeSet::from([UNIT.to_owned()])
    }

    fn record(cursor: &str, message: &str) -> String {
        format!(
            r#"{{"__CURSOR":"{cursor}","__REALTIME_TIMESTAMP":"1767225600123456","_SYSTEMD_UNIT":"{UNIT}","PRIORITY":"6","MESSAGE":{message}}}"#
        )
    }

    fn message(raw: &str) -> String {
        entry(record("c", raw).as_bytes(), &units()).unwrap().line.message
    }

    #[test]
    fn a_message_is_text_bytes_or_nothing() {
        assert_eq!(message(r#""hello""#), "hello");
        assert_eq!(message("[27,91,50,74,7]"), "\u{1b}[2J\u{7}");
        assert_eq!(message("[104,255,105]"), "h\u{fffd}i");
        assert_eq!(message("null"), "");
        assert_eq!(message(r#"["a",[98]]"#), "a\nb");
    }

    #[test]
    fn who_wrote_a_line_is_what_journald_says() {
        let of = |fields: &str| {
            let line = format!(r#"{{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1","MESSAGE":"m",{fields}}}"#);
            entry(line.as_bytes(), &units()).map(|entry| entry.line.own)
        };
        assert_eq!(of(&format!(r#""_SYSTEMD_UNIT":"{UNIT}""#)), Some(true));
        assert_eq!(of(&format!(r#""_SYSTEMD_UNIT":"init.scope","_PID":"1","UNIT":"{UNIT}""#)), Some(false));
        assert_eq!(of(&format!(r#""_SYSTEMD_UNIT":"evil.service","_PID":"4711","UNIT":"{UNIT}""#)), None);
        assert_eq!(of(&format!(r#""SYSLOG_IDENTIFIER":"{UNIT}","_PID":"4711""#)), None);
        let journald = r#""_SYSTEMD_UNIT":"systemd-journald.service","_PID":"88""#;
        assert_eq!(of(&format!(r#"{journald},"_TRANSPORT":"driver","OBJECT_SYSTEMD_UNIT":"{UNIT}""#)), Some(false));
        assert_eq!(of(&format!(r#"{journald},"_TRANSPORT":"journal","OBJECT_SYSTEMD_UNIT":"{UNIT}""#)), None);
        assert_eq!(of(r#""_SYSTEMD_UNIT":["a","b"]"#), None);
        assert!(entry(b"not json", &units()).is_none());
    }

    /// A program in place of journalctl that records how it was called.
    fn stub(dir: &Path, body: &str) -> Journalctl {
        let path = dir.join("journalctl");
        fs::write(&path, format!("#!/bin/sh\necho \"$@\" >> {}/calls\n{body}\n", dir.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Journalctl::at(path)
    }

    fn query(lines: Option<u32>, follow: bool) -> LogQuery {
        LogQuery { units: vec![UNIT.to_owned()], lines, follow, ..LogQuery::default() }
    }

    async fn messages(mut lines: LogLines) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(line) = lines.recv().await {
            found.push(line.map_or_else(|error| format!("error: {error}"), |line| line.message));
        }
        found
    }

    #[tokio::test]
    async fn the_past_comes_oldest_first_and_what_follows_begins_right_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, three) = (record("c1", "\"1\""), record("c2", "\"2\""), record("c3", "\"3\""));
        let body = format!(
            "case \"$*\" in *--reverse*) echo '{two}'; echo '{one}';; *--after-cursor=c2*) echo '{three}';; esac"
        );
        let journal = stub(dir.path(), &body);
        let mut found = messages(journal.read(query(Some(5), true)).unwrap()).await;
        assert!(found.pop().is_some_and(|last| last.ends_with("it ended")));
        assert_eq!(found, ["1", "2", "3"]);
        let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
        assert!(calls.contains("--lines=5") && calls.contains("--follow --no-tail"), "{calls}");
        assert!(calls.contains(&format!("_SYSTEMD_UNIT={UNIT} + _PID=1 UNIT={UNIT}")), "{calls}");
    }

    #[tokio::test]
    async fn a_pattern_chooses_the_newest_lines_that_match_and_the_end_of_the_past_stays_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (old, odd, new) = (record("c1", "\"e 1\""), record("c2", "\"quiet\""), record("c3", "\"e 2\""));
        let later = record("c4", "\"quiet again\"");
        let body = format!(
            "case \"$*\" in *--reverse*) echo '{new}'; echo '{odd}'; echo '{old}'; exec sleep 600;; \
             *) echo '{later}'; echo '{new}';; esac"
        );
        let asked = LogQuery { grep: Some(Pattern::parse("^e").unwrap()), ..query(Some(2), true) };
        let mut found = messages(stub(dir.path(), &body).read(asked).unwrap()).await;
        assert!(found.pop().is_some_and(|last| last.ends_with("it ended")));
        assert_eq!(found, ["e 1", "e 2", "e 2"]);
        let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
        assert!(!calls.contains("--lines") && calls.contains("--after-cursor=c3"), "{calls}");
    }

    #[tokio::test]
    async fn whoever_stops_reading_ends_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let body = format!("echo $$ > {}/pid\nexec sleep 600", dir.path().display());
        let lines = stub(dir.path(), &body).read(query(None, true)).unwrap();
        let pid = loop {
            match fs::read_to_string(dir.path().join("pid")) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => tokio::task::yield_now().await,
            }
        };
        drop(lines);
        let ended = async {
            while fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(Duration::from_secs(10), ended).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_is_shown_everything() {
        let dir = tempfile::tempdir().unwrap();
        let journal = stub(dir.path(), &format!("echo '{}'", record("c", "\"secret\"")));
        assert!(messages(journal.read(LogQuery::default()).unwrap()).await.is_empty());
        let odd = LogQuery { units: vec!["*".to_owned()], ..LogQuery::default() };
        assert!(journal.read(odd).is_err());
        let failing = stub(dir.path(), "exit 1");
        let found = messages(failing.read(query(Some(1), false)).unwrap()).await;
        assert!(found.first().is_some_and(|line| line.starts_with("error: could not read the journal")), "{found:?}");
    }
}
