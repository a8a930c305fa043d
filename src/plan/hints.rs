//! Explains the last log lines of a failed release where its author could not know how this server is set up: what to
//! change is added to the reason.

use std::path::Path;

use crate::model::layout::HIDDEN_HOMES;
use crate::model::names::ProcessName;
use crate::model::observed::PortHolder;

/// How many of the last lines are read.
const LINES: usize = 40;

/// What programs print about a port that is in use.
const PORT_TAKEN: [&str; 6] = [
    "address already in use",
    "address in use",
    "eaddrinuse",
    "port is already",
    "already in use",
    "only one usage of each socket",
];

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

/// What programs print where they may not write.
const NOT_WRITABLE: [&str; 6] =
    ["read-only file system", "readonly file system", "erofs", "errno 30", "os error 30", "readonly database"];
/// What programs print where they could not create a file, although the cause is not named.
const NOT_CREATED: [&str; 20] = [
    "unable to open database file",
    "unable to open the database file",
    "cannot open database because the directory",
    // Node's mkdir with `recursive`, on a file system that is read-only.
    "no such file or directory, mkdir",
    "is not writable",
    "is not writeable",
    "isn't writable",
    "not be writable",
    "must be present and writable",
    "provide a valid cache path",
    "unable to access log file",
    "grant write permissions",
    "unable to create the",
    "unable to create directory",
    "unable to create tempdir",
    "failed to create directory",
    "failed to create parent director",
    "could not create directory",
    "unable to write in the",
    "accessdeniedexception",
];
/// Files that programs write: if one is missing, so is its directory.
const WRITTEN: [&str; 6] = [".log", ".pid", ".sock", ".lock", ".sqlite", ".sqlite3"];
/// What programs print about a cache that they can do without.
const HARMLESS: [&str; 4] = ["__pycache__", "temporary cache dir", "bundler will use", "not writing bytecode"];
/// What they also print about a file that they may not execute or a port that they may not bind.
const DENIED: [&str; 3] = ["permission denied", "eacces", "access to the path"];
/// What a line with a denied access contains if it is not about writing.
const NOT_WRITING: [&str; 12] = [
    "could not run \"",
    "exec",
    "bind",
    "listen",
    "connect",
    "socket",
    "sh: ",
    "interpreter",
    "module",
    "get /",
    "post /",
    "http/",
];

/// The directories of a release that an app may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The release's files.
    pub release: &'a Path,
    pub data: &'a Path,
    /// The user that it runs as, if no sandbox isolates it from the rest of the server.
    pub unconfined: Option<&'a str>,
}

/// What ran beside a release when it failed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// The processes that failed while the old release ran beside them.
    pub failed: &'a [ProcessName],
    /// The names of the old release's units.
    pub old: &'a [String],
    /// Who listens on which port, without the ports that the old release got as $PORT; none if that was not observed.
    pub listeners: Option<&'a [PortHolder]>,
}

/// Whether the log speaks of a port that is in use, so that it matters who listens.
pub fn speaks_of_ports(log: &[String]) -> bool {
    last_lines(log).any(|line| has_one_of(&line.to_lowercase(), &PORT_TAKEN))
}

fn last_lines(log: &[String]) -> impl Iterator<Item = &str> {
    log.iter().rev().take(LINES).map(|line| message(line))
}

fn has_one_of(line: &str, words: &[&str]) -> bool {
    words.iter().any(|word| line.contains(word))
}

