//! Reads a spec document, YAML or JSON, into a checked `Document`, or reports what is wrong and where.
//!
//! The text becomes a tree first (which refuses duplicate keys and keeps every line and column), then the typed spec.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::host_document::{Asked, HostDocument};
use super::names::ProjectId;
use super::problem::{Place, Problem, SpecError};
use super::services::{Service, Version};
use super::spec::Document;
use super::{fit, schema};

/// Longest document, in bytes. A longer one is refused before it is parsed.
pub const LONGEST: usize = 256 * 1024;

/// Reads a document.
///
/// # Errors
/// Every problem found, with its field and place.
pub fn parse(text: &[u8]) -> Result<Document, SpecError> {
    project(&Tree::read(text)?)
}

fn project(tree: &Tree) -> Result<Document, SpecError> {
    tree.check_values()?;
    if tree.value.get("kind").is_some() {
        let why = "a project's spec has no kind; the only other document is kind: host, with services";
        return Err(SpecError::from(tree.locate(Problem::at("kind", why))));
    }
    let document = typed(&tree.value).map_err(|problem| SpecError::from(tree.locate(problem)))?;
    tree.refuse(fit::problems(&document))?;
    Ok(document)
}

/// The subject of a document.
pub enum Subject {
    Project(Box<Document>),
    Host(BTreeMap<Service, Version>),
}

/// Reads a document of either kind.
///
/// # Errors
/// Those of `parse`.
pub fn parse_any(text: &[u8]) -> Result<Subject, SpecError> {
    subject(&Tree::read(text)?)
}

fn subject(tree: &Tree) -> Result<Subject, SpecError> {
    match tree.is_about_host() {
        true => services(tree).map(Subject::Host),
        false => project(tree).map(|document| Subject::Project(Box::new(document))),
    }
}

/// What a document says, and what is known of it even if it is wrong.
pub struct Reading {
    pub subject: Result<Subject, SpecError>,
    pub about_host: bool,
    /// The project that it names.
    pub named: Option<ProjectId>,
}

/// Reads a document that may be wrong. Its text is read once: a hostile one takes its time.
pub fn read(text: &[u8]) -> Reading {
    match Tree::read(text) {
        Err(problem) => Reading { subject: Err(problem.into()), about_host: false, named: None },
        Ok(tree) => Reading { subject: subject(&tree), about_host: tree.is_about_host(), named: tree.project_named() },
    }
}

/// Refuses a parsed document for problems found afterwards.
///
/// # Errors
/// The problems, each with its place, if any.
pub fn located(text: &[u8], problems: Vec<Problem>) -> Result<(), SpecError> {
    if problems.is_empty() {
        return Ok(());
    }
    match Tree::read(text) {
        Ok(tree) => tree.refuse(problems),
        Err(_) => Err(SpecError { problems }),
    }
}

/// Returns whether a text is a document about the host, however wrong the rest of it is.
pub fn is_about_host(text: &[u8]) -> bool {
    Tree::read(text).is_ok_and(|tree| tree.is_about_host())
}

const HOST: &str = "host";

fn services(tree: &Tree) -> Result<BTreeMap<Service, Version>, SpecError> {
    tree.check_values()?;
    let document: HostDocument = typed(&tree.value).map_err(|problem| SpecError::from(tree.locate(problem)))?;
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    for (service, asked) in &document.services {
        match asked.version_of(*service) {
            Ok(version) => drop(found.insert(*service, version)),
            Err(why) => problems.push(tree.locate(Problem::at(format!("services.{service}.version"), why))),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(SpecError { problems }) }
}

/// Reads the request for one service: `{}` or `{"version": …}`.
///
/// # Errors
/// Those of `parse`.
pub fn parse_service(service: Service, text: &[u8]) -> Result<Version, SpecError> {
    let tree = Tree::read(text)?;
    tree.check_values()?;
    let asked: Asked = typed(&tree.value).map_err(|problem| SpecError::from(tree.locate(problem)))?;
    asked.version_of(service).map_err(|why| SpecError::from(tree.locate(Problem::at("version", why))))
}

/// Returns whether a text is a document at all: a mapping that can be read, whatever its keys mean.
pub fn is_readable(text: &[u8]) -> bool {
    Tree::read(text).is_ok()
}

/// Returns the project that a document names, even if the rest of it is wrong.
pub fn project_named_in(text: &[u8]) -> Option<ProjectId> {
    Tree::read(text).ok()?.project_named()
}

impl From<Problem> for SpecError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

fn typed<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    T::deserialize(deserializer).map_err(|error| {
        let path = track.path().to_string().replace("[", ".").replace("]", "");
        let parent = path.trim_end_matches(['?', '.']).to_owned();
        let path = if parent == "." { String::new() } else { parent };
        reword(path_of_bad_key(value, path, &error.to_string()), &error.to_string())
    })
}

