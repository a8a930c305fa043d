//! A pattern that selects lines: a regular expression that takes time in proportion to its input, whatever the pattern.

use regex::{Regex, RegexBuilder};

/// Longest valid pattern, in bytes.
const LONGEST: usize = 1024;

/// A regular expression.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Returns the pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// It is too long or not a regular expression.
    pub fn parse(raw: &str) -> Result<Self, String> {
        if raw.len() > LONGEST {
            return Err(format!("a pattern has at most {LONGEST} bytes, this one {}", raw.len()));
        }
        let built = RegexBuilder::new(raw).size_limit(1 << 20).build();
        built.map(Self).map_err(|e| format!("{raw:?} is no regular expression: {}", cause(&e)))
    }

    /// Returns whether it occurs in a text.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The library first draws the pattern over several lines; its last line says what is wrong.
fn cause(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_and_a_bad_one_is_explained() {
        let pattern = Pattern::parse("(?i)error|^start").unwrap();
        assert!(pattern.is_in("an ERROR here") && pattern.is_in("started") && !pattern.is_in("restarted"));
        assert_eq!(Pattern::parse("a(").unwrap_err(), "\"a(\" is no regular expression: unclosed group");
        assert!(Pattern::parse("(a{1000}){1000}").is_err() && Pattern::parse(&"a".repeat(1025)).is_err());
    }
}
