//! Explains the last log lines of a failed release where its author could not know how this server is set up: what to
//! change is added to the reason.

mod files;
mod ports;
mod programs;

use std::path::Path;

use super::decisive;
use crate::model::layout::HIDDEN_HOMES;
use crate::model::names::ProcessName;
use crate::model::observed::PortHolder;

use files::{DENIED, file_in, is_elsewhere, is_refused, no_place, refused};
use ports::{Holder, PORT_TAKEN, holder, is_in_use, socket_in, socket_that};
use programs::{PATTERN, RETURN, ends_in_return, foreign_module, is_about_a_pattern, missing_program};

/// How many of the last lines are read.
const LINES: usize = 100;

/// What programs print about what they can do without.
const BENIGN: [&str; 7] =
    ["ignored", "ignoring", "using default", "npm warn", "falling back", "optional", "; disabled"];

/// What a line about a visitor's request has, whose path is no file's.
const REQUESTS: [&str; 10] =
    ["GET /", "POST /", "PUT /", "HEAD /", "DELETE /", "PATCH /", "OPTIONS /", " HTTP/1", " HTTP/2", "Not Found: /"];

/// What programs print about a lock or an account that is in use.
const TAKEN: [&str; 17] = [
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

/// How paths in homes begin.
const HOMES: [&str; 3] = ["/root/", "/home/", "/run/user/"];

/// What programs print about a file that they cannot access.
const OUT_OF_REACH: [&str; 6] =
    ["permission denied", "eacces", "no such file", "not found", "cannot find", "cannot open"];

/// The paths by which programs open the standard streams.
const STREAMS: [&str; 5] = ["/dev/stdout", "/dev/stderr", "/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"];

/// The paths by which programs open the streams of a container's first process, or a terminal.
const STREAMS_OF_OTHERS: [&str; 5] = ["/proc/1/fd/", "/dev/console", "/dev/tty", "/dev/pts/", "/dev/pts"];

/// What programs print about a socket that is opened by a path.
const NO_DEVICE: [&str; 5] = ["no such device or address", "enxio", "errno 6", "os error 6", "(6:"];

/// What programs print about a device or a network address, which they also lack.
const NO_FILE: [&str; 5] = ["connect", "dial", "lookup", "resolve", "socket"];

/// What programs print in the code that makes a Unix socket.
const UNIX_SOCKET: [&str; 5] = ["af_unix", "unixstream", "unix_server", "unix socket", "unix domain"];

/// What programs print where they are not the superuser.
const OF_ROOT: [&str; 9] = [
    "chown",
    "changing ownership",
    "setuid",
    "setgid",
    "setgroups",
    "initgroups",
    "cannot set groups",
    "failed switching to",
    "su-exec",
];

const NOT_PERMITTED: [&str; 2] = ["operation not permitted", "eperm"];

/// The directories of a release that an app may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Paths<'a> {
    /// The release's files.
    pub release: &'a Path,
    pub data: &'a Path,
    /// The user that it runs as, if no sandbox isolates it from the rest of the server.
    pub unconfined: Option<&'a str>,
}

/// What ran beside a release when it failed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Neighbours<'a> {
    /// The processes that failed while the old release ran beside them.
    pub failed: &'a [ProcessName],
    /// The names of the old release's units.
    pub old: &'a [String],
    /// Who listens on which port, without the ports that the old release got as $PORT; none if that was not observed.
    pub listeners: Option<&'a [PortHolder]>,
}

/// Whether the log speaks of a port that is in use, so that it matters who listens.
pub fn mentions_ports(log: &[String]) -> bool {
    last_lines(log).any(|line| has_one_of(&line.to_lowercase(), &PORT_TAKEN))
}

fn last_lines(log: &[String]) -> impl Iterator<Item = &str> {
    log.iter().rev().take(LINES).map(|line| message(line))
}

fn has_one_of(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| line.contains(word))
}

/// Returns what to add to the reason: about the line that names the cause, or else about others, which are named.
pub fn from_log(log: &[String], neighbours: Neighbours<'_>, paths: Paths<'_>) -> Vec<String> {
    let mut messages: Vec<&str> = last_lines(log).filter(|line| !is_harmless(line)).collect();
    messages.reverse();
    let hints_of = |lines: &[&str]| about(&lines.iter().rev().copied().collect::<Vec<_>>(), neighbours, paths);
    let all = hints_of(&messages);
    let Some(at) = decisive::position(&messages) else { return all };
    let code = messages[..at].iter().rev().take_while(|line| decisive::is_indented(line)).count();
    let near = hints_of(&messages[at - code..]);
    if !near.is_empty() {
        return near;
    }
    let of_line = |hint: &String| messages.iter().rev().find(|line| hints_of(&[**line]).contains(hint));
    let named = |hint: String| match of_line(&hint) {
        Some(line) => format!("its log also says {:?}: {hint}", decisive::shown(line.trim())),
        None => hint,
    };
    all.into_iter().map(named).collect()
}