/// serde refuses a key of a checked type at the mapping around it; the message begins with the key, and that is the
/// place.
fn path_of_bad_key(value: &Value, path: String, message: &str) -> String {
    let around = path.split('.').filter(|part| !part.is_empty()).try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => value.get(part),
    });
    let key = message.strip_prefix('"').and_then(|rest| rest.split('"').next()).filter(|key| !key.is_empty());
    match (around.and_then(Value::as_object), key) {
        (Some(table), Some(key)) if table.contains_key(key) => join(&path, key),
        _ => path,
    }
}

fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") }
}

/// Turns serde's wording into ours: adds the unknown field to the path and names the closest known one.
fn reword(path: String, message: &str) -> Problem {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let found = quoted.first().copied().unwrap_or_default();
    let known = quoted.get(1..).unwrap_or_default();
    if message.starts_with("unknown field") {
        let around = path.strip_suffix(found).map_or(path.as_str(), |around| around.trim_end_matches('.'));
        let hint = meant(around, found).or_else(|| suggestion(found, known)).unwrap_or_else(|| elsewhere(found, known));
        return Problem::at(join(around, found), format!("{UNKNOWN_KEY}; {hint}"));
    }
    if message.starts_with("unknown variant") {
        let hint = suggestion(found, known).map(|hint| format!("; {hint}")).unwrap_or_default();
        return Problem::at(path, format!("{found:?} is not one of {}{hint}", known.join(", ")));
    }
    if message.starts_with("missing field") {
        return Problem::at(join(&path, found), "required, and missing");
    }
    let kind = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match kind.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, wanted)) => {
            let message = wrong_kind(found, wanted, is_private(&path));
            Problem::at(path, message)
        }
        None => Problem::at(path, message),
    }
}

const UNKNOWN_KEY: &str = "unknown key";

/// Returns whether the value at a path may be a secret's value, or contain one.
pub fn is_private(path: &str) -> bool {
    matches!(path.split('.').next(), Some("env" | "secrets" | "hooks"))
}

/// Describes what was found and what was expected, in the document's terms instead of Rust's.
fn wrong_kind(found: &str, wanted: &str, private: bool) -> String {
    let value = found.split('`').nth(1);
    let found = match (found.split_whitespace().next(), value) {
        (Some("string"), _) if private => "a text".into(),
        (Some("string"), _) => found.trim_start_matches("string ").to_owned(),
        (Some("boolean"), Some(value)) => value.to_owned(),
        (Some("sequence"), _) => "a list".into(),
        (Some("map"), _) => "a mapping of keys to values".into(),
        (_, Some(_)) if private => "a number".into(),
        (_, Some(number)) => format!("the number {number}"),
        _ => found.to_owned(),
    };
    let (wanted, hint) = match wanted {
        "a string" if value.is_some() => ("a text", "; put it in quotes"),
        "a string" => ("a text", ""),
        "string or map" => ("a word", ""),
        "a boolean" => ("true or false", ""),
        "a sequence" => ("a list, like [a, b]", ""),
        "u8" | "u16" | "u32" | "u64" => ("a whole number", ""),
        _ if wanted.starts_with("struct ") || wanted == "a map" => ("a mapping of keys to values", ""),
        _ => (wanted, ""),
    };
    format!("{found} stands where {wanted} is expected{hint}")
}

