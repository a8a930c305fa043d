//! The document as a tree that keeps the place of each field: it refuses duplicate keys and what is too deep or too large.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::wording::{UNKNOWN_KEY, is_private, join, parse_problem};
use super::{HOST, LONGEST};
use crate::model::names::ProjectId;
use crate::model::problem::{Place, Problem, SpecError};

/// The document as a JSON value, without `x-` keys, and the place of each of its fields.
pub(super) struct Tree {
    pub(super) value: Value,
    root: Node,
}

/// Where a field's key and its value are.
#[derive(Clone, Copy)]
struct Spot {
    key: Place,
    value: Place,
}

impl Tree {
    pub(super) fn read(text: &[u8]) -> Result<Self, Problem> {
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

    pub(super) fn is_about_host(&self) -> bool {
        self.value.get("kind").and_then(Value::as_str) == Some(HOST)
    }

    pub(super) fn project_named(&self) -> Option<ProjectId> {
        self.value.get("project")?.as_str()?.parse().ok()
    }

    /// Refuses a document in which a key has no value.
    pub(super) fn check_values(&self) -> Result<(), SpecError> {
        let message = "has no value; give it one, or leave it out";
        let mut empty = Vec::new();
        self.root.find_empty("", &mut empty);
        let problems: Vec<Problem> = empty.into_iter().map(|path| self.locate(Problem::at(path, message))).collect();
        if problems.is_empty() { Ok(()) } else { Err(SpecError { problems }) }
    }

    /// Refuses a document for problems, if there are any, in the order of their places.
    pub(super) fn refuse(&self, problems: Vec<Problem>) -> Result<(), SpecError> {
        let mut problems: Vec<Problem> = problems.into_iter().map(|problem| self.locate(problem)).collect();
        problems.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
        problems.truncate(MOST_PROBLEMS);
        if problems.is_empty() { Ok(()) } else { Err(SpecError { problems }) }
    }

    /// Adds the place of the field, or of the nearest enclosing field that has one, and shortens the message.
    pub(super) fn locate(&self, problem: Problem) -> Problem {
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
pub(super) fn clip(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
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
pub(super) const DEEPEST: usize = 16;

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