fn is_harmless(line: &str) -> bool {
    has_one_of(&line.to_lowercase(), &BENIGN) || has_one_of(line, &REQUESTS)
}

/// Returns what to add because of these lines, the latest first.
fn about(messages: &[&str], neighbours: Neighbours<'_>, paths: Paths<'_>) -> Vec<String> {
    let lower: Vec<String> = messages.iter().map(|message| message.to_lowercase()).collect();
    let says = |first: &[&str], second: &[&str]| {
        lower.iter().any(|line| has_one_of(line, first) && (second.is_empty() || has_one_of(line, second)))
    };
    // The launcher's own message: what it could not start, and why.
    let launch = messages.iter().find(|message| message.starts_with("could not run \"")).map(|said| (*said).to_owned());
    let homes = says(&HOMES, &OUT_OF_REACH) && !launch.as_ref().is_some_and(|said| said.contains(HIDDEN_HOMES));
    let homes = homes.then(|| HIDDEN_HOMES.to_owned());
    let own_home = || messages.iter().find_map(|line| in_own_home(line, paths));
    let homes = homes.or_else(own_home);
    let of_others = || says(&STREAMS_OF_OTHERS, &NO_DEVICE) || says(&STREAMS_OF_OTHERS, &OUT_OF_REACH);
    let linked = || messages.iter().any(|line| is_about_a_stream(line));
    let streams = (says(&STREAMS, &NO_DEVICE) || of_others() || linked()).then(|| STREAM.to_owned());
    let held: Vec<(Holder, String)> = match neighbours.listeners {
        Some(listeners) => lower.iter().rev().filter_map(|line| holder(line, listeners, neighbours)).collect(),
        None => Vec::new(),
    };
    let stale = socket_that(messages, is_in_use).map(|socket| {
        format!(
            "the Unix socket {} is there already, of an earlier run or of the old release: let it remove the file \
             before it binds, or have $PORT in its name",
            socket.file
        )
    });
    let said_of = |who: Holder| held.iter().find(|(holder, _)| *holder == who).map(|(_, said)| said.clone());
    let other = said_of(Holder::Other).or_else(|| said_of(Holder::Unknown));
    let of_old = held.iter().any(|(holder, _)| *holder == Holder::OldRelease);
    // A socket's file stays when its holder ends.
    let unknown =
        stale.is_none() && says(&PORT_TAKEN, &[]) && held.iter().all(|(holder, _)| *holder == Holder::Unknown);
    let is_locked = lower.iter().any(|line| has_one_of(line, &TAKEN) && !has_one_of(line, &PORT_TAKEN));
    let twice = neighbours.failed.first().filter(|_| is_locked || of_old || unknown).map(|process| {
        format!(
            "the old release runs beside it; if {process} cannot run twice, set processes.{process}.strategy: recreate, \
             or deploy.strategy: recreate for all"
        )
    });
    let foreign = messages.iter().find_map(|line| foreign_module(line)).map(str::to_owned);
    let missing = messages.iter().rev().find_map(|line| missing_program(line));
    let missing = missing.filter(|_| launch.is_none() && homes.is_none());
    let pattern = says(&["*"], &OUT_OF_REACH).then(|| PATTERN.to_owned());
    let pattern = pattern.filter(|_| messages.iter().any(|line| is_about_a_pattern(line)));
    // Some programs print the error's name in a line of its own, after the one that names the file.
    let mut refused: Vec<(bool, String)> = messages.iter().filter_map(|line| refused(line, paths)).collect();
    let socket = socket_that(messages, is_refused).filter(|socket| socket.is_whole);
    let socket = socket.map(|socket| socket.file).filter(|file| is_elsewhere(file, paths));
    refused.extend(socket.map(|file| (true, no_place(Some(file), "write", "it wrote", paths))));
    refused.sort_by_key(|(names_file, _)| !names_file);
    let refused = refused.into_iter().next().map(|(_, hint)| hint);
    let is_denied = |line: &str| has_one_of(&line.to_lowercase(), &DENIED);
    let is_request = |lower: &str| has_one_of(lower, &["get /", "post /", "http/"]);
    let is_bound = |line: &str| {
        let lower = line.to_lowercase();
        has_one_of(&lower, &["bind", "listen"]) && !is_request(&lower) && socket_in(line).is_none()
    };
    let in_code = |line: &str| line.contains("bind(") && socket_in(line).is_none() && !says(&UNIX_SOCKET, &[]);
    let low_port = messages.iter().any(|line| is_denied(line) && is_bound(line))
        || says(&DENIED, &[]) && messages.iter().any(|line| in_code(line));
    let low_port = low_port.then(|| LOW_PORT.to_owned());
    let refused = refused.filter(|_| low_port.is_none());
    let returns = messages.iter().any(|line| ends_in_return(line)).then(|| RETURN.to_owned());
    let missing = missing.filter(|_| returns.is_none());
    let of_root = says(&OF_ROOT, &NOT_PERMITTED).then(|| OF_ROOT_ALONE.to_owned());
    let first = launch.into_iter().chain(homes).chain(streams).chain(returns).chain(low_port).chain(refused);
    let first = first.chain(of_root);
    first.chain(foreign).chain(missing).chain(pattern).chain(stale.or(other)).chain(twice).collect()
}