/// Returns the key that does here what one from other tools does.
fn meant(path: &str, found: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    let said = match (parts.as_slice(), found) {
        (["processes", _], "command" | "cmd" | "exec" | "start" | "entrypoint") => "a process is started by run",
        (["processes", _], "port" | "ports") => "the agent chooses a port and hands it over as $PORT; leave it out",
        (["processes", _], "replicas" | "scale" | "count") => "did you mean instances?",
        (["processes", _], "health" | "healthcheck" | "health_check" | "probe") => "did you mean ready?",
        (["processes", _], "host" | "hosts" | "domain" | "domains") => "did you mean routes: [{ host: … }]?",
        (["processes", _], "cron") => "did you mean schedule, a calendar expression of systemd?",
        (["processes", _], "env" | "environment") => "variables stand under env at the top, for all processes",
        (["processes", _], "restart") => "a process that ends is always started again; leave it out",
        (["hooks"], "gitea" | "codeberg" | "gogs") => "did you mean forgejo? Gitea's webhooks are taken there too",
        ([], "name" | "app") => "did you mean project?",
        ([], "environment" | "variables" | "vars") => "did you mean env?",
        ([], "services") => "did you mean processes? services of the host are a document of their own, with kind: host",
        ([], "apps") => "did you mean processes?",
        (["artifact"], "headers" | "header" | "token" | "auth" | "authorization" | "username" | "password") => {
            "an artifact is fetched without a login; use a URL that needs none, as a presigned one, or upload it with \
             `zexio deploy`"
        }
        ([] | ["processes", _], "writable" | "paths" | "volumes" | "mounts" | "volume" | "persist" | "shared") => {
            "an app writes to $DATA_DIR, which releases share, and to nothing else; point it there by an argument in run \
             or by a variable of its framework under env"
        }
        ([], "image") => "there are no images; artifact names what to run",
        _ => return None,
    };
    Some(said.to_owned())
}

fn suggestion(found: &str, known: &[&str]) -> Option<String> {
    // A name much longer than all of them is close to none, and comparing it costs time.
    if found.len() > 64 {
        return None;
    }
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(found, name), name));
    let nearest = near.filter(|(distance, name)| *distance <= 2.min(name.len() / 2)).min();
    nearest.map(|(_, name)| format!("did you mean {name}?"))
}

/// Says where a key belongs that is valid elsewhere, or what is valid here.
fn elsewhere(found: &str, known: &[&str]) -> String {
    match schema::parents_of(found).as_slice() {
        [] => format!("known here: {}", known.join(", ")),
        parents => format!("it belongs under {}", parents.join(" or ")),
    }
}

/// The document as a JSON value, without `x-` keys, and the place of each of its fields.
struct Tree {
    value: Value,
    root: Node,
}

/// Where a field's key and its value are.
#[derive(Clone, Copy)]
struct Spot {
    key: Place,
    value: Place,
}

impl Tree {
    fn read(text: &[u8]) -> Result<Self, Problem> {
        if text.len() > LONGEST {
            return Err(Problem::at("", format!("the document has {} bytes; {LONGEST} is the most", text.len())));
        }
        let text = std::str::from_utf8(text)
            .map_err(|e| Problem::at("", format!("not UTF-8 from byte {} on", e.valid_up_to())))?;
        // Only true and false are booleans: `tls: off` and `ANSWER: no` mean the words as written.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            budget: serde_saphyr::budget! { max_depth: DEEPEST, flow_nesting_limit: DEEPEST },
            alias_limits: serde_saphyr::alias_limits! { max_replay_stack_depth: DEEPEST },
        };
        let text = respelled(text.trim_start_matches('\u{feff}'));
        SIZE_LEFT.set(MOST);
        let root: Node = serde_saphyr::from_str_with_options(&text, options).map_err(|e| parse_problem(&e))?;
        let root = root.without_status();
        match root.value("") {
            value @ Value::Object(_) => Ok(Self { value, root }),
            _ => Err(Problem::at("", "a spec is a mapping of keys to values")),
        }
    }

    fn is_about_host(&self) -> bool {
        self.value.get("kind").and_then(Value::as_str) == Some(HOST)
    }

    fn project_named(&self) -> Option<ProjectId> {
        self.value.get("project")?.as_str()?.parse().ok()
    }

    /// Refuses a document in which a key has no value.
    fn check_values(&self) -> Result<(), SpecError> {
        let message = "has no value; give it one, or leave it out";
        let mut empty = Vec::new();
        self.root.find_empty("", &mut empty);
        let problems: Vec<Problem> = empty.into_iter().map(|path| self.locate(Problem::at(path, message))).collect();
        if problems.is_empty() { Ok(()) } else { Err(SpecError { problems }) }
    }

    /// Refuses a document for problems, if there are any, in the order of their places.
    fn refuse(&self, problems: Vec<Problem>) -> Result<(), SpecError> {
        let mut problems: Vec<Problem> = problems.into_iter().map(|problem| self.locate(problem)).collect();
        problems.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
        problems.truncate(MOST_PROBLEMS);
        if problems.is_empty() { Ok(()) } else { Err(SpecError { problems }) }
    }

    /// Adds the place of the field, or of the nearest enclosing field that has one, and shortens the message.
    fn locate(&self, problem: Problem) -> Problem {
        let mut problem = self.placed(problem);
        // `NAME=value` as a key.
        if let Some(at) = problem.path.find('=').filter(|_| is_private(&problem.path)) {
            problem.path.replace_range(at + 1.., "…");
        }
        clip(&mut problem.message, 2000);
        clip(&mut problem.path, 400);
        problem
    }

    fn placed(&self, mut problem: Problem) -> Problem {
        if let Some(spot) = self.root.spot(&problem.path) {
            let is_key = problem.message.starts_with(UNKNOWN_KEY) || self.is_key_at_fault(&problem);
            problem.place = Some(if is_key { spot.key } else { spot.value });
            return problem;
        }
        let mut path = problem.path.as_str();
        problem.place = loop {
            match (self.root.spot(path), path.rsplit_once('.')) {
                (Some(spot), _) => break Some(spot.key),
                (None, Some((parent, _))) => path = parent,
                (None, None) => break Some(self.root.place),
            }
        };
        problem
    }

    /// Returns whether a message is about the field's own name.
    fn is_key_at_fault(&self, problem: &Problem) -> bool {
        let key = problem.path.rsplit('.').next().unwrap_or_default();
        problem.message.starts_with(&format!("{key:?} is not "))
    }
}

