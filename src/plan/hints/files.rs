//! Files and directories that could not be written: which one, why, and where an app may write.

use std::path::Path;

use super::programs::denied_program;
use super::{HOMES, Paths, STREAMS, STREAMS_OF_OTHERS, has_one_of, is_of_process};

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
pub(super) const DENIED: [&str; 3] = ["permission denied", "eacces", "access to the path"];

/// What a line with a denied access contains if it is not about writing.
const NOT_WRITING: [&str; 13] = [
    "could not run \"",
    "exec",
    "bind",
    "listen",
    "connect",
    "socket",
    "sh: ",
    "env: ",
    "interpreter",
    "module",
    "get /",
    "post /",
    "http/",
];

/// How programs say that they could not create a directory, some words before they name it.
const CREATE: [&str; 8] = [
    "unable to create",
    "failed to create",
    "could not create",
    "couldn't create",
    "cannot create",
    "can't create",
    "mkdirs failed",
    "mkdirs() failed",
];

/// Other causes of that.
const OTHER_CAUSE: [&str; 10] = [
    "no space",
    "already exists",
    "file exists",
    "quota",
    "not a directory",
    "too long",
    "bucket",
    "ldap",
    "active directory",
    "remote",
];

/// Whether a line says that a file could not be created.
pub(super) fn is_refused(line: &str) -> bool {
    let lower = line.to_lowercase();
    has_one_of(&lower, &DENIED) || has_one_of(&lower, &NOT_WRITABLE) || has_one_of(&lower, &["no such file", "enoent"])
}

/// Whether a line says that a directory could not be created.
fn has_no_directory(lower: &str) -> bool {
    let after = CREATE.iter().find_map(|words| lower.split_once(words)).map(|(_, after)| after);
    let is_named = |after: &str| {
        let name = after.split([';', ',', ':']).next().unwrap_or_default();
        has_one_of(name, &["director", "folder"])
    };
    after.is_some_and(is_named) || has_one_of(lower, &["mkdirs failed", "mkdirs() failed"])
}

/// Whether a file is where no app may write, as far as its path says.
pub(super) fn is_elsewhere(file: &str, paths: Paths<'_>) -> bool {
    !Path::new(file).starts_with(paths.data)
        && !file.starts_with("/tmp/")
        && !is_of_process(file)
        && !HOMES.iter().chain(&STREAMS).chain(&STREAMS_OF_OTHERS).any(|known| file.starts_with(known))
}

/// For a line about a refused access to a file, returns where an app may write instead, and whether the file is named.
pub(super) fn refused(line: &str, paths: Paths<'_>) -> Option<(bool, String)> {
    let lower = line.to_lowercase();
    let has = |words: &[&str]| has_one_of(&lower, words);
    let file = file_in(line);
    let elsewhere = |file: &&str| is_elsewhere(file, paths);
    let denied = has(&DENIED) && !has(&NOT_WRITING) && file.as_ref().is_some_and(elsewhere);
    let is_written = |file: &&str| WRITTEN.iter().any(|end| file.ends_with(end)) && elsewhere(file);
    let no_directory = has(&["no such file", "enoent", "errno 2]"]) && file.as_ref().is_some_and(is_written);
    let not_created = !has(&OTHER_CAUSE) && (has(&NOT_CREATED) || has_no_directory(&lower));
    let not_created = not_created && file.as_ref().is_none_or(elsewhere) || no_directory;
    if has(&HARMLESS) || denied_program(line).is_some() || !has(&NOT_WRITABLE) && !denied && !not_created {
        return None;
    }
    let file = file.filter(elsewhere);
    // Outside of the release a denied access may have been a read: the line does not say.
    let verb = if has(&NOT_WRITABLE) || not_created || !is_outside(file, paths) { "write" } else { "open" };
    let unnamed = if has(&["database"]) { "its database is" } else { "it wrote" };
    Some((file.is_some(), no_place(file, verb, unnamed, paths)))
}

fn is_outside(file: Option<&str>, paths: Paths<'_>) -> bool {
    file.is_some_and(|file| file.starts_with('/') && !Path::new(file).starts_with(paths.release))
}

/// Says that an app may not write a file, why not, and where it may. `unnamed`: what to say without its name.
pub(super) fn no_place(file: Option<&str>, verb: &str, unnamed: &str, paths: Paths<'_>) -> String {
    let what = match file {
        Some(file) => format!("no app may {verb} {file}"),
        None => format!("{unnamed} where no app may write"),
    };
    let data = paths.data.display();
    let why = match paths.unconfined {
        _ if !is_outside(file, paths) => "the directory of a release is read-only".to_owned(),
        Some(user) => format!("it runs as the user {user}"),
        None => {
            "of the server an app may write nothing but $DATA_DIR and /tmp, and not /srv or /var either; and it reads \
             only what all users may read"
                .to_owned()
        }
    };
    format!(
        "{what}: {why}; let it write to $DATA_DIR ({data}), which releases share: by an argument in run like \
         --pidfile $DATA_DIR/server.pid, or by a variable of its framework under env, with {data} written out"
    )
}

/// Returns the file that a line is about: the last that is quoted, else the last path.
pub(super) fn file_in(line: &str) -> Option<&str> {
    const QUOTES: [char; 4] = ['\'', '"', '\u{2018}', '\u{2019}'];
    // Java begins with the name of the thread.
    let line =
        line.split_once("in thread \"").and_then(|(_, rest)| rest.split_once('"')).map_or(line, |(_, rest)| rest);
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
