//! What other tools fill in, written for one of the variables that are filled in here.

use super::syntax::Expansion;
use super::{FILLED_IN, is_name};

/// The first placeholder of a text.
pub struct Found {
    pub written: String,
    pub name: &'static str,
    /// The text with the variables in place of all placeholders.
    pub text: String,
}

/// How other tools write a variable, the longer forms first.
const FORMS: [(&str, &str); 15] = [
    ("${{", "}}"),
    ("<%=", "%>"),
    ("${env:", "}"),
    ("${env.", "}"),
    ("{{", "}}"),
    ("#{", "}"),
    ("$(", ")"),
    ("$env:", ""),
    ("%(", ")s"),
    ("{", "}"),
    ("<", ">"),
    ("[", "]"),
    ("%", "%"),
    ("@", "@"),
    ("__", "__"),
];

/// Finds placeholders outside of quotes, where a value stands: after a blank, `=` or `:`, and up to the next.
pub fn replaced(text: &str) -> Option<Found> {
    let mut found: Option<Found> = None;
    let (mut rest, mut done, mut quote) = (text, String::with_capacity(text.len()), None);
    while let Some(c) = rest.chars().next() {
        let begins = done.is_empty() || done.ends_with([' ', '\t', '\n', '=', ':', ',', '/', '"']);
        let form = if quote == Some('\'') { None } else { form_at(rest).filter(|_| begins) };
        let form = form.or_else(|| bare_after(&done, rest)).filter(|_| quote.is_none() || c == '$');
        // Quotes say that something is meant as it is; a shell looks into double ones for a dollar.
        match form.or_else(|| expression_at(rest).filter(|_| quote != Some('\'') && !done.ends_with(['\\', '$']))) {
            Some((length, name)) => {
                let written = rest[..length].to_owned();
                found.get_or_insert_with(|| Found { written, name, text: String::new() });
                rest = &rest[length..];
                let goes_on = rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                done.push_str(&if goes_on { format!("${{{name}}}") } else { format!("${name}") });
            }
            None => {
                match quote {
                    Some(open) if open == c => quote = None,
                    None if matches!(c, '\'' | '"') => quote = Some(c),
                    _ => {}
                }
                done.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found.map(|found| Found { text: done, ..found })
}

/// Returns the length of the placeholder that a text begins with, and its variable.
fn form_at(text: &str) -> Option<(usize, &'static str)> {
    let ends = |length: usize| {
        text[length..].is_empty() || text[length..].starts_with([' ', '\t', '\n', ':', '/', ',', '"', '\''])
    };
    let plain = FORMS.iter().find_map(|(open, close)| {
        let inside = text.strip_prefix(open)?.trim_start();
        let maps = ["process.env.", ".Env.", "ENV.", "env.", "ENV_", "$", "."];
        let inside = maps.iter().find_map(|map| inside.strip_prefix(map)).unwrap_or(inside);
        let name = FILLED_IN.into_iter().find(|name| inside.starts_with(name))?;
        let after = inside[name.len()..].trim_start().strip_prefix(close)?;
        Some((text.len() - after.len(), name))
    });
    let plain = plain.or_else(|| {
        let length = in_angles(text)?;
        Some((length, named(&text[1..length - 1], true)?))
    });
    let called = || {
        let (_, close) =
            [("${{", "}}"), ("{{", "}}"), ("#{", "}")].into_iter().find(|(open, _)| text.starts_with(open))?;
        let length = text.find(close)? + close.len();
        Some((length, named(&text[..length], false)?))
    };
    let plain = plain.or_else(called);
    plain.or_else(|| default_at(text)).or_else(|| lower_case_at(text)).filter(|(length, _)| ends(*length))
}

/// Returns the last variable that an expression of another tool names as a whole word, such as `ENV['PORT']`.
fn named(expression: &str, any_case: bool) -> Option<&'static str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut known = words.filter_map(|word| {
        FILLED_IN.into_iter().find(|name| *name == word || any_case && name.eq_ignore_ascii_case(word))
    });
    known.next_back()
}