/// JSON is YAML except for two things that JSON writers produce: surrogate pairs in escapes, and raw control
/// characters. Returns a JSON text with both spelled as in YAML, any other text unchanged.
fn respelled(text: &str) -> Cow<'_, str> {
    let is_json = text.trim_start().starts_with('{') && serde_json::from_str::<de::IgnoredAny>(text).is_ok();
    if !is_json {
        return Cow::Borrowed(text);
    }
    let unit = |text: &str| text.strip_prefix("\\u")?.get(..4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let pair =
        |text: &str| char::decode_utf16([unit(text)?, unit(text.get(6..)?)?]).next()?.ok().filter(|c| *c > '\u{ffff}');
    let (mut respelled, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let (length, spelling) = match pair(rest) {
            Some(paired) => (12, format!("\\U{:08x}", u32::from(paired))),
            // An escape is kept whole: its second character does not begin another one.
            None if c == '\\' => (2, rest[..2].to_owned()),
            None if matches!(c, '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                (c.len_utf8(), format!("\\u{:04x}", u32::from(c)))
            }
            None => (c.len_utf8(), c.to_string()),
        };
        respelled.push_str(&spelling);
        rest = &rest[length..];
    }
    Cow::Owned(respelled)
}

/// Truncates a text that quotes more of the document than is useful.
fn clip(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
}

fn parse_problem(error: &serde_saphyr::Error) -> Problem {
    let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
    let shown = error.without_snippet().to_string();
    let message = shown.lines().next().unwrap_or_default();
    let message = message.split_once(" at line ").map_or(message, |(head, _)| head);
    let mut message = as_problem(message.trim_end_matches(':'));
    clip(&mut message, 2000);
    Problem { path: String::new(), message, place }
}

/// Translates the parser's messages: its terms and advice are for programmers and mean little to the author of a spec.
fn as_problem(message: &str) -> String {
    if let Some((what, _)) = message.split_once(", set DuplicateKeyPolicy") {
        let key = what.trim_start_matches("duplicate mapping key: ");
        return format!("{key} is written twice in one mapping; keep one");
    }
    let said = match message {
        _ if message.starts_with("multiple YAML documents") => "more than one document; a file holds one",
        _ if message.starts_with("tabs disallowed") => "a tab; YAML is indented with spaces only",
        _ if message.starts_with("while parsing a block") => {
            "this line does not stand under the one it belongs to; check how far it is indented"
        }
        _ if message.contains("Depth {") || message.contains("recursion limit") || message.contains("replay") => {
            return format!("nested too deep: {DEEPEST} levels are the most");
        }
        "unclosed quote" => "a quote that is never closed",
        _ => message,
    };
    said.to_owned()
}

/// A value and its place.
struct Node {
    kind: Kind,
    place: Place,
}

enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Table(Vec<(String, Place, Node)>),
}

/// The allowed size of a document: its aliases can repeat a part of it over and over, and each value costs memory.
#[derive(Clone, Copy)]
struct Size {
    values: usize,
    bytes: usize,
}

