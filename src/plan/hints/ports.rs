//! Ports and Unix sockets that are in use: who has them, and what to change.

use crate::model::observed::PortHolder;

use super::{Neighbours, has_one_of};

/// What programs print about a port that is in use.
pub(super) const PORT_TAKEN: [&str; 9] = [
    "address already in use",
    "address in use",
    "eaddrinuse",
    "port is already",
    "already in use",
    "only one usage of each socket",
    "connection in use",
    "already running on port",
    "in use?",
];

/// How far the error is below the line of code that it is about, at most.
const TRACE: usize = 3;

/// Who has a port that is in use.
#[derive(PartialEq)]
pub(super) enum Holder {
    OldRelease,
    Other,
    /// The old release may have it, too: not all that it listens on is TCP.
    Unknown,
}

/// For a line about a port that is in use, returns who has it and what to say.
pub(super) fn holder(line: &str, listeners: &[PortHolder], neighbours: Neighbours<'_>) -> Option<(Holder, String)> {
    if !has_one_of(line, &PORT_TAKEN) {
        return None;
    }
    let is_old = |held: &PortHolder| held.unit.as_ref().is_some_and(|unit| neighbours.old.contains(unit));
    let Some(port) = port_in(line) else {
        // The line does not say which. Neighbours the ports of $PORT, it can only be one that the old release has too.
        let second = listeners.iter().any(is_old);
        return Some(match second {
            true => (Holder::OldRelease, String::new()),
            false => (
                Holder::Unknown,
                "another program has the port or the socket that it wants: `ss -lxtunp` shows who; let it listen on \
                 $HOST:$PORT, which is its own, or change one of the two"
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

/// The path of a Unix socket, as a line has it.
#[derive(Clone, Copy)]
pub(super) struct Socket<'a> {
    /// Of a path that the code puts together, the last part.
    pub(super) file: &'a str,
    pub(super) is_whole: bool,
}

/// Returns the Unix socket that a line says is listened on.
pub(super) fn socket_in(line: &str) -> Option<Socket<'_>> {
    let lower = line.to_lowercase();
    if !has_one_of(&lower, &["bind", "listen"]) || port_in(line).is_some() || lower.trim_start().starts_with("file \"")
    {
        return None;
    }
    let names_any = has_one_of(&lower, &["bind(", "unix", "listen eacces"]);
    line.split([' ', '\t', '(', ')', ',', '[', ']', '"', '\'', '`', '=']).find_map(|word| {
        let word = word.strip_prefix("unix://").or_else(|| word.strip_prefix("unix:")).unwrap_or(word);
        let word = word.trim_end_matches([':', '.', ';']);
        let is_named = word.ends_with(".sock") || word.ends_with(".socket") && word.contains('/');
        let is_path = names_any && word.len() > 1 && word.starts_with('/') && !word.starts_with("//");
        if !is_path && (!is_named || word.contains("//")) {
            return None;
        }
        let before = line[..word.as_ptr() as usize - line.as_ptr() as usize].trim_end_matches(['"', '\'', '`', ' ']);
        let is_part =
            before.ends_with(['+', '/', '}', ',']) || before.contains("join(") || word.contains(['{', '}', '%']);
        let file = if is_part { word.rsplit('/').next().unwrap_or(word) } else { word };
        Some(Socket { file, is_whole: !is_part })
    })
}

/// Whether a line says that an address is in use.
pub(super) fn is_in_use(line: &str) -> bool {
    has_one_of(&line.to_lowercase(), &PORT_TAKEN)
}

/// Returns the path of a Unix socket of which this line, or an error just below in the log, says so. `latest_first`:
/// the log's lines.
pub(super) fn socket_that<'a>(latest_first: &[&'a str], says_so: fn(&str) -> bool) -> Option<Socket<'a>> {
    latest_first.iter().enumerate().find_map(|(at, line)| {
        let socket = socket_in(line)?;
        let is_code = line.contains("bind(") || line.contains("listen(");
        let below = &latest_first[at.saturating_sub(TRACE)..at];
        (says_so(line) || is_code && below.iter().any(|line| says_so(line))).then_some(socket)
    })
}
