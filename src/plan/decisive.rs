//! Selects the line of an app's log that says why it ended.

/// What a line says that names a cause; below it are often a stack trace and the name of the runtime.
const CAUSES: [&str; 17] = [
    "error",
    "exception",
    "fatal",
    "panic",
    "fail",
    "cannot",
    "can't",
    "could not",
    "unable",
    "not found",
    "no such",
    "denied",
    "refused",
    "invalid",
    "missing",
    "abort",
    "in use",
];
/// What runtimes and loggers write before a cause. Such a line counts more than one that only speaks of errors.
const HEADS: [&str; 6] = ["error:", "exception:", "panic:", "fatal:", "panicked at", "could not run \""];
/// How the lines of a stack trace begin, in several languages.
const TRACES: [&str; 7] = ["at ", "from ", "File \"", "... ", "#", "goroutine ", "created by "];
/// What programs print about another one that failed, which said why.
const OF_WRAPPERS: [&str; 11] = [
    "complete log of this run",
    "elifecycle",
    "command failed",
    "failed to boot",
    "startup failed. exiting",
    "make: ***",
    "error: script \"",
    "exited with code",
    "exited with status",
    "exit status",
    "exit code",
];
/// How many lines that name a cause may be looked at for one with such a head: those below it are its consequences.
const NEAR: usize = 4;
/// The longest part of a line that is shown, in characters.
const SHOWN: usize = 200;

/// Returns where in the lines the cause is named, if anywhere. `lines`: oldest first.
pub fn position(lines: &[&str]) -> Option<usize> {
    let bare: Vec<String> = lines.iter().map(|line| without_prefix(line).to_lowercase()).collect();
    let names_cause = |at: &usize| has_one_of(&bare[*at], &CAUSES) && !is_trace(lines[*at]);
    let told = |at: &usize| names_cause(at) && !is_indented(lines[*at]) && !has_one_of(&bare[*at], &OF_WRAPPERS);
    let has_head = |at: &usize| {
        let ends = ["error", "exception", "error)", "exception)"];
        (has_one_of(&bare[*at], &HEADS) || ends.iter().any(|end| bare[*at].ends_with(end))) && bare[*at] != "caused by:"
    };
    let last = (0..lines.len()).rev().find(told);
    let headed = (0..last.map_or(0, |last| last + 1)).rev().filter(told).take(NEAR).find(has_head);
    headed.or(last).or_else(|| (0..lines.len()).rev().find(names_cause))
}

/// Returns the line that names the cause, or else the last line, as it is shown.
pub fn line(lines: &[&str]) -> Option<String> {
    let at = position(lines).or_else(|| lines.iter().rposition(|line| !line.trim().is_empty()))?;
    let said = lines[at].trim();
    // Some runtimes print where it happened, and what in the next line.
    let next = lines.get(at + 1).filter(|_| said.ends_with(':')).map(|next| next.trim()).unwrap_or_default();
    Some(shown(format!("{said} {next}").trim()))
}

/// Returns a line so that it can stand in a reason.
pub fn shown(line: &str) -> String {
    let shown: String = line.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() > SHOWN {
        return format!("{shown}…");
    }
    shown.trim_end_matches(['.', ';', ' ']).to_owned()
}

/// Whether a line continues another one: code, a trace, the properties of an error.
pub fn is_indented(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

fn is_trace(line: &str) -> bool {
    let line = line.trim();
    // Go's frames have their arguments' addresses.
    let is_frame = line.ends_with(')') && ["(...)", "(0x", "({0x"].iter().any(|arguments| line.contains(arguments));
    is_frame || TRACES.iter().any(|begin| line.starts_with(begin))
}

/// Returns a line without the words that npm puts before each.
fn without_prefix(line: &str) -> &str {
    let line = line.trim();
    line.strip_prefix("npm error").or_else(|| line.strip_prefix("npm ERR!")).map_or(line, str::trim)
}

fn has_one_of(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_line_that_names_the_cause_is_found_among_what_runtimes_print_around_it() {
        for (log, shown) in [
            (
                "Error: Cannot find module 'express'\n    at Module._load (node:internal:1)\n\nNode.js v20.1.0",
                "Error: Cannot find module 'express'",
            ),
            ("starting\nusage: app [-p PORT]", "usage: app [-p PORT]"),
            ("Could not start the server.", "Could not start the server"),
            ("It failed:", "It failed:"),
            (
                "      throw er; // Unhandled 'error' event\n      ^\n\nError: connect ECONNREFUSED 127.0.0.1:5999\n    at TCPConnectWrap (node:net:1)\nEmitted 'error' event on Socket instance at:\n    at emitErrorNT (x.js:1) {\n  errno: -111,\n  code: 'ECONNREFUSED',\n}",
                "Error: connect ECONNREFUSED 127.0.0.1:5999",
            ),
            ("Error: DATABASE_URL must be set\n    at failFast (/x/c.js:2:22)", "Error: DATABASE_URL must be set"),
            (
                "npm error Missing script: \"start\"\nnpm error\nnpm error To see a list of scripts, run:\nnpm error   npm run\nnpm error A complete log of this run can be found in: /x/_logs/1.log",
                "npm error Missing script: \"start\"",
            ),
            (
                "ModuleNotFoundError: No module named 'nosuch'\n[INFO] Worker exiting (pid: 9)\n[ERROR] Worker (pid:9) exited with code 3\n[INFO] Shutting down: Master\n[INFO] Reason: Worker failed to boot.",
                "ModuleNotFoundError: No module named 'nosuch'",
            ),
            (
                "java.net.BindException: Address already in use\n\tat M.failIfMissing(M.java:1)",
                "java.net.BindException: Address already in use",
            ),
            (
                "panic: assignment to entry in nil map\n\ngoroutine 1 [running]:\nmain.fail(...)\n\t/x/main.go:5\nmain.mustNotFail({0xc0, 0x1})\n\t/x/main.go:9 +0x1d\nexit status 2",
                "panic: assignment to entry in nil map",
            ),
            (
                "/x/a.rb:1:in `require': cannot load such file -- sinatra (LoadError)\n\tfrom /x/rack/builder.rb:116:in eval_errors",
                "/x/a.rb:1:in `require': cannot load such file -- sinatra (LoadError)",
            ),
            (
                "thread 'main' panicked at src/main.rs:9:5:\nDB_URL must be set: NotPresent\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
                "thread 'main' panicked at src/main.rs:9:5: DB_URL must be set: NotPresent",
            ),
            ("Error: DATABASE_URL is not set\nbye (0 errors, 0 failed)", "Error: DATABASE_URL is not set"),
            (
                "Error: could not connect\n\nCaused by:\n    0: error trying\n    1: Connection refused (os error 111)",
                "Error: could not connect",
            ),
            (
                "Traceback (most recent call last):\n  File \"/x/a.py\", line 1, in <module>\n    assert ready\nAssertionError",
                "AssertionError",
            ),
            (
                "ERROR: no licence\ncannot a\ncannot b\ncannot c\nlisten tcp: address x: missing port in address",
                "listen tcp: address x: missing port in address",
            ),
            ("  only this one says error", "only this one says error"),
        ] {
            let lines: Vec<&str> = log.lines().collect();
            assert_eq!(line(&lines).as_deref(), Some(shown), "{log}");
        }
        let long = line(&[&"ä\u{7}".repeat(150)]).unwrap();
        assert_eq!((long.chars().count(), long.ends_with('…')), (201, true));
        assert_eq!(line(&["", " "]), None);
    }
}