/// The deepest nesting allowed, twice a spec's. Each level takes a few calls on the reader's stack, and a thread's
/// stack is small.
const DEEPEST: usize = 16;

/// Far more than any spec of the longest allowed document needs.
const MOST: Size = Size { values: 20_000, bytes: 1 << 20 };

thread_local! {
    // A Deserialize has no place of its own for a counter, and a thread reads one document at a time.
    static SIZE_LEFT: Cell<Size> = const { Cell::new(MOST) };
}

/// Counts values, and bytes of text.
fn spend<E: de::Error>(more: usize, bytes: usize) -> Result<(), E> {
    let Size { values, bytes: left } = SIZE_LEFT.get();
    match (values.checked_sub(more), left.checked_sub(bytes)) {
        (Some(values), Some(bytes)) => {
            SIZE_LEFT.set(Size { values, bytes });
            Ok(())
        }
        _ => Err(E::custom(format!(
            "with its aliases filled in, the document has more than {} values or {} bytes of text",
            MOST.values, MOST.bytes
        ))),
    }
}

/// How many problems are reported for one document.
const MOST_PROBLEMS: usize = 20;

impl Node {
    /// Returns a project's spec as the agent shows it, without its status; any other document unchanged.
    fn without_status(mut self) -> Self {
        if let Kind::Table(entries) = &mut self.kind {
            let has = |wanted: &str| entries.iter().any(|(key, ..)| key == wanted);
            if has("spec") && has("status") && !has("zexio") {
                let spec = entries.iter().position(|(key, ..)| key == "spec").map(|at| entries.swap_remove(at).2);
                return spec.unwrap_or(self);
            }
        }
        self
    }

    /// The entries that count. In every mapping but that of headers, whose names may begin so, an `x-` key is ignored.
    fn entries(&self, name: &str) -> impl Iterator<Item = &(String, Place, Node)> {
        let entries = match &self.kind {
            Kind::Table(entries) => entries.as_slice(),
            _ => &[],
        };
        let all = name == "headers";
        entries.iter().filter(move |(key, ..)| all || !key.starts_with("x-"))
    }

    fn value(&self, name: &str) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(|item| item.value("")).collect()),
            Kind::Table(_) => {
                let entries = self.entries(name).map(|(key, _, node)| (key.clone(), node.value(key)));
                Value::Object(entries.collect::<Map<String, Value>>())
            }
        }
    }

    /// Finds the keys that have no value, in order.
    fn find_empty(&self, path: &str, found: &mut Vec<String>) {
        let name = path.rsplit('.').next().unwrap_or_default();
        match &self.kind {
            _ if found.len() >= MOST_PROBLEMS => {}
            Kind::Scalar(value) => found.extend((value.is_null() && !path.is_empty()).then(|| path.to_owned())),
            Kind::List(items) => {
                items.iter().enumerate().for_each(|(i, item)| item.find_empty(&join(path, &i.to_string()), found));
            }
            Kind::Table(_) => {
                self.entries(name).for_each(|(key, _, node)| node.find_empty(&join(path, key), found));
            }
        }
    }

    /// Returns the place of a field.
    fn spot(&self, path: &str) -> Option<Spot> {
        if path.is_empty() {
            return Some(Spot { key: self.place, value: self.place });
        }
        let below = |key: &str| -> Option<&str> {
            let rest = path.strip_prefix(key)?;
            if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
        };
        match &self.kind {
            Kind::Scalar(_) => None,
            Kind::List(items) => {
                let (index, rest) = path.split_once('.').unwrap_or((path, ""));
                items.get(index.parse::<usize>().ok()?)?.spot(rest)
            }
            Kind::Table(entries) => entries.iter().find_map(|(key, place, node)| match below(key)? {
                "" => Some(Spot { key: *place, value: node.value_place().unwrap_or(*place) }),
                rest => node.spot(rest),
            }),
        }
    }

    /// Returns the place of a one-word value; for a longer one, its key is the better place.
    fn value_place(&self) -> Option<Place> {
        matches!(&self.kind, Kind::Scalar(value) if !value.is_null()).then_some(self.place)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        spend(1, 0)?;
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        let place = Place { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Ok(Self { kind: spanned.value, place })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind)
    }
}

struct AnyKind;

