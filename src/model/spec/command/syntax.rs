//! Shell syntax: what each piece of it is, and what to write instead, since no shell runs a command.

use std::fmt;

use super::is_name;

/// What only a shell can do, though it looks like a program.
pub(super) const BUILTINS: [&str; 19] = [
    "cd", "exec", "export", "source", ".", "set", "unset", "eval", "ulimit", "umask", "alias", "trap", "if", "for",
    "while", "until", "case", "{", "command",
];

/// What begins a block of commands, whose closing word cannot have an `exec` before it.
const BLOCKS: [&str; 7] = ["if", "for", "while", "until", "case", "{", "[["];

pub(super) const REDIRECTION: &str = "a shell's redirection";
pub(super) const PIPE: &str = "a shell's pipe";
/// Programs that only pass on or keep what they read.
pub(super) const SINKS: [&str; 6] = ["tee", "cat", "logger", "systemd-cat", "rotatelogs", "multilog"];
pub(super) const BACKGROUND: &str = "what starts a command in the background in a shell";

/// Which shell expands what stands within `${` and `}`.
pub(super) enum Expansion {
    /// Every shell.
    Posix,
    /// bash, and a plain `sh` fails at it.
    Bash,
    /// No shell: it is written for another tool.
    None,
}

impl Expansion {
    /// Reads a text that begins with the brace.
    pub(super) fn of(text: &str) -> Self {
        let Some((inside, _)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else { return Self::None };
        let indirect = inside.strip_prefix('!').filter(|inside| !inside.is_empty());
        let counted = inside.strip_prefix('#').filter(|inside| !inside.is_empty());
        let inside = indirect.or(counted).unwrap_or(inside);
        let length = match inside.chars().next() {
            Some('@' | '*' | '#' | '?' | '!' | '$' | '-') => 1,
            Some(first) if first.is_ascii_digit() => inside.bytes().take_while(u8::is_ascii_digit).count(),
            Some(first) if first.is_ascii_alphabetic() || first == '_' => {
                inside.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
            }
            _ => return Self::None,
        };
        let after = &inside[length..];
        let posix = [":-", ":=", ":?", ":+", "-", "=", "?", "+", "%", "#"];
        match after {
            "" if indirect.is_none() => Self::Posix,
            _ if counted.is_some() && !after.is_empty() && !after.starts_with('[') => Self::None,
            _ if indirect.is_none() && counted.is_none() && posix.iter().any(|known| after.starts_with(known)) => {
                Self::Posix
            }
            _ if after.is_empty()
                || after.starts_with([':', '/', '^', ',', '@', '[', '*', '-', '=', '?', '+', '%', '#']) =>
            {
                Self::Bash
            }
            _ => Self::None,
        }
    }
}

/// Shell syntax found in a text.
#[derive(Clone)]
pub(super) enum Syntax {
    /// What it is and how it is written.
    Operator(&'static str, String),
    /// A pattern for file names in place of a script: the word.
    Pattern(String),
    /// A path with the separators of Windows.
    Backslash(String),
    /// A variable that is not filled in, as written.
    Variable(String),
    /// What another tool fills in, and neither the agent nor a shell: as written.
    Foreign(String),
    /// `NAME=value` before the program.
    Assignment(String),
    /// A word that only a shell understands.
    Builtin(String),
    /// The `&` that ends a text.
    Background,
    /// A new line before an option of the command.
    Continued,
    /// An operator within an argument that looks like a URL: the argument, as written.
    Unquoted(String, String),
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Syntax::Operator(what, written) => {
                write!(f, "{written} is {what}, and no shell runs this command")?;
                match *what {
                    REDIRECTION => f.write_str(
                        " (the journal keeps what it writes to its output; a file of its own belongs in $DATA_DIR)",
                    ),
                    PIPE => f.write_str(
                        " (at a stop both sides are signalled, and what is written after that is lost: let the program \
                         write to its output, which the journal keeps, or to $DATA_DIR)",
                    ),
                    BACKGROUND => f.write_str(" (what runs beside it is a process of its own under processes)"),
                    _ => Ok(()),
                }
            }
            Syntax::Background => f.write_str(
                "& starts a command in the background, and the agent looks after one in the foreground; leave out & and nohup",
            ),
            Syntax::Continued => f.write_str("a new line ends the command, and the next one begins with an option of it"),
            Syntax::Unquoted(written, word) => {
                write!(f, "{written} ends a word in a shell, and here it stands within {word}; quote it")
            }
            Syntax::Pattern(word) => write!(
                f,
                "{word} is a shell's pattern for names, and no shell runs this command; name the file"
            ),
            Syntax::Backslash(word) => write!(f, "{word} is a path of Windows; directories are separated by /"),
            Syntax::Variable(written) => write!(
                f,
                "{written} is filled in by a shell, and no shell runs this command; only $PORT, $HOST and $DATA_DIR are \
                 filled in without one ($$ is a dollar)"
            ),
            Syntax::Foreign(written) => write!(
                f,
                "{written} is filled in by another tool, and neither by the agent nor by a shell; replace it by its value, or \
                 let the program read a variable that is set under env"
            ),
            Syntax::Assignment(name) => {
                write!(f, "{name}=… sets a variable in a shell, and no shell runs this command; put {name} under env")
            }
            Syntax::Builtin(word) => {
                write!(f, "{word} is a shell's own word, and no shell runs this command")?;
                match word.as_str() {
                    "cd" => f.write_str(", which starts in the artifact's directory"),
                    "exec" => f.write_str(", so leave it out"),
                    "export" => f.write_str("; variables stand under env"),
                    "source" | "." => f.write_str("; what that file sets stands under env"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Puts `exec` before the last command of a text, so that the shell becomes it. A pipeline, a block and a command that
/// begins with a variable assignment cannot have it.
pub(super) fn with_exec(text: &str, last_separator: Option<usize>) -> String {
    let (before, last) = text.split_at(last_separator.unwrap_or(0));
    let (before, command) = (before.trim(), last.trim());
    let first = command.split_whitespace().next().unwrap_or_default();
    let assigns = first.split_once('=').is_some_and(|(name, _)| is_name(name));
    let is_pipeline = before.contains('|') || command.contains(['|', '\n']);
    let in_a_block = text.split_whitespace().any(|word| BLOCKS.contains(&word)) || command.starts_with(['(', '{', '!']);
    if command.is_empty() || assigns || is_pipeline || in_a_block || BUILTINS.contains(&first) {
        return text.trim().to_owned();
    }
    format!("{before}{}exec {command}", if before.is_empty() { "" } else { " " })
}

/// Quotes a text so that both YAML and JSON read it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
