//! What the last lines of a release that failed are about, where its author could not know how this server is: what to
//! change is added to the reason.

use crate::model::names::ProcessName;

/// How many of the last lines are read.
const LINES: usize = 40;

/// What programs say of a port, a lock or an account that another one has.
const TAKEN: [&str; 22] = [
    "address already in use",
    "address in use",
    "eaddrinuse",
    "port is already",
    "already in use",
    "already running",
    "already locked",
    "is locked",
    "lock file",
    "lockfile",
    "flock(",
    "/lock:",
    "acquire lock",
    "obtain lock",
    "directory lock",
    "could not lock",
    "cannot lock",
    "failed to lock",
    "unable to lock",
    "resource temporarily unavailable",
    "another process is using",
    "only one bot instance",
];

/// The directories of people.
const HOMES: [&str; 3] = ["/root/", "/home/", "/run/user/"];
/// What programs say of a file that they cannot get at.
const OUT_OF_REACH: [&str; 6] =
    ["permission denied", "eacces", "no such file", "not found", "cannot find", "cannot open"];

/// How the standard streams are opened by a path.
const STREAMS: [&str; 5] = ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1", "/proc/self/fd/2", "/dev/fd/"];
/// What programs say of a socket that is opened by a path.
const NO_DEVICE: [&str; 5] = ["no such device or address", "enxio", "errno 6", "os error 6", "(6:"];

/// Returns what to add to the reason. `beside`: the processes that failed while the old release ran beside them.
pub fn of(log: &[String], beside: &[ProcessName]) -> Vec<String> {
    let messages: Vec<&str> = log.iter().rev().take(LINES).map(|line| message(line)).collect();
    let lower: Vec<String> = messages.iter().map(|message| message.to_lowercase()).collect();
    let says = |first: &[&str], second: &[&str]| {
        let has = |line: &String, words: &[&str]| words.iter().any(|word| line.contains(word));
        lower.iter().any(|line| has(line, first) && (second.is_empty() || has(line, second)))
    };
    // The launcher's own word: what it could not start, and why.
    let launch = messages.iter().find(|message| message.starts_with("could not run \"")).map(|said| (*said).to_owned());
    let homes = says(&HOMES, &OUT_OF_REACH) && !launch.as_ref().is_some_and(|said| said.contains(HIDDEN_HOMES));
    let homes = homes.then(|| HIDDEN_HOMES.to_owned());
    let streams = says(&STREAMS, &NO_DEVICE).then(|| STREAM.to_owned());
    let twice = beside.first().filter(|_| says(&TAKEN, &[])).map(|process| {
        format!(
            "the old release runs beside it; if {process} cannot run twice, set processes.{process}.strategy: recreate, \
             or deploy.strategy: recreate for all"
        )
    });
    launch.into_iter().chain(homes).chain(streams).chain(twice).collect()
}

/// What an app does not see of the server, and what to do instead.
pub const HIDDEN_HOMES: &str = "apps cannot get at homes (/root, /home, /run/user): install it for all, as under /usr/local, or put it into the artifact";

const STREAM: &str = "an app's output is a socket to the journal, which cannot be opened as /dev/stdout: let it write to its \
     standard output, as most programs do without a log file, or to a file in $DATA_DIR";

/// A line begins with its time.
fn message(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, message)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(line: &str) -> String {
        let log = ["2026-01-01T00:00:00.000Z starting".to_owned(), format!("2026-01-01T00:00:01.000Z {line}")];
        of(&log, &[ProcessName::parse("bot").unwrap()]).join(" | ")
    }

    #[test]
    fn what_a_release_says_of_its_matter_names_the_mend() {
        for line in [
            "OSError: [Errno 98] Address already in use",
            "Error: listen EADDRINUSE: address already in use 127.0.0.1:9090",
            "listen tcp 127.0.0.1:9100: bind: address already in use",
            "    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
            "BlockingIOError: [Errno 11] Resource temporarily unavailable",
            "sqlite3.OperationalError: database is locked",
            "IO error: lock /data/LOCK: Resource temporarily unavailable",
            "Cannot acquire directory lock on \"/data\". Another process is using this Badger database.",
            "409 Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
        ] {
            let said = hints(line);
            assert!(said.contains("set processes.bot.strategy: recreate"), "{line}: {said:?}");
            let log = [format!("2026-01-01T00:00:01.000Z {line}")];
            assert_eq!(of(&log, &[]), Vec::<String>::new(), "nothing runs beside it");
        }
        for line in [
            "/usr/bin/env: 'node': Permission denied, /root/.nvm/versions/node/v20/bin/node",
            "sh: 1: /home/deploy/.rbenv/shims/ruby: not found",
            "Error: Cannot find module '/root/app/server.js'",
        ] {
            assert_eq!(hints(line), HIDDEN_HOMES, "{line}");
        }
        for line in [
            "OSError: [Errno 6] No such device or address: '/dev/stdout'",
            "nginx: [emerg] open() \"/dev/stderr\" failed (6: No such device or address)",
            "Error: ENXIO: no such device or address, open '/dev/stdout'",
            "could not open /proc/self/fd/1: os error 6",
        ] {
            assert_eq!(hints(line), STREAM, "{line}");
        }
    }

    #[test]
    fn what_could_not_be_started_is_said_once_and_with_its_cause() {
        let line = format!("could not run \"/root/.nvm/node\" in /r: Permission denied (os error 13); {HIDDEN_HOMES}");
        assert_eq!(hints(&line), line);
    }

    #[test]
    fn other_words_add_nothing() {
        for line in ["block chain", "clock skew", "/home page was served", "wrote to /dev/stdout", "404 not found"] {
            assert_eq!(hints(line), "", "{line}");
        }
    }
}