/// Returns what to add to the reason.
pub fn of(log: &[String], beside: Beside<'_>, places: Places<'_>) -> Vec<String> {
    let messages: Vec<&str> = last_lines(log).collect();
    let lower: Vec<String> = messages.iter().map(|message| message.to_lowercase()).collect();
    let says = |first: &[&str], second: &[&str]| {
        lower.iter().any(|line| has_one_of(line, first) && (second.is_empty() || has_one_of(line, second)))
    };
    // The launcher's own message: what it could not start, and why.
    let launch = messages.iter().find(|message| message.starts_with("could not run \"")).map(|said| (*said).to_owned());
    let homes = says(&HOMES, &OUT_OF_REACH) && !launch.as_ref().is_some_and(|said| said.contains(HIDDEN_HOMES));
    let homes = homes.then(|| HIDDEN_HOMES.to_owned());
    let of_others = || says(&STREAMS_OF_OTHERS, &NO_DEVICE) || says(&STREAMS_OF_OTHERS, &OUT_OF_REACH);
    let streams = (says(&STREAMS, &NO_DEVICE) || of_others()).then(|| STREAM.to_owned());
    let held: Vec<(Holder, String)> = match beside.listeners {
        Some(listeners) => lower.iter().rev().filter_map(|line| holder(line, listeners, beside)).collect(),
        None => Vec::new(),
    };
    let other = held.iter().find(|(holder, _)| *holder == Holder::Other).map(|(_, said)| said.clone());
    let of_old = held.iter().any(|(holder, _)| *holder == Holder::OldRelease);
    let unknown = says(&PORT_TAKEN, &[]) && held.is_empty();
    let twice = beside.failed.first().filter(|_| says(&TAKEN, &[]) || of_old || unknown).map(|process| {
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
    let mut refused: Vec<(bool, String)> = messages.iter().filter_map(|line| refused(line, places)).collect();
    refused.sort_by_key(|(names_file, _)| !names_file);
    let refused = refused.into_iter().next().map(|(_, hint)| hint);
    let low_port = says(&DENIED, &["bind", "listen"]) || says(&["bind("], &[]) && says(&DENIED, &[]);
    let low_port = low_port.then(|| LOW_PORT.to_owned());
    let refused = refused.filter(|_| low_port.is_none());
    let first = launch.into_iter().chain(homes).chain(streams).chain(low_port).chain(refused);
    first.chain(foreign).chain(missing).chain(pattern).chain(other).chain(twice).collect()
}

/// Who has a port that is in use.
#[derive(PartialEq)]
enum Holder {
    OldRelease,
    Other,
}

/// For a line about a port that is in use, returns who has it and what to say.
fn holder(line: &str, listeners: &[PortHolder], beside: Beside<'_>) -> Option<(Holder, String)> {
    if !has_one_of(line, &PORT_TAKEN) {
        return None;
    }
    let is_old = |held: &PortHolder| held.unit.as_ref().is_some_and(|unit| beside.old.contains(unit));
    let Some(port) = port_in(line) else {
        // The line does not say which. Beside the ports of $PORT, it can only be one that the old release has too.
        let second = listeners.iter().any(is_old);
        return Some(match second {
            true => (Holder::OldRelease, String::new()),
            false => (
                Holder::Other,
                "another program has the port that it wants, and not the old release: `ss -ltnp` shows who; let it \
                 listen on $HOST:$PORT, which is its own, or change one of the two"
                    .to_owned(),
            ),
        });
    };
    let mut held = listeners.iter().filter(|held| held.port == port).peekable();
    held.peek()?;
    if let Some(other) = held.find(|held| !is_old(held)) {
        let unit = other.unit.as_ref().map_or(String::new(), |unit| format!(" of {unit}"));
        let said = format!(
            "port {port} is taken by {}{unit}: let it listen on $HOST:$PORT, which is its own, or change or stop one of \
             the two",
            other.program
        );
        return Some((Holder::Other, said));
    }
    Some((Holder::OldRelease, String::new()))
}

/// Returns the port that a line is about.
fn port_in(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split([' ', '\t', '(', ')', ',', '[', ']', '"', '\'', '`', '=']).collect();
    let is_named = |at: usize| {
        let before = words[..at].iter().rev().find(|word| !word.is_empty());
        before.is_some_and(|word| ["port", "port:", "127.0.0.1", "0.0.0.0", "::", "localhost"].contains(word))
    };
    words.iter().enumerate().find_map(|(at, word)| {
        let word = word.trim_end_matches([':', '.', ';', '/']);
        // 10:00:01 is a time.
        let is_time = word.split(':').count() == 3 && word.bytes().all(|b| b.is_ascii_digit() || b == b':');
        let after_colon = word.rsplit_once(':').map(|(_, port)| port).filter(|_| !is_time);
        after_colon.or(is_named(at).then_some(word))?.parse().ok().filter(|port| *port > 9)
    })
}

/// Explains a module or program that was built for another system than this server.
fn foreign_module(line: &str) -> Option<&'static str> {
    const OTHER: &str = "it has native parts that were built on another system: install the packages on Linux with this \
        server's processor and C library, as in CI, and not on a Mac, on Windows or in Alpine";
    let lower = line.to_lowercase();
    if lower.contains("glibc_") || lower.contains("glibcxx_") {
        return Some(
            "it was built on a newer system than this server: build it on this server's distribution or an older one, \
             or link it statically",
        );
    }
    let has = |words: &[&str]| has_one_of(&lower, words);
    if has(&["error while loading shared libraries"]) {
        return Some("a library is missing on this server: install the package that has it, or link it statically");
    }
    let other = has(&[
        "invalid elf header",
        "wrong elf class",
        "exec format error",
        "cannot execute binary file",
        "for another platform",
        "was compiled against a different node.js version",
        "incompatible architecture",
        "err_dlopen_failed",
        "using the linux-",
    ]);
    other.then_some(OTHER)
}

/// Explains a program that a shell, `env` or a wrapper does not find.
fn missing_program(line: &str) -> Option<String> {
    let found = line.strip_suffix(": not found").or_else(|| line.strip_suffix(": command not found"));
    let of_shell = found.filter(|rest| rest.contains(": ")).and_then(|rest| rest.rsplit(": ").next());
    let of_env = line.strip_suffix(": No such file or directory").filter(|rest| rest.contains("env: "));
    let of_env = of_env.and_then(|rest| rest.rsplit("env: ").next());
    let name = of_shell.or(of_env)?.trim_matches(['\'', '\u{2018}', '\u{2019}', '"']);
    let is_name = !name.is_empty() && !name.contains([' ', '/', '(', ')', ':']);
    is_name.then(|| {
        format!(
            "{name} is not installed on this server: install it for all users, or ship it in the artifact and put its \
             directory into PATH under env"
        )
    })
}

/// Whether a line names a file with a `*`.
fn is_about_a_pattern(line: &str) -> bool {
    let words = line.split([' ', '\'', '"', ':']);
    words.filter(|word| word.contains('*')).any(|word| word.contains("*.") && !word.contains("**"))
}

/// For a line about a refused access to a file, returns where an app may write instead, and whether the file is named.
fn refused(line: &str, Places { release, data, unconfined }: Places<'_>) -> Option<(bool, String)> {
    let lower = line.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let file = file_in(line);
    let elsewhere = |file: &&str| {
        !Path::new(file).starts_with(data)
            && !HOMES.iter().chain(&STREAMS).chain(&STREAMS_OF_OTHERS).any(|known| file.starts_with(known))
    };
    let elsewhere = |file: &&str| elsewhere(file) && !file.starts_with("/tmp/");
    let denied = has(&DENIED) && !has(&NOT_WRITING) && file.is_some_and(|file| elsewhere(&file));
    let is_written = |file: &str| WRITTEN.iter().any(|end| file.ends_with(end)) && elsewhere(&file);
    let no_directory = has(&["no such file", "enoent", "errno 2]"]) && file.is_some_and(is_written);
    let not_created = has(&NOT_CREATED) && file.is_none_or(|file| elsewhere(&file)) || no_directory;
    if has(&HARMLESS) || !has(&NOT_WRITABLE) && !denied && !not_created {
        return None;
    }
    let file = file.filter(elsewhere);
    // Outside of the release a denied access may have been a read: the line does not say.
    let outside = file.is_some_and(|file| file.starts_with('/') && !Path::new(file).starts_with(release));
    let verb = if has(&NOT_WRITABLE) || not_created || !outside { "write" } else { "open" };
    let what = match file {
        Some(file) => format!("no app may {verb} {file}"),
        None if has(&["database"]) => "its database is where no app may write".to_owned(),
        None => "it wrote where no app may write".to_owned(),
    };
    let data = data.display();
    let why = match file {
        Some(_) if outside => match unconfined {
            Some(user) => format!("it runs as the user {user}"),
            None => {
                "of the server an app may write nothing but $DATA_DIR and /tmp, and not /srv or /var either; and it reads \
                 only what all users may read"
                    .to_owned()
            }
        },
        _ => "the directory of a release is read-only".to_owned(),
    };
    let hint = format!(
        "{what}: {why}; let it write to $DATA_DIR ({data}), which releases share: by an argument in run like \
         --pidfile $DATA_DIR/server.pid, or by a variable of its framework under env, with {data} written out"
    );
    Some((file.is_some(), hint))
}

/// Returns the file that a line is about: the last that is quoted, else the last path.
fn file_in(line: &str) -> Option<&str> {
    const QUOTES: [char; 4] = ['\'', '"', '\u{2018}', '\u{2019}'];
    // EROFS and its like are names of errors.
    let is_error = |text: &str| text.len() > 2 && text.starts_with('E') && text.bytes().all(|b| b.is_ascii_uppercase());
    let is_name =
        |text: &&str| (1..=200).contains(&text.len()) && !text.contains([' ', '(', ':', ',', '=']) && !is_error(text);
    // Shells: `cannot create FILE: …`; Java: `FILE (Read-only file system)`.
    let after = |words: &str| line.split_once(words).and_then(|(_, rest)| rest.split(": ").next()).filter(is_name);
    let created = after("cannot create ")
        .or_else(|| after("mkdir "))
        .or_else(|| after("open ").filter(|file| file.contains(['/', '.'])))
        .filter(|_| {
            // Node names the file after the error.
            !line.contains(", mkdir ") && !line.contains(", open ")
        });
    let lower = line.to_ascii_lowercase();
    let in_brackets =
        [" (read-only file system", " (permission denied", " (no such file"].iter().find_map(|words| lower.find(words));
    let before = in_brackets.and_then(|at| line[..at].rsplit(' ').next()).filter(is_name);
    if created.is_some() || before.is_some() {
        return created.or(before);
    }
    let quoted: Vec<&str> = line.split(QUOTES).skip(1).step_by(2).filter(is_name).collect();
    let is_path = |text: &&str| {
        let is_date = text.bytes().all(|b| b.is_ascii_digit() || b == b'/');
        text.contains('/') && !text.contains("//") && !is_date && is_name(text)
    };
    let words: Vec<&str> = line.split([' ', '(', ')', ',', '<', '>', '[', ']']).collect();
    // In `in FILE on line 3` and `FILE:3:in`, FILE is the program's own source.
    let mut bare = words.iter().enumerate().rev().filter_map(|(i, word)| {
        let where_it_stood = i > 0 && ["in", "at", "from"].contains(&words[i - 1]);
        Some(word.trim_end_matches([':', '.', ';'])).filter(|word| !where_it_stood && is_path(word))
    });
    let is_clear = |text: &&&str| text.contains('/');
    quoted.iter().rev().find(is_clear).copied().or_else(|| bare.next()).or_else(|| quoted.last().copied())
}

const PATTERN: &str =
    "nothing replaces a * in a command with names of files: name the file, or run a shell: [sh, -c, \"exec …\"]";

const LOW_PORT: &str =
    "ports below 1024 are not for apps: let it listen on $HOST:$PORT; Caddy has 80 and 443, and passes requests on";

const STREAM: &str = "an app's output is a socket to the journal, which cannot be opened as /dev/stdout: let it write to its \
     standard output, as most programs do without a log file, or to a file in $DATA_DIR";

/// Strips the timestamp at the beginning of a line.
fn message(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, message)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(line: &str) -> String {
        let log = ["2026-01-01T00:00:00.000Z starting".to_owned(), format!("2026-01-01T00:00:01.000Z {line}")];
        of(&log, Beside { failed: &[ProcessName::parse("bot").unwrap()], ..Beside::default() }, places()).join(" | ")
    }

    fn places() -> Places<'static> {
        Places {
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
            let said = of(&log, Beside::default(), places()).join(" | ");
            assert!(said.starts_with(&format!("no app may write {file}: {inside}")), "{lines:?}: {said}");
        }
        for lines in [
            ["Error: listen EACCES: permission denied 0.0.0.0:443", "  code: 'EACCES',"],
            ["    self.socket.bind(self.server_address)", "PermissionError: [Errno 13] Permission denied"],
            ["listen tcp 0.0.0.0:80: bind: permission denied", "exit status 1"],
            ["nginx: [emerg] bind() to 0.0.0.0:80 failed (13: Permission denied)", "x"],
        ] {
            let log = lines.map(|line| format!("2026-01-01T00:00:00.000Z {line}"));
            assert_eq!(of(&log, Beside::default(), places()), [LOW_PORT], "{lines:?}");
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
            assert_eq!(of(&log, Beside::default(), places()), Vec::<String>::new(), "nothing runs beside it");
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
        ] {
            assert_eq!(hints(line), STREAM, "{line}");
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
            let beside = Beside { failed: &failed, old: &old, listeners: Some(listeners) };
            let log = [format!("2026-01-01T00:00:01.000Z {line}")];
            assert!(speaks_of_ports(&log), "{line}");
            of(&log, beside, places()).join(" | ")
        };
        for line in [
            "Error: listen EADDRINUSE: address already in use 127.0.0.1:9301",
            "Error: listen EADDRINUSE: address already in use :::9301",
            "2026/01/01 10:00:01 listen tcp :9301: bind: address already in use",
            "10:00:01 Address already in use - bind(2) for \"127.0.0.1\" port 9301 (Errno::EADDRINUSE)",
            "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 9301): address already in use",
            "Web server failed to start. Port 9301 was already in use.",
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
        assert!(hints(without, &foreign).starts_with("another program has the port that it wants"));
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
            ("env: 'php': No such file or directory", "php is not installed on this server"),
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
        for line in ["GET /x: not found", "route /a*: 404 not found", "user bob: not found in db", "table x: found"] {
            assert_eq!(hints(line), "", "{line}");
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