/// For a line about a file in the app's own home that it did not put there, returns what to say.
fn in_own_home(line: &str, paths: Paths<'_>) -> Option<String> {
    /// What apps create themselves.
    const OF_APPS: [&str; 3] = [".cache", ".local", ".tmp"];
    /// What people keep in their homes.
    const OF_PEOPLE: [&str; 5] = [".netrc", ".pgpass", ".my.cnf", ".npmrc", ".pypirc"];
    let data = paths.data.to_str()?;
    let path = line
        .split(['\'', '"', ' ', ':', '(', ')', ',', '\u{2018}', '\u{2019}'])
        .find_map(|word| word.strip_prefix(data)?.strip_prefix('/'))?;
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let is_of_people = first.starts_with('.') && !rest.is_empty() && !OF_APPS.contains(&first)
        || OF_PEOPLE.contains(&path)
        || path.starts_with(".local/bin/")
        || !first.starts_with('.') && path.contains("bin/");
    (is_of_people && has_one_of(&line.to_lowercase(), &OUT_OF_REACH)).then(|| {
        format!(
            "its HOME is {data}, and not the home where ~/{path} was put: install it for all users, or ship it in the \
             artifact; credentials belong under env, as secrets"
        )
    })
}

/// Whether a line says that a file is a socket, which it could not open: a link to an output of the app.
fn is_about_a_stream(line: &str) -> bool {
    let lower = line.to_lowercase();
    let is_socket = |file: &str| file.ends_with(".sock") || file.ends_with(".socket");
    let is_path = |file: &str| file.contains('/') && !file.starts_with("/dev/") && !is_socket(file);
    lower.contains("no such device or address") && !has_one_of(&lower, &NO_FILE) && file_in(line).is_some_and(is_path)
        || has_one_of(&lower, &NO_DEVICE) && file_in(line).is_some_and(is_of_process)
}

/// Whether a path is /proc/PID/fd/N.
fn is_of_process(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    matches!(parts.as_slice(), ["", "proc", pid, "fd", ..] if pid.bytes().all(|b| b.is_ascii_digit()))
}

const LOW_PORT: &str =
    "ports below 1024 are not for apps: let it listen on $HOST:$PORT; Caddy has 80 and 443, and passes requests on";

const STREAM: &str = "an app's output is a socket to the journal, which cannot be opened as /dev/stdout: let it write to its \
     standard output, as most programs do without a log file, or to a file in $DATA_DIR";

const OF_ROOT_ALONE: &str = "an app runs as its own user, and may neither give files to another nor become another: leave \
     that step out; $DATA_DIR is its own already";