impl<'de> Visitor<'de> for AnyKind {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Bool(v)))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(v.into()))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Kind, E> {
        Number::from_f64(v).map(|n| Kind::Scalar(Value::Number(n))).ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Kind, E> {
        spend(0, v.len())?;
        Ok(Kind::Scalar(v.into()))
    }
    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            spend(0, key.value.len())?;
            let place = Place { line: key.referenced.line(), column: key.referenced.column() };
            entries.push((key.value, place, map.next_value()?));
        }
        Ok(Kind::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{Given, Sealed};

    const MINIMAL: &str = "zexio: 1\nproject: shop\nartifact: { url: https://a.example.com/x.tar.gz }\nprocesses: { web: { run: ./shop } }\n";

    fn refusal(text: &str) -> String {
        match parse(text.as_bytes()) {
            Ok(_) => "accepted".into(),
            Err(error) => error.to_string(),
        }
    }

    fn with(extra: &str) -> String {
        refusal(&format!("{MINIMAL}{extra}"))
    }

    #[test]
    fn json_means_the_same_however_its_writer_spells_it() {
        let with = |value: &str| {
            let text = format!(
                "{{\"zexio\":1,\"project\":\"shop\",\"artifact\":{{\"url\":\"https:\\/\\/a.example.com/x\"}},\n\t\"env\":{{\"A\":\"{value}\"}},\"processes\":{{\"web\":{{\"run\":\"./x\"}}}}}}"
            );
            parse(text.as_bytes())
                .map(|spec| spec.env.values().filter_map(Given::clear).map(str::to_owned).collect::<String>())
        };
        for (spelled, meant) in [
            ("\\ud83e\\udd80", "🦀"),
            ("🦀", "🦀"),
            ("\u{7f}\\u0085\u{85}\u{feff}", "\u{7f}\u{85}\u{85}\u{feff}"),
            ("\\\\ud83e\\\\udd80", "\\ud83e\\udd80"),
            ("\\u00e9\\n\\\"\\/", "é\n\"/"),
        ] {
            assert_eq!(with(spelled).as_deref(), Ok(meant), "{spelled}");
        }
        assert!(with("\\ud83e").is_err(), "half a pair is no text");
    }

    #[test]
    fn the_minimal_spec_is_enough_in_yaml_and_in_json() {
        assert_eq!(refusal(MINIMAL), "accepted");
        let json = r#"{"zexio":1,"project":"shop","artifact":{"url":"https://a.example.com/x"},"processes":{"web":{"run":["./shop"]}}}"#;
        assert_eq!(refusal(json), "accepted");
        assert_eq!(refusal(&format!("\u{feff}{MINIMAL}")), "accepted");
    }

    #[test]
    fn an_unknown_key_names_its_place_and_its_nearest_relative() {
        assert_eq!(with("secrts: [A]\n"), "line 5, column 1: secrts: unknown key; did you mean secrets?");
        assert_eq!(with("deploy:\n  drian: 5s\n"), "line 6, column 3: deploy.drian: unknown key; did you mean drain?");
        assert_eq!(with("x-note: anything\n"), "accepted");
        assert_eq!(
            with("sandbox: stric\n"),
            "line 5, column 10: sandbox: \"stric\" is not one of standard, strict, off; did you mean strict?"
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_where_they_stand() {
        assert_eq!(
            with("env:\n  PORTS: 8080\n"),
            "line 6, column 10: env.PORTS: a number stands where a text is expected; put it in quotes"
        );
        assert_eq!(with("env: { A: ~ }\n"), "line 5, column 8: env.A: has no value; give it one, or leave it out");
        assert!(with("env: { A: b, NOTIFY_SOCKET: x }\n").starts_with("line 5, column 14: env.NOTIFY_SOCKET: "));
        assert!(
            with("limits: 3\n").ends_with("limits: the number 3 stands where a mapping of keys to values is expected")
        );
        assert!(with("limits: { memory: 12x }\n").contains("512M"));
        assert!(with("updates: false\n") != "accepted");
        assert!(with("env: { A: [b] }\n").contains("a list stands where a text is expected"));
        assert!(with("project: ~\n") != "accepted");
        assert!(with("keep: 0\n").contains("keep"));
    }

    #[test]
    fn what_may_be_a_secret_is_never_in_an_error() {
        let hook = |name: &str, rest: &str, secret: &str| {
            let url = MINIMAL.replace("x.tar.gz }", "x.tar.gz, updates: webhook }");
            refusal(&format!("{url}hooks:\n  {name}:\n    {rest}\n    secret: {secret}\n"))
        };
        let template = "{ repo: a/b, event: release, artifact: 'https://x/{tag}' }";
        let rest = template.trim_matches(['{', '}', ' ']).replace(", ", "\n    ");
        for provider in ["forgejo", "github", "gitlab", "standard"] {
            let rest = if provider == "standard" { "x-a: 1" } else { rest.as_str() };
            for secret in ["'hunter-2'", "'whsec_hunter2+/='", "20020020", "[hunter2]", "{ a: hunter2 }", "true"] {
                let said = hook(provider, rest, secret);
                assert!(said.contains(&format!("hooks.{provider}.secret")), "{secret}: {said}");
                assert!(!said.contains("hunter") && !said.contains("2002"), "{secret}: {said}");
            }
            let said = hook(provider, rest, "'hunter-2'");
            assert!(said.contains("its value is stored by `zexio secret set PROJECT NAME`"), "{said}");
        }
        for extra in [
            "hooks: { github: hunter2 }",
            "hooks: hunter2",
            "secrets: [hunter-2]",
            "secrets: ['A:hunter-2']",
            "secrets: ['hunter-2:A']",
            "secrets: [A=hunter2]",
            "secrets: [{ A: hunter2 }]",
            "secrets: hunter2",
            "secrets: [20020020]",
            "env: { A: 20020020 }",
            "env: { A: [hunter2] }",
            "env: { A: { value: hunter2 } }",
            "env: [A=hunter2]",
            "env: A=hunter2",
            "env: { A=hunter2: x }",
            "env: { 'A B=hunter2': x }",
            "env: { A: *hunter2 }",
            "env: { A: %hunter2 }",
            "env: { A: \"hunter2\\q\" }",
            "env: { A: 'hunter2 }",
            "env: { A: \"hunter2\u{1}\" }",
        ] {
            let said = with(&format!("{extra}\n"));
            assert!(said != "accepted" && !said.contains("hunter") && !said.contains("2002"), "{extra}: {said}");
        }
    }

    #[test]
    fn duplicate_keys_bombs_and_broken_text_are_refused_quickly() {
        assert_eq!(with("keep: 3\nkeep: 4\n"), "line 6, column 1: keep is written twice in one mapping; keep one");
        assert!(with("env: { A: x, A: y }\n") != "accepted");
        assert!(refusal(&"[".repeat(200_000)) != "accepted");
        assert!(refusal("zexio: 1\n---\nzexio: 1\n").contains("more than one document"));
        assert!(parse(&[0xff, 0xfe, b'a']).is_err());
        assert!(parse(&vec![b' '; LONGEST + 1]).is_err());
        for text in ["", "- a", "a", "\0", "a:\tb: c", "zexio: [1"] {
            assert!(refusal(text) != "accepted", "{text:?}");
        }
    }

    #[test]
    fn a_document_that_means_far_more_than_it_says_is_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            laughs += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
        }
        let long = format!("x-a: &a {}\nx-b: [{}]\n", "y".repeat(100_000), vec!["*a"; 30].join(", "));
        let wide = format!("x-a: [{}]\n", "1,".repeat(60_000));
        // On a stack as small as a thread's may be.
        let deep: String = (1..60).map(|i| format!("x-{i}: &a{i} {{ b: [*a{}] }}\n", i - 1)).collect();
        for text in [
            "x-0: &a0 1\n".to_owned() + &deep,
            format!("x-a: {}", "[".repeat(1000)),
            format!("x-a:\n  {}1\n", "- ".repeat(1000)),
        ] {
            let said =
                std::thread::Builder::new().stack_size(1 << 20).spawn(move || with(&text)).unwrap().join().unwrap();
            assert!(said.contains("nested too deep: 16 levels are the most"), "{said}");
        }
        for text in [laughs, long, wide] {
            let said = with(&text);
            assert!(said.contains("with its aliases filled in, the document has more than"), "{said}");
        }
        let shared = "x-common: &common { http: /up, within: 5s }\nx-more: [*common, *common]\n";
        assert_eq!(with(shared), "accepted");
        let empty: String = (0..5000).map(|i| format!("k{i}: ~\n")).collect();
        assert_eq!(parse(format!("{MINIMAL}{empty}").as_bytes()).unwrap_err().problems.len(), 20);
        let named = with(&format!("{}: 1\n", "k".repeat(900)));
        assert!(named.contains("unknown key"), "{named}");
    }

    #[test]
    fn a_project_as_it_is_shown_can_be_read_again() {
        let spec = r#"{"zexio":1,"project":"shop","artifact":{"url":"https://a.example.com/x?…"},"env":{"A":{"sealed":3}},
            "processes":{"web":{"run":["./shop"]}}}"#;
        let shown = format!(r#"{{"generation":3,"project":"shop","spec":{spec},"status":{{"state":"ready"}}}}"#);
        let document = parse(shown.as_bytes()).unwrap();
        assert_eq!(document.env.values().next(), Some(&Given::AsItIs(Sealed { sealed: 3 })));
        assert_eq!(project_named_in(shown.as_bytes()).unwrap().as_str(), "shop");
        for (value, said) in [
            ("{ sealed: 0 }", "versions begin at 1"),
            ("{ sealed: x }", "env.A"),
            ("{ sealed: 1, more: 2 }", "a variable is a text"),
            ("{ secret: X }", "a secret is named under secrets"),
            ("{}", "a variable is a text"),
        ] {
            let refused = with(&format!("env: {{ A: {value} }}\n"));
            assert!(refused.contains(said), "{value}: {refused}");
        }
    }

    #[test]
    fn a_key_that_belongs_elsewhere_or_comes_from_another_tool_is_understood() {
        assert_eq!(with("drain: 5s\n"), "line 5, column 1: drain: unknown key; it belongs under deploy");
        let port = refusal(&MINIMAL.replace("{ run: ./shop }", "{ run: ./shop, port: 8080 }"));
        assert_eq!(
            port,
            "line 4, column 34: processes.web.port: unknown key; the agent chooses a port and hands it over as $PORT; leave it out"
        );
        assert!(with("image: shop\n").contains("artifact names what to run"));
        assert!(with("writable: [tmp]\n").contains("unknown key; an app writes to $DATA_DIR"));
        let headers = refusal(&MINIMAL.replace("x.tar.gz }", "x.tar.gz, headers: { Authorization: x } }"));
        assert!(headers.contains("artifact.headers: unknown key; an artifact is fetched without a login"), "{headers}");
    }

    #[test]
    fn a_header_may_begin_with_x_and_is_not_ignored() {
        let text = MINIMAL.replace("./shop", "./shop, routes: [{ host: a.b.c, headers: { x-frame-options: DENY } }]");
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!(document.processes.values().next().unwrap().routes[0].headers.len(), 1);
    }

    #[test]
    fn a_need_is_one_of_the_services() {
        assert_eq!(with("needs: [redis, postgresql]\n"), "accepted");
        assert!(with("needs: [mysql]\n").contains(&format!("\"mysql\" is not one of {}", Service::names())));
    }

    fn host(services: &str) -> String {
        match parse_any(format!("zexio: 1\nkind: host\nservices: {services}\n").as_bytes()) {
            Ok(Subject::Host(services)) => format!("{services:?}"),
            refused => refused.err().map_or("a project".into(), |error| error.to_string()),
        }
    }

    #[test]
    fn a_kind_that_is_no_word_is_refused() {
        for kind in ["-1", "18446744073709551615", "1.5", "true", "~", "[host]", "{ host: 1 }"] {
            let refused = parse_any(format!("zexio: 1\nkind: {kind}\n").as_bytes()).map(|_| "accepted").unwrap_err();
            assert!(refused.to_string().contains("kind"), "{kind}: {refused}");
        }
    }

    #[test]
    fn a_host_document_names_services_and_their_versions() {
        let read = host("{ redis: {}, postgresql: { version: 15 }, nodejs: { version: lts } }");
        assert_eq!(read, "{Nodejs: Default, Postgresql: Major(15), Redis: Default}");
        assert_eq!(
            host("{ redis: { version: 7 }, postgresql: { version: lts } }"),
            "{Postgresql: Default, Redis: Major(7)}"
        );
        assert!(host("{ redis: { version: new } }").starts_with("line 3, column 31: services.redis.version: "));
        assert!(host("{ rediss: {} }").contains("did you mean redis?"), "{}", host("{ rediss: {} }"));
        assert!(host("{ nodejs: { versoin: lts } }").contains("did you mean version?"));
        assert!(host("{ nodejs: { version: 1.5 } }").contains("a version is a word or a major"));
        assert!(refusal("zexio: 1\nkind: hosts\nservices: {}\n").contains("kind"));
    }

    #[test]
    fn a_broken_document_still_tells_its_project() {
        let text = format!("{MINIMAL}nonsense: 1\n");
        assert_eq!(project_named_in(text.as_bytes()).unwrap().as_str(), "shop");
    }
}
