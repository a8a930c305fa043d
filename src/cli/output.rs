//! A verb's output: printed, and as JSON or YAML for programs.

use std::io::Write;

use serde_json::Value;

use super::args::Format;
use super::failure::Failure;

/// Prints a line on standard output.
///
/// # Errors
/// The output is closed.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|_| Failure::unheard())
}

/// Formats a value for programs; none if it is for people.
pub fn machine(format: Format, value: &Value) -> Option<String> {
    match format {
        Format::Table => None,
        Format::Json => Some(format!("{value:#}\n")),
        Format::Yaml => Some(yaml(value)),
    }
}

/// Formats a value as YAML.
pub fn yaml(value: &Value) -> String {
    let text = serde_saphyr::to_string(value).unwrap_or_else(|_| format!("{value:#}"));
    if text.ends_with('\n') { text } else { text + "\n" }
}