/// Strips the timestamp at the beginning of a line.
fn message(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, message)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(line: &str) -> String {
        let log = ["2026-01-01T00:00:00.000Z starting".to_owned(), format!("2026-01-01T00:00:01.000Z {line}")];
        from_log(&log, Neighbours { failed: &[ProcessName::parse("bot").unwrap()], ..Neighbours::default() }, paths())
            .join(" | ")
    }

    fn paths() -> Paths<'static> {
        Paths {
            release: Path::new("/zexio/apps/shop/releases/3"),
            data: Path::new("/zexio/apps/shop/data"),
            unconfined: None,
        }
    }

    #[test]
    fn a_write_that_is_refused_names_the_file_and_where_to_write_instead() {
        let inside = "the directory of a release is read-only";
        let outside = "of the server an app may write nothing but $DATA_DIR and /tmp";
        for (line, file, why) in [
            ("OSError: [Errno 30] Read-only file system: 'tmp/pids'", "tmp/pids", inside),
            ("OSError: [Errno 30] Read-only file system: 'db.sqlite3'", "db.sqlite3", inside),
            (
                "Error: EROFS: read-only file system, mkdir '/zexio/apps/shop/releases/3/uploads'",
                "/zexio/apps/shop/releases/3/uploads",
                inside,
            ),
            ("Error: EACCES: permission denied, open '/var/lib/shop/x'", "/var/lib/shop/x", outside),
            (
                "/usr/lib/ruby/3.1.0/fileutils.rb:243:in `mkdir': Read-only file system @ dir_s_mkdir - tmp/pids (Errno::EROFS)",
                "tmp/pids",
                inside,
            ),
            (
                "fileutils.rb:243:in 'Dir.mkdir': Read-only file system @ dir_s_mkdir - /srv/media (Errno::EROFS)",
                "/srv/media",
                outside,
            ),
            ("2026/01/01 10:00:00 open /srv/media/x: read-only file system", "/srv/media/x", outside),
            (
                "The stream or file \"/zexio/apps/shop/releases/3/storage/logs/laravel.log\" could not be opened in append mode: Failed to open stream: Read-only file system",
                "/zexio/apps/shop/releases/3/storage/logs/laravel.log",
                inside,
            ),
            (
                "PHP Warning:  file_put_contents(storage/x.php): Failed to open stream: Read-only file system in /zexio/apps/shop/releases/3/index.php on line 3",
                "storage/x.php",
                inside,
            ),
            ("mkdir: cannot create directory \u{2018}tmp\u{2019}: Read-only file system", "tmp", inside),
            ("sh: 1: cannot create log/x: Read-only file system", "log/x", inside),
            (
                "nginx: [emerg] open() \"/var/log/nginx/x.log\" failed (30: Read-only file system)",
                "/var/log/nginx/x.log",
                outside,
            ),
            ("java.io.FileNotFoundException: /srv/media/x (Permission denied)", "/srv/media/x", outside),
            ("System.UnauthorizedAccessException: Access to the path '/srv/media' is denied.", "/srv/media", outside),
        ] {
            let said = hints(line);
            let denied = ["denied", "EACCES", "Access to"].iter().any(|word| line.contains(word));
            let verb = if denied && why == outside { "open" } else { "write" };
            assert!(said.starts_with(&format!("no app may {verb} {file}: {why}")), "{line}: {said:?}");
            assert!(said.contains("let it write to $DATA_DIR (/zexio/apps/shop/data)"), "{said}");
        }
        for (line, file) in [
            ("PermissionError: [Errno 13] Permission denied: '/srv/media/a.png'", "/srv/media/a.png"),
            ("PermissionError: [Errno 13] Permission denied: '/etc/ssl/private/k.key'", "/etc/ssl/private/k.key"),
        ] {
            assert!(hints(line).starts_with(&format!("no app may open {file}: {outside}")), "{line}: {}", hints(line));
        }
        for (lines, file) in [
            (["Error: EROFS: read-only file system, open 'app.log'", "  code: 'EROFS',"], "app.log"),
            (["./start.sh: 3: cannot create server.pid: Read-only file system", "done"], "server.pid"),
            (["java.io.FileNotFoundException: logs.txt (Read-only file system)", "  at App.main"], "logs.txt"),
        ] {
            let log = lines.map(|line| format!("2026-01-01T00:00:00.000Z {line}"));
            let said = from_log(&log, Neighbours::default(), paths()).join(" | ");
            assert!(said.starts_with(&format!("no app may write {file}: {inside}")), "{lines:?}: {said}");
        }
        for lines in [
            ["Error: listen EACCES: permission denied 0.0.0.0:443", "  code: 'EACCES',"],
            ["    self.socket.bind(self.server_address)", "PermissionError: [Errno 13] Permission denied"],
            ["listen tcp 0.0.0.0:80: bind: permission denied", "exit status 1"],
            ["    s.bind(('', 80))", "PermissionError: [Errno 13] Permission denied"],
            ["listening on unix:/tmp/admin.sock", "listen tcp :443: bind: permission denied"],
            ["nginx: [emerg] bind() to 0.0.0.0:80 failed (13: Permission denied)", "x"],
        ] {
            let log = lines.map(|line| format!("2026-01-01T00:00:00.000Z {line}"));
            assert_eq!(from_log(&log, Neighbours::default(), paths()), [LOW_PORT], "{lines:?}");
        }
        for (lines, file, why) in [
            (
                ["    s.bind('/run/app.sock')", "PermissionError: [Errno 13] Permission denied"],
                "/run/app.sock",
                outside,
            ),
            (
                ["    s.bind('run/app.sock')", "FileNotFoundError: [Errno 2] No such file or directory"],
                "run/app.sock",
                inside,
            ),
            (["    s.bind(\"app.sock\")", "OSError: [Errno 30] Read-only file system"], "app.sock", inside),
            (["x", "listen unix /run/app.sock: bind: permission denied"], "/run/app.sock", outside),
            (["Error: listen EACCES: permission denied /var/run/shop", "  code: 'EACCES',"], "/var/run/shop", outside),
            (
                ["x", "nginx: [emerg] bind() to unix:/run/shop.sock failed (13: Permission denied)"],
                "/run/shop.sock",
                outside,
            ),
        ] {
            let log = lines.map(|line| format!("2026-01-01T00:00:00.000Z {line}"));
            let said = from_log(&log, Neighbours::default(), paths());
            assert!(
                said.len() == 1 && said[0].starts_with(&format!("no app may write {file}: {why}")),
                "{lines:?}: {said:?}"
            );
        }
        for lines in [
            [
                "    with socket.socket(socket.AF_UNIX) as s: s.bind(path)",
                "PermissionError: [Errno 13] Permission denied",
            ],
            ["listening on unix:/tmp/app.sock", "PermissionError: [Errno 13] Permission denied"],
            ["    s.bind('/zexio/apps/shop/data/a.sock')", "PermissionError: [Errno 13] Permission denied"],
            ["    s.bind('/tmp/a.sock')", "FileNotFoundError: [Errno 2] No such file or directory"],
            ["403 permission denied: GET /listen", "bye"],
        ] {
            let log = lines.map(|line| format!("2026-01-01T00:00:00.000Z {line}"));
            assert_eq!(from_log(&log, Neighbours::default(), paths()), Vec::<String>::new(), "{lines:?}");
        }
        let line = "Os { code: 30, kind: ReadOnlyFilesystem, message: \"Read-only file system\" }";
        assert!(hints(line).starts_with("it wrote where no app may write: "), "{line}: {}", hints(line));
        for line in [
            "could not run \"./x\" in /r: Permission denied (os error 13); is it executable in the artifact?",
            "sh: 1: ./bin/x: Permission denied",
            "listen tcp 0.0.0.0:80: bind: permission denied",
            "dial unix /var/run/docker.sock: connect: permission denied",
            "GET /admin 403 permission denied for user bob",
        ] {
            assert!(!hints(line).contains("no app may"), "{line}: {}", hints(line));
        }
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
            assert_eq!(from_log(&log, Neighbours::default(), paths()), Vec::<String>::new(), "nothing runs beside it");
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
            "PermissionError: [Errno 13] Permission denied: '/proc/1/fd/1'",
            "sh: 1: cannot create /proc/1/fd/2: Permission denied",
            "open /proc/1/fd/1: no such file or directory",
            "[Errno 6] No such device or address: '/dev/fd/2'",
            "Error: ENXIO: no such device or address, open '/proc/self/fd/2'",
            "OSError: [Errno 6] No such device or address: '/dev/tty'",
            "open(\"/dev/console\") failed (13: Permission denied)",
            "sh: 1: cannot create /zexio/apps/shop/data/access.log: No such device or address",
            "OSError: [Errno 6] No such device or address: '/zexio/apps/shop/data/access.log'",
            "OSError: [Errno 6] No such device or address: '/proc/4711/fd/2'",
            "nginx: [emerg] open() \"/var/log/nginx/access.log\" failed (6: No such device or address)",
        ] {
            assert_eq!(hints(line), STREAM, "{line}");
        }
        for line in [
            "could not connect to /tmp/x.sock: No such device or address",
            "OSError: [Errno 6] No such device or address: '/zexio/apps/shop/data/x.sock'",
            "lookup db/x: No such device or address",
            "open /dev/video0: no such device or address",
        ] {
            assert_eq!(hints(line), "", "{line}");
        }
    }

    #[test]
    fn who_has_a_port_decides_whether_recreate_helps() {
        let held = |port, program: &str, unit: Option<&str>| PortHolder {
            port,
            program: program.to_owned(),
            unit: unit.map(str::to_owned),
        };
        let foreign = [held(9301, "process 812 (node)", Some("metrics.service")), held(22, "process 1 (sshd)", None)];
        let old = [held(9301, "process 70 (python3)", Some("zexio-shop-web-r1.service"))];
        let hints = |line: &str, listeners: &[PortHolder]| {
            let (failed, old) = ([ProcessName::parse("web").unwrap()], ["zexio-shop-web-r1.service".to_owned()]);
            let neighbours = Neighbours { failed: &failed, old: &old, listeners: Some(listeners) };
            let log = [format!("2026-01-01T00:00:01.000Z {line}")];
            assert!(mentions_ports(&log), "{line}");
            from_log(&log, neighbours, paths()).join(" | ")
        };
        for line in [
            "Error: listen EADDRINUSE: address already in use 127.0.0.1:9301",
            "Error: listen EADDRINUSE: address already in use :::9301",
            "2026/01/01 10:00:01 listen tcp :9301: bind: address already in use",
            "10:00:01 Address already in use - bind(2) for \"127.0.0.1\" port 9301 (Errno::EADDRINUSE)",
            "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 9301): address already in use",
            "Web server failed to start. Port 9301 was already in use.",
            "[ERROR] Connection in use: ('127.0.0.1', 9301)",
            "Something is already running on port 9301.",
            "Failed to start server. Is port 9301 in use?",
            "Failed to bind to address http://127.0.0.1:9301: address already in use.",
            "nginx: [emerg] bind() to 0.0.0.0:9301 failed (98: Address already in use)",
        ] {
            let said = hints(line, &foreign);
            assert!(
                said.starts_with("port 9301 is taken by process 812 (node) of metrics.service: "),
                "{line}: {said}"
            );
            assert!(!said.contains("recreate"), "{said}");
            let said = hints(line, &old);
            assert!(said.contains("set processes.web.strategy: recreate") && !said.contains("is taken by"), "{said}");
            assert!(hints(line, &[]).contains("strategy: recreate"), "it may be gone by now, or not TCP: {line}");
        }
        let without = "OSError: [Errno 98] Address already in use";
        let said = hints(without, &foreign);
        assert!(said.starts_with("another program has the port or the socket that it wants"), "{said}");
        assert!(said.contains("strategy: recreate"), "it may be a UDP port of the old release: {said}");
        let said = hints("listen unix /zexio/apps/shop/data/g.sock: bind: address already in use", &foreign);
        assert!(said.starts_with("the Unix socket /zexio/apps/shop/data/g.sock is there already"), "{said}");
        assert!(!said.contains("another program"), "{said}");
        assert!(hints(without, &old).contains("strategy: recreate"));
    }

    #[test]
    fn what_could_not_be_created_has_its_place_in_the_data_directory() {
        for (line, file) in [
            ("sqlite3.OperationalError: unable to open database file", ""),
            ("attempt to write a readonly database", ""),
            ("django.db.utils.OperationalError: unable to open database file", ""),
            ("SQLite Error 14: 'unable to open database file'.", ""),
            ("SQLSTATE[HY000] [14] unable to open database file", ""),
            ("TypeError: Cannot open database because the directory does not exist", ""),
            ("Error: ENOENT: no such file or directory, mkdir 'tmp/cache'", "tmp/cache"),
            (
                "FileNotFoundError: [Errno 2] No such file or directory: '/zexio/apps/shop/releases/3/logs/app.log'",
                "/zexio/apps/shop/releases/3/logs/app.log",
            ),
            ("Errno::ENOENT: No such file or directory @ rb_sysopen - tmp/pids/server.pid", "tmp/pids/server.pid"),
            ("open logs/app.log: no such file or directory", "logs/app.log"),
            ("mkdir data: read-only file system", "data"),
            ("java.io.FileNotFoundException: logs/app.log (No such file or directory)", "logs/app.log"),
            (
                "java.nio.file.FileSystemException: /zexio/apps/shop/releases/3/x: Read-only file system",
                "/zexio/apps/shop/releases/3/x",
            ),
            ("java.nio.file.AccessDeniedException: /srv/x", "/srv/x"),
            ("Exception in thread \"main\" java.io.IOException: Read-only file system", ""),
            (
                "Exception in thread \"main\" java.io.FileNotFoundException: logs.txt (Read-only file system)",
                "logs.txt",
            ),
            ("Unable to create spool directory: spool", ""),
            ("java.io.IOException: Mkdirs failed to create /srv/spool", "/srv/spool"),
            ("Could not create the upload folder '/srv/up'", "/srv/up"),
            (
                "The /zexio/apps/shop/releases/3/bootstrap/cache directory must be present and writable.",
                "/zexio/apps/shop/releases/3/bootstrap/cache",
            ),
            ("InvalidArgumentException: Please provide a valid cache path.", ""),
            (
                "Unable to create the \"cache\" directory (/zexio/apps/shop/releases/3/var/cache/prod).",
                "/zexio/apps/shop/releases/3/var/cache/prod",
            ),
            (
                "Rails Error: Unable to access log file. Please ensure that /zexio/apps/shop/releases/3/log/production.log exists and is writable",
                "/zexio/apps/shop/releases/3/log/production.log",
            ),
            (
                "System.IO.IOException: Read-only file system : '/zexio/apps/shop/releases/3/keys'",
                "/zexio/apps/shop/releases/3/keys",
            ),
            (
                "Failed to create parent directories for [/zexio/apps/shop/releases/3/logs/x.out]",
                "/zexio/apps/shop/releases/3/logs/x.out",
            ),
        ] {
            let said = hints(line);
            let begin = match file {
                "" if line.contains("database") => "its database is where no app may write: ".to_owned(),
                "" => "it wrote where no app may write: ".to_owned(),
                file => format!("no app may write {file}: "),
            };
            assert!(said.starts_with(&begin), "{line}: {said:?}");
            assert!(said.contains("let it write to $DATA_DIR (/zexio/apps/shop/data)"), "{said}");
        }
        for line in [
            "# could not create '__pycache__/x.cpython-311.pyc': OSError: [Errno 30] Read-only file system",
            "`/zexio` is not writable. Bundler will use `/tmp/bundler20260101' as your home directory temporarily.",
            "Matplotlib created a temporary cache directory at /tmp/matplotlib: is not writable",
            "FileNotFoundError: [Errno 2] No such file or directory: 'config.yaml'",
            "mkdir: cannot create directory 'data': File exists",
            "Failed to create directory /srv/x: No space left on device",
            "Unable to create directory bucket",
            "Unable to create user; see the directory of users",
            "Could not create directory '/zexio/apps/shop/data/x'",
            "Error: ENOENT: no such file or directory, open '/zexio/apps/shop/data/x.log'",
            "open /tmp/x.log: no such file or directory",
        ] {
            assert!(!hints(line).contains("no app may write"), "{line}: {}", hints(line));
        }
    }

    #[test]
    fn what_this_server_lacks_is_named() {
        for (line, said) in [
            ("sh: 1: pythonx: not found", "pythonx is not installed on this server"),
            ("./start.sh: line 3: node: command not found", "node is not installed on this server"),
            ("/usr/bin/env: \u{2018}ruby\u{2019}: No such file or directory", "ruby is not installed on this server"),
            ("env: 'python3.12': Permission denied", "python3.12 is where an app may not run it"),
            ("./app: 1: import: not found", "a file that is no shell script"),
            ("./app: line 3: from: command not found", "a file that is no shell script"),
            ("./run: 1: Syntax error: word unexpected", "a shell reads ./run and finds in it what is no shell script"),
            ("./run: line 1: syntax error near unexpected token `('", "a shell reads ./run and finds in it"),
            ("./start.sh: 3: exec: cargo: Permission denied", "cargo is where an app may not run it"),
            ("./run: line 2: cargo: Permission denied", "cargo is where an app may not run it"),
            ("sh: 1: python3.12: Permission denied", "python3.12 is where an app may not run it"),
            ("env: 'php': No such file or directory", "php is not installed on this server"),
            (
                "/usr/bin/env: \u{2018}bash -e\u{2019}: No such file or directory",
                "for one name: write #!/usr/bin/env -S bash -e",
            ),
            ("/usr/bin/env: 'bash\\r': No such file or directory", "Windows line ends"),
            ("./x.sh: line 2: $'\\r': command not found", "Windows line ends"),
            ("sh: 3: exec: python3\r: not found", "Windows line ends"),
            (
                "python3: can't open file '/zexio/apps/shop/releases/3/app.py\\r': [Errno 2] No such file or directory",
                "Windows line ends",
            ),
            ("chown: changing ownership of 'config.example': Operation not permitted", "runs as its own user"),
            ("error: failed switching to \"app\": operation not permitted", "runs as its own user"),
            ("Error: EPERM: operation not permitted, chown '/x'", "runs as its own user"),
            (
                "./app: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by ./app)",
                "a newer system",
            ),
            (
                "./app: error while loading shared libraries: libssl.so.1.1: cannot open shared object file: No such file or directory",
                "a library is missing",
            ),
            (
                "Error: /x/node_modules/bcrypt/bcrypt.node: invalid ELF header",
                "native parts that were built on another system",
            ),
            ("Could not load the \"sharp\" module using the linux-x64 runtime", "native parts"),
            ("Error: Cannot find module '/zexio/apps/shop/releases/3/*.js'", "nothing replaces a * in a command"),
            ("python3: can't open file 'src/*.py': [Errno 2] No such file or directory", "nothing replaces a *"),
        ] {
            assert!(hints(line).contains(said), "{line}: {:?}", hints(line));
        }
        for line in [
            "GET /x: not found",
            "route /a*: 404 not found",
            "user bob: not found in db",
            "table x: found",
            "./wasm: 1: asm\u{1}: not found",
            "./x.gz: 1: \u{1f}\u{fffd}\u{8}: not found",
            "read b'GET / HTTP/1.1\\r\\n'",
            "ping: Operation not permitted",
            "sh: 1: Syntax error: Unterminated quoted string",
            "ERROR: syntax error at or near \"x\"",
            "PHP Parse error: syntax error, unexpected token",
        ] {
            assert_eq!(hints(line), "", "{line}");
        }
    }

    #[test]
    fn what_could_not_be_started_is_said_once_and_with_its_cause() {
        let line = format!("could not run \"/root/.nvm/node\" in /r: Permission denied (os error 13); {HIDDEN_HOMES}");
        assert_eq!(hints(&line), line);
    }

    #[test]
    fn what_is_not_about_the_cause_is_named_or_left_out() {
        let said = |lines: &[&str]| {
            let log: Vec<String> = lines.iter().map(|line| format!("2026-01-01T00:00:00.000Z {line}")).collect();
            from_log(&log, Neighbours::default(), paths()).join(" | ")
        };
        for harmless in [
            "GET /home/user/x 404 not found",
            "Not Found: /home/",
            "/root/.config not found, using defaults",
            "Read-only file system detected for cache; disabled",
            "mkdir /var/cache/app: permission denied (ignored)",
            "npm warn exec format error in optional dep",
        ] {
            assert_eq!(said(&[harmless, "KeyError: DATABASE_URL"]), "", "{harmless}");
        }
        let other = "Permission denied for user alice on /admin";
        let hint = said(&[other, "KeyError: DATABASE_URL"]);
        assert!(hint.starts_with(&format!("its log also says {other:?}: no app may open /admin")), "{hint}");
        let mut trace = vec!["java.net.BindException: Permission denied: bind(80)"];
        trace.extend(["\tat java.base/sun.nio.ch.Net.bind(Net.java:1)"; 60]);
        assert_eq!(said(&trace), LOW_PORT);
    }

    #[test]
    fn what_is_in_a_home_is_not_in_the_home_of_the_app() {
        for line in [
            "./start.sh: 2: .: cannot open /zexio/apps/shop/data/.nvm/nvm.sh: No such file",
            "./start.sh: 2: exec: /zexio/apps/shop/data/.rbenv/shims/ruby: not found",
            "bash: line 1: /zexio/apps/shop/data/.sdkman/bin/sdkman-init.sh: No such file or directory",
            "FileNotFoundError: [Errno 2] No such file or directory: '/zexio/apps/shop/data/.aws/credentials'",
            "sh: 1: /zexio/apps/shop/data/go/bin/app: not found",
        ] {
            let said = hints(line);
            assert!(said.starts_with("its HOME is /zexio/apps/shop/data, and not the home where ~/"), "{line}: {said}");
            assert!(!said.contains(" | "), "{said}");
        }
        for line in [
            "Error: ENOENT: no such file or directory, open '/zexio/apps/shop/data/.env'",
            "open /zexio/apps/shop/data/.cache/x/y: no such file or directory",
            "open /zexio/apps/shop/data/uploads/a.png: no such file or directory",
        ] {
            assert!(!hints(line).contains("HOME"), "{line}: {}", hints(line));
        }
    }

    #[test]
    fn a_part_of_a_path_in_code_is_not_named_as_the_whole() {
        let said = |lines: &[&str]| {
            let log: Vec<String> = lines.iter().map(|line| format!("2026-01-01T00:00:00.000Z {line}")).collect();
            from_log(&log, Neighbours::default(), paths()).join(" | ")
        };
        let in_use = "OSError: [Errno 98] Address already in use";
        for code in [
            "    u.bind(os.environ[\"DATA_DIR\"]+\"/ctl.sock\")",
            "    u.bind(f\"{data}/ctl.sock\")",
            "    u.bind(os.path.join(data, 'ctl.sock'))",
            "    u.bind(str(data / 'ctl.sock'))",
        ] {
            let hint = said(&[code, in_use]);
            assert!(hint.starts_with("the Unix socket ctl.sock is there already"), "{code}: {hint}");
            assert_eq!(said(&[code, "PermissionError: [Errno 13] Permission denied"]), "", "{code}");
        }
        let whole = said(&["    u.bind(\"/tmp/ctl.sock\")", in_use]);
        assert!(whole.starts_with("the Unix socket /tmp/ctl.sock is there"), "{whole}");
    }

    #[test]
    fn other_words_add_nothing() {
        for line in ["block chain", "clock skew", "/home page was served", "wrote to /dev/stdout", "404 not found"] {
            assert_eq!(hints(line), "", "{line}");
        }
    }
}
