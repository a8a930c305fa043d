//! Explains the last log lines of a failed release where its author could not know how this server is set up: what to
//! change is added to the reason.

use std::path::Path;

use crate::model::names::ProcessName;

/// How many of the last lines are read.
const LINES: usize = 40;

/// What programs print about a port, a lock or an account that is in use.
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

/// Home directories.
const HOMES: [&str; 3] = ["/root/", "/home/", "/run/user/"];
/// What programs print about a file that they cannot access.
const OUT_OF_REACH: [&str; 6] =
    ["permission denied", "eacces", "no such file", "not found", "cannot find", "cannot open"];

/// The paths by which programs open the standard streams.
const STREAMS: [&str; 5] = ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1", "/proc/self/fd/2", "/dev/fd/"];
/// What programs print about a socket that is opened by a path.
const NO_DEVICE: [&str; 5] = ["no such device or address", "enxio", "errno 6", "os error 6", "(6:"];

/// What programs print where they may not write.
const NOT_WRITABLE: [&str; 6] =
    ["read-only file system", "readonly file system", "erofs", "errno 30", "os error 30", "readonly database"];
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

/// Returns what to add to the reason. `beside`: the processes that failed while the old release ran beside them.
pub fn of(log: &[String], beside: &[ProcessName], places: Places<'_>) -> Vec<String> {
    let messages: Vec<&str> = log.iter().rev().take(LINES).map(|line| message(line)).collect();
    let lower: Vec<String> = messages.iter().map(|message| message.to_lowercase()).collect();
    let says = |first: &[&str], second: &[&str]| {
        let has = |line: &String, words: &[&str]| words.iter().any(|word| line.contains(word));
        lower.iter().any(|line| has(line, first) && (second.is_empty() || has(line, second)))
    };
    // The launcher's own message: what it could not start, and why.
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
    // Some programs print the error's name in a line of its own, after the one that names the file.
    let mut refused: Vec<(bool, String)> = messages.iter().filter_map(|line| refused(line, places)).collect();
    refused.sort_by_key(|(names_file, _)| !names_file);
    let refused = refused.into_iter().next().map(|(_, hint)| hint);
    let low_port = says(&DENIED, &["bind", "listen"]) || says(&["bind("], &[]) && says(&DENIED, &[]);
    let low_port = low_port.then(|| LOW_PORT.to_owned());
    let refused = refused.filter(|_| low_port.is_none());
    launch.into_iter().chain(homes).chain(streams).chain(low_port).chain(refused).chain(twice).collect()
}

/// For a line about a refused access to a file, returns where an app may write instead, and whether the file is named.
fn refused(line: &str, Places { release, data, unconfined }: Places<'_>) -> Option<(bool, String)> {
    let lower = line.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let file = file_in(line);
    let elsewhere = |file: &&str| {
        !Path::new(file).starts_with(data) && !HOMES.iter().chain(&STREAMS).any(|known| file.starts_with(known))
    };
    let denied = has(&DENIED) && !has(&NOT_WRITING) && file.is_some_and(|file| elsewhere(&file));
    if !has(&NOT_WRITABLE) && !denied {
        return None;
    }
    let file = file.filter(elsewhere);
    // Outside of the release a denied access may have been a read: the line does not say.
    let outside = file.is_some_and(|file| file.starts_with('/') && !Path::new(file).starts_with(release));
    let verb = if has(&NOT_WRITABLE) || !outside { "write" } else { "open" };
    let what = file.map_or("it wrote where no app may write".to_owned(), |file| format!("no app may {verb} {file}"));
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
    let created = line.split_once("cannot create ").and_then(|(_, rest)| rest.split(": ").next()).filter(is_name);
    let lower = line.to_ascii_lowercase();
    let in_brackets = [" (read-only file system", " (permission denied"].iter().find_map(|words| lower.find(words));
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

/// Which parts of the server are hidden from apps, and what to do instead.
pub const HIDDEN_HOMES: &str = "apps cannot get at homes (/root, /home, /run/user): install it for all, as under /usr/local, or put it into the artifact";

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
        of(&log, &[ProcessName::parse("bot").unwrap()], places()).join(" | ")
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
            let said = of(&log, &[], places()).join(" | ");
            assert!(said.starts_with(&format!("no app may write {file}: {inside}")), "{lines:?}: {said}");
        }
        for lines in [
            ["Error: listen EACCES: permission denied 0.0.0.0:443", "  code: 'EACCES',"],
            ["    self.socket.bind(self.server_address)", "PermissionError: [Errno 13] Permission denied"],
            ["listen tcp 0.0.0.0:80: bind: permission denied", "exit status 1"],
            ["nginx: [emerg] bind() to 0.0.0.0:80 failed (13: Permission denied)", "x"],
        ] {
            let log = lines.map(|line| format!("2026-01-01T00:00:00.000Z {line}"));
            assert_eq!(of(&log, &[], places()), [LOW_PORT], "{lines:?}");
        }
        for line in [
            "Os { code: 30, kind: ReadOnlyFilesystem, message: \"Read-only file system\" }",
            "attempt to write a readonly database",
        ] {
            assert!(hints(line).starts_with("it wrote where no app may write: "), "{line}: {}", hints(line));
        }
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
            assert_eq!(of(&log, &[], places()), Vec::<String>::new(), "nothing runs beside it");
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
