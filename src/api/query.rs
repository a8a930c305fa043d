//! A request's query and headers: unknown parameters are refused, so that a typing error is not silently ignored.

use std::collections::BTreeMap;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, IF_MATCH};

use super::problem::Problem;

/// The parameters of a request, each at most once.
#[derive(Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Parses a query.
    ///
    /// # Errors
    /// Names the parameter that is unknown or repeated.
    pub fn parse(raw: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut found = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(raw.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(bad(&name, &format!("unknown; known here: {}", listed(known))));
            }
            if found.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(bad(&name, "given twice"));
            }
        }
        Ok(Self(found))
    }

    /// Returns a parameter's text. Empty counts as missing.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Returns a parameter that is `true` or `false`; false if missing. An empty one is refused: a request with
    /// `dry_run=` must not write because a script's variable was empty.
    ///
    /// # Errors
    /// 400: the parameter is neither `true` nor `false`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        self.0.get(name).map_or(Ok(false), |text| truth(text).map_err(|cause| bad(name, &cause)))
    }

    /// Returns a parameter, parsed by `parse`.
    ///
    /// # Errors
    /// The value cannot be parsed; the message begins with the parameter's name.
    pub fn read<T, E: ToString>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        self.text(name).map(|text| parse(text).map_err(|e| bad(name, &e.to_string()))).transpose()
    }
}

/// Parses `true` or `false`.
///
/// # Errors
/// The text is neither `true` nor `false`.
pub fn truth(raw: &str) -> Result<bool, String> {
    raw.parse().map_err(|_| format!("{raw:?} is neither true nor false"))
}

fn listed(known: &[&str]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

fn bad(name: &str, cause: &str) -> Problem {
    let name: String = name.chars().take(80).collect();
    Problem::bad("bad_query", format!("query parameter {name:?}: {cause}"))
}

/// A header is repeated or is not text, so its meaning is ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous;

/// Returns a header that may occur once, as text.
///
/// # Errors
/// It is repeated or is not text.
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Ambiguous> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Ambiguous),
        _ => Err(Ambiguous),
    }
}

/// Returns the content type without its parameters, if it is one of these or missing.
///
/// # Errors
/// 415: the content type is not in the list.
pub fn content_type<'a>(headers: &HeaderMap, known: &[&'a str]) -> Result<Option<&'a str>, Problem> {
    let refused = |found: &str| {
        let detail = format!("content type {found:?} is not taken here; {} is", known.join(", "));
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail)
    };
    let Some(found) = only(headers, &CONTENT_TYPE).map_err(|_| refused("(two of them)"))? else { return Ok(None) };
    let essence = found.split(';').next().unwrap_or_default().trim();
    match known.iter().find(|name| name.eq_ignore_ascii_case(essence)) {
        Some(name) => Ok(Some(name)),
        None => Err(refused(essence)),
    }
}

/// Parses `If-Match`: a generation, quoted as in HTTP or bare as people type it.
///
/// # Errors
/// 400: it is not a generation, or given twice.
pub fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let bad = || Problem::bad("bad_if_match", "If-Match takes one generation, like \"7\"");
    let raw = only(headers, &IF_MATCH).map_err(|_| bad())?;
    let Some(raw) = raw else { return Ok(None) };
    let bare = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
    crate::sign::parse_time(bare).map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(raw: &str) -> String {
        Query::parse(raw, &["lines", "follow"]).map_or_else(|problem| problem.detail, |_| "taken".to_owned())
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        assert_eq!(detail("lines=3&follow=true"), "taken");
        assert_eq!(detail(""), "taken");
        assert!(detail("line=3").contains("\"line\": unknown; known here: lines, follow"));
        assert!(detail("lines=3&lines=4").contains("twice"));
        assert!(Query::parse("follow=1", &["follow"]).unwrap().flag("follow").is_err());
    }

    #[test]
    fn what_is_empty_is_not_given_but_a_flag_that_guards_is_said_in_full() {
        let query = Query::parse("lines=&follow=&dry_run=", &["lines", "follow", "dry_run"]).unwrap();
        assert_eq!(query.read("lines", |raw| raw.parse::<u32>()).unwrap(), None);
        assert_eq!(query.read("follow", truth).unwrap(), None);
        assert_eq!(query.text("lines"), None);
        assert!(query.flag("dry_run").is_err());
    }
}