/// `${process.env.PORT}`, `${server.port:8080}`, `${PORT:8080}`: no shell fills these in, wherever they stand.
fn expression_at(text: &str) -> Option<(usize, &'static str)> {
    let inside = text.strip_prefix("${")?;
    let end = inside.find('}')?;
    let with_default = FILLED_IN.into_iter().find(|name| {
        let length = name.len();
        inside.get(..length).is_some_and(|begin| begin.eq_ignore_ascii_case(name)) && inside[length..].starts_with(':')
    });
    let of_others = || named(&inside[..end], true).filter(|_| matches!(Expansion::of(&text[1..]), Expansion::None));
    Some((end + 3, with_default.or_else(of_others)?))
}

/// `:port` after a host, or alone: a manual's word for a number.
fn bare_after(done: &str, text: &str) -> Option<(usize, &'static str)> {
    let before = done.strip_suffix(':')?;
    let host = before.rsplit([' ', '\t', '\n', '=', '/', '@']).next()?;
    let is_host = ["", "localhost", "HOST", "host", "$HOST", "${HOST}", "*"].contains(&host)
        || host.starts_with('[') && host.ends_with(']')
        || host.split('.').count() == 4 && host.split('.').all(|part| part.parse::<u8>().is_ok());
    let length = text.find(|c: char| !is_name(&c.to_string()) && !c.is_ascii_digit()).unwrap_or(text.len());
    let ends = text[length..].is_empty() || text[length..].starts_with([' ', '\t', '\n', '/', ',']);
    (is_host && ends && matches!(&text[..length], "port" | "PORT")).then_some((length, "PORT"))
}

/// Returns the length of a placeholder in angle brackets: `<%= … %>`, or a word where a shell reads no two
/// redirections, such as `<TOKEN>`.
pub fn in_angles(text: &str) -> Option<usize> {
    if text.starts_with("<%") {
        return text.find("%>").map(|end| end + 2);
    }
    let inside = text.strip_prefix('<')?;
    let (word, after) = inside.split_once('>')?;
    let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !word.ends_with(' ')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '));
    let in_capitals = !word.bytes().any(|byte| byte.is_ascii_lowercase());
    let ends = after.is_empty() || after.starts_with([' ', '\t', '\n', ':', '/', ',']);
    let no_file = after.is_empty() || after.trim_start().starts_with('-');
    (is_word && ends && (in_capitals || no_file)).then_some(word.len() + 2)
}

/// `${PORT:-3000}`: these variables always have a value.
fn default_at(text: &str) -> Option<(usize, &'static str)> {
    let inside = text.strip_prefix("${")?;
    let name = FILLED_IN.into_iter().find(|name| inside.starts_with(name))?;
    let default = inside[name.len()..].strip_prefix(':').unwrap_or(&inside[name.len()..]);
    default.starts_with(['-', '=', '?']).then_some(())?;
    Some((text.find('}')? + 1, name))
}

/// `$port` and `${port}`
fn lower_case_at(text: &str) -> Option<(usize, &'static str)> {
    let (written, length) = super::name_in(text.strip_prefix('$')?)?;
    let name = FILLED_IN.into_iter().find(|name| name.eq_ignore_ascii_case(written) && *name != written)?;
    Some((length + 1, name))
}

/// Writes `$(NAME)` as `$NAME`: commands are not written in capitals.
pub fn of_kubernetes(text: &str) -> String {
    let mut parts = text.split("$(");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let name = part
            .split_once(')')
            .filter(|(name, _)| super::is_name(name) && !name.bytes().any(|b| b.is_ascii_lowercase()));
        match name {
            Some((name, rest)) => written.push_str(&format!("${name}{rest}")),
            None => written.push_str(&format!("$({part}")),
        }
    }
    written
}
