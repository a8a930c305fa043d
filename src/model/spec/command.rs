//! A command: how a text is split into words, which shell syntax is refused in it, and what is filled in.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The variables that are filled in wherever they occur in a command.
const FILLED_IN: [&str; 3] = ["PORT", "HOST", "DATA_DIR"];

/// A command: a list of words, or one string split as a shell splits words. No shell runs it.
///
/// In its words `$PORT`, `$HOST` and `$DATA_DIR` stand for their values, and a dollar that should stay before one of
/// these names is doubled. Every other dollar is itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    /// Returns the words, before anything is filled in; there is at least one.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Returns the words with the values of `variables` filled in. A name without a value stays as it is.
    pub fn filled_in(&self, variables: &BTreeMap<String, String>) -> Vec<String> {
        self.0.iter().map(|word| fill_in(word, &mut |name| variables.get(name).cloned())).collect()
    }

    /// Returns whether one of the words has this variable filled in.
    pub fn uses(&self, variable: &str) -> bool {
        let mut found = false;
        for word in &self.0 {
            fill_in(word, &mut |name| {
                found |= name == variable;
                None
            });
        }
        found
    }

    /// Checks the words.
    ///
    /// # Errors
    /// The program is not a name, an absolute path, or a path beneath the bundle.
    pub fn of_words(words: Vec<String>) -> Result<Self, String> {
        let Some(program) = words.first() else { return Err("the command is empty".into()) };
        if program.is_empty() || program.starts_with(['+', '-', '!', '@', ':', '|']) {
            return Err(format!(
                "{program:?} is not a program: a name, an absolute path, or a path beneath the bundle like ./app"
            ));
        }
        if !program.starts_with('/') && program.split('/').any(|part| part == "..") {
            return Err(format!("{program:?} leads out of the bundle"));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(NUL.into());
        }
        Ok(Self(words))
    }

    /// Reads a command from one text.
    ///
    /// # Errors
    /// It contains what only a shell understands; the message has the list that runs one.
    pub fn of_text(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err(NUL.into());
        }
        let reader = Reader::of(text)?;
        let filled = placeholder::replaced(text);
        if let Some(placeholder::Found { written, name, text }) = filled {
            let as_it_is = if written.starts_with(['$', '<']) { "" } else { "; quote it if it is meant as it is" };
            return Err(format!("{written} is not filled in, ${name} is; {}{as_it_is}", Reader::line_of(&text)));
        }
        match reader.found() {
            Some(syntax @ Syntax::Foreign(_)) => Err(syntax.to_string()),
            Some(syntax) => Err(format!("{syntax}; {}", reader.instead(&syntax))),
            None => Self::of_words(reader.words),
        }
    }

    /// Says what is wrong with a program that cannot be one. A stored command is not checked again: it was accepted
    /// once. `unconfined`: it runs without a sandbox.
    pub fn flaw(&self, unconfined: bool) -> Option<String> {
        let (program, arguments) = self.0.split_first()?;
        let copied =
            copied_from(program, arguments).or_else(|| for_another_user(program, arguments).filter(|_| !unconfined));
        let kubernetes = || {
            let written = |name: &&&str| self.0.iter().any(|word| word.contains(&format!("$({name})")));
            let name = FILLED_IN.iter().find(written)?;
            Some(format!("$({name}) is how Kubernetes fills in a variable; write ${name}"))
        };
        if let Some(flaw) = copied.or_else(kubernetes) {
            return Some(flaw);
        }
        let after_name =
            |text: &str| name_in(text).filter(|(name, _)| !FILLED_IN.contains(name)).map(|(_, length)| length);
        let unknown = program.strip_prefix('$').and_then(|text| text[after_name(text)?..].strip_prefix('/'));
        (program.starts_with('~') || unknown.is_some()).then(|| {
            format!(
                "{program:?} is a place that only a shell finds, and apps cannot get at homes; a program of the artifact is \
                 written ./name, one of the project's data $DATA_DIR/name, one that is installed by its name or whole path"
            )
        })
    }
}

/// Programs that run another one as another user are not for apps.
fn for_another_user(program: &str, arguments: &[String]) -> Option<String> {
    const WITH_VALUE: [&str; 14] =
        ["-u", "-g", "-p", "-C", "-h", "-r", "-t", "-T", "-R", "-D", "-U", "--user", "--group", "--chdir"];
    let name = program.rsplit('/').next().unwrap_or(program);
    let skipped = match name {
        "sudo" | "doas" => {
            let mut at = 0;
            while let Some(word) = arguments.get(at).filter(|word| word.starts_with('-') || word.contains('=')) {
                at += if WITH_VALUE.contains(&word.as_str()) { 2 } else { 1 };
                if word == "--" {
                    break;
                }
            }
            Some(at)
        }
        "gosu" | "su-exec" => Some(1),
        "su" | "runuser" | "pkexec" => None,
        _ => return None,
    };
    let rest = skipped.and_then(|skipped| arguments.get(skipped..)).filter(|rest| !rest.is_empty());
    let instead = rest.map_or("leave it out".to_owned(), |rest| Reader::line_of(&joined(rest)));
    Some(format!(
        "{name} is for other users, and a process runs as its project's own user without more rights; {instead}"
    ))
}

/// Returns whether a name consists of what names usually have, beside separators and patterns. Any other one was meant as
/// it stands: a file may have any name.
fn is_plain(program: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./*:".contains(c);
    program.split('\\').all(|part| !part.is_empty() && part.chars().all(is_plain))
}

/// Recognizes a line that was copied from elsewhere, by its first word.
fn copied_from(program: &str, arguments: &[String]) -> Option<String> {
    let rest = joined(arguments);
    let line = || Reader::line_of(&rest);
    let last = arguments.last().map_or(program, String::as_str);
    match program {
        "CMD" | "ENTRYPOINT" | "RUN" => Some(format!("{program} is a Dockerfile's word; {}", line())),
        "$" | "#" | "%" if !rest.is_empty() => Some(format!("{program} is a shell's prompt; {}", line())),
        _ if program.ends_with(':') && !rest.is_empty() && is_plain(program) => {
            Some(format!("{program} is how a line of a Procfile begins; {}", line()))
        }
        _ if program.starts_with('[')
            && is_plain(program.trim_matches(['[', ',', '"', '\'']))
            && last.ends_with(']') =>
        {
            let all = format!("{program} {}", arguments.join(" "));
            Some(format!("a list of words stands without quotes around it: run: {}", all.trim()))
        }
        _ if program.contains('\\') && is_plain(program) => Some(format!(
            "{program:?} is a path of Windows; directories are separated by /, as in {:?}",
            program.replace('\\', "/")
        )),
        _ if program.contains('*') && is_plain(program) => Some(format!(
            "{program:?} is a shell's pattern for names, and no shell runs this command; name the program, or write \
             [sh, -c, {}]",
            quoted(format!("exec {program} {rest}").trim())
        )),
        _ => None,
    }
}

const NUL: &str = "a word holds a NUL byte, which no argument can";

/// What only a shell can do, though it looks like a program.
const BUILTINS: [&str; 19] = [
    "cd", "exec", "export", "source", ".", "set", "unset", "eval", "ulimit", "umask", "alias", "trap", "if", "for",
    "while", "until", "case", "{", "command",
];

/// What begins a block of commands, whose closing word cannot have an `exec` before it.
const BLOCKS: [&str; 7] = ["if", "for", "while", "until", "case", "{", "[["];

const REDIRECTION: &str = "a shell's redirection";
const PIPE: &str = "a shell's pipe";
/// Programs that only pass on or keep what they read.
const SINKS: [&str; 6] = ["tee", "cat", "logger", "systemd-cat", "rotatelogs", "multilog"];
const BACKGROUND: &str = "what starts a command in the background in a shell";

/// Replaces the names that are filled in; the values come from `value`.
fn fill_in(word: &str, value: &mut dyn FnMut(&str) -> Option<String>) -> String {
    let (mut filled, mut rest) = (String::with_capacity(word.len()), word);
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let dollars = rest[at..].len() - rest[at..].trim_start_matches('$').len();
        rest = &rest[at + dollars..];
        let Some((name, length)) = name_in(rest).filter(|(name, _)| FILLED_IN.contains(name)) else {
            filled.push_str(&"$".repeat(dollars));
            continue;
        };
        filled.push_str(&"$".repeat(dollars / 2));
        if dollars % 2 == 0 {
            filled.push_str(&rest[..length]);
        } else {
            match value(name) {
                Some(value) => filled.push_str(&value),
                None => filled.push_str(&format!("${}", &rest[..length])),
            }
        }
        rest = &rest[length..];
    }
    filled.push_str(rest);
    filled
}

/// Returns the variable that a text begins with, without the dollar before it, and its length as written.
fn name_in(text: &str) -> Option<(&str, usize)> {
    if let Some(inside) = text.strip_prefix('{') {
        let name = &inside[..inside.find('}')?];
        return is_name(name).then_some((name, name.len() + 2));
    }
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    is_name(&text[..length]).then_some((&text[..length], length))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Which shell expands what stands within `${` and `}`.
enum Expansion {
    /// Every shell.
    Posix,
    /// bash, and a plain `sh` fails at it.
    Bash,
    /// No shell: it is written for another tool.
    None,
}

impl Expansion {
    /// Reads a text that begins with the brace.
    fn of(text: &str) -> Self {
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
enum Syntax {
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
fn with_exec(text: &str, last_separator: Option<usize>) -> String {
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

/// Writes words as one text, each in quotes that needs them.
fn joined(words: &[String]) -> String {
    let plain = |word: &str| {
        let reads = |reader: Reader| reader.words == [word] && reader.found().is_none();
        !word.is_empty() && placeholder::replaced(word).is_none() && Reader::of(word).is_ok_and(reads)
    };
    let written = words.iter().map(|word| match word {
        word if plain(word) => word.clone(),
        word if word.contains('\'') => quoted(word),
        word => format!("'{word}'"),
    });
    written.collect::<Vec<_>>().join(" ")
}

/// Quotes a text so that both YAML and JSON read it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A dollar that stands for itself, while the word around it is incomplete. No text contains it otherwise.
const DOLLAR: char = '\0';

/// Splits a text as a shell does, and notes the first thing in it that needs one.
struct Reader<'a> {
    text: &'a str,
    words: Vec<String>,
    syntax: Option<Syntax>,
    /// What another tool fills in; no shell helps.
    foreign: Option<Syntax>,
    /// Where the last `&&`, `&` or `;` ends.
    last_separator: Option<usize>,
    /// Position of the last `|`.
    pipe: Option<usize>,
    /// Position of the `&` that ends the text.
    background: Option<usize>,
    /// Start of the name of each file that it writes beside its code, which is read-only.
    outputs: Vec<usize>,
    /// The words with a pattern for file names outside of quotes.
    patterns: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        let (words, outputs, patterns) = (Vec::new(), Vec::new(), Vec::new());
        let mut reader = Self {
            text,
            words,
            syntax: None,
            foreign: None,
            last_separator: None,
            pipe: None,
            background: None,
            outputs,
            patterns,
        };
        reader.read()?;
        Ok(reader)
    }

    fn read(&mut self) -> Result<(), String> {
        let open = || "the command has a quote that does not end".to_owned();
        let mut at = 0;
        let mut word: Option<String> = None;
        // Whether all of the word so far was unquoted: only such a word can set a variable.
        let mut bare = true;
        while let Some(c) = self.text[at..].chars().next() {
            let after = at + c.len_utf8();
            match c {
                ' ' | '\t' | '\n' => {
                    self.end_word(&mut word, &mut bare);
                    let next = self.text[after..].trim_start();
                    if c == '\n' && !self.words.is_empty() && !next.is_empty() {
                        self.note(match next.starts_with('-') {
                            true => Syntax::Continued,
                            false => {
                                Syntax::Operator("where another command begins in a shell", "a new line".to_owned())
                            }
                        });
                    }
                    at = after;
                }
                '#' if word.is_none() => at = self.text[at..].find('\n').map_or(self.text.len(), |end| at + end),
                '\'' => {
                    bare = false;
                    let end = self.text[after..].find('\'').ok_or_else(open)? + after;
                    word.get_or_insert_default().push_str(&self.text[after..end]);
                    at = end + 1;
                }
                '"' => {
                    bare = false;
                    at = self.double_quoted(after, word.get_or_insert_default()).ok_or_else(open)?;
                }
                '\\' => {
                    bare = false;
                    let escaped = self.text[after..].chars().next().ok_or("the command ends in a backslash")?;
                    if self.words.is_empty() && (escaped.is_alphanumeric() || escaped == '.') {
                        let program = self.text.split_whitespace().next().unwrap_or_default();
                        self.note(Syntax::Backslash(program.to_owned()));
                    }
                    at = after + escaped.len_utf8();
                    if escaped != '\n' {
                        word.get_or_insert_default().push(literal(escaped));
                    }
                }
                '$' => at = self.dollar(at, word.get_or_insert_default()),
                '<' if let Some(length) = placeholder::in_angles(&self.text[at..]) => {
                    let written = self.text[at..at + length].to_owned();
                    self.foreign.get_or_insert(Syntax::Foreign(written));
                    at += length;
                }
                '|' | '&' | ';' | '<' | '>' | '`' => {
                    self.note_unquoted(at, c);
                    // `2>file`: the digits belong to the operator.
                    self.end_word(&mut word, &mut bare);
                    at = self.operator(at);
                }
                c => {
                    if c == '=' && bare && self.words.is_empty() && word.as_deref().is_some_and(is_name) {
                        self.note(Syntax::Assignment(word.clone().unwrap_or_default()));
                    }
                    if matches!(c, '*' | '?') && self.patterns.last() != Some(&self.words.len()) {
                        self.patterns.push(self.words.len());
                    }
                    word.get_or_insert_default().push(c);
                    at = after;
                }
            }
        }
        self.end_word(&mut word, &mut bare);
        if let Some(word) = self.pattern_for_script() {
            self.note(Syntax::Pattern(word));
        }
        Ok(())
    }

    /// Returns the pattern that stands where an interpreter expects a script. Elsewhere it may be meant as it is.
    fn pattern_for_script(&self) -> Option<String> {
        let name = self.words.first()?.rsplit('/').next()?;
        let takes_a_file = name.starts_with("python")
            || ["node", "nodejs", "ruby", "perl", "php", "java", "dotnet", "bun", "deno", "sh", "bash"].contains(&name);
        let at = self.words.iter().skip(1).position(|word| !word.starts_with('-') && word != "run")? + 1;
        let before = &self.words[at - 1];
        let is_value = at > 1 && before.starts_with('-') && before != "-jar";
        let found = takes_a_file && !is_value && self.patterns.contains(&at);
        found.then(|| self.words[at].clone())
    }

    fn end_word(&mut self, word: &mut Option<String>, bare: &mut bool) {
        self.words.extend(word.take().map(|word| with_dollars(&word)));
        *bare = true;
    }

    /// Keeps the first: it is what a reader of the message sees first.
    fn note(&mut self, syntax: Syntax) {
        let is_cd = self.words.first().is_some_and(|word| BUILTINS.contains(&word.as_str()));
        if self.syntax.is_none() && !is_cd {
            self.syntax = Some(syntax);
        }
    }

    /// Notes an operator in the middle of what looks like a URL.
    fn note_unquoted(&mut self, at: usize, operator: char) {
        let blank = |c: char| c.is_whitespace();
        let before = self.text[..at].char_indices().rev().find(|(_, c)| blank(*c));
        let begin = before.map_or(0, |(before, c)| before + c.len_utf8());
        let end = self.text[at..].find(blank).map_or(self.text.len(), |length| at + length);
        let word = &self.text[begin..end];
        let inside = begin < at && at + operator.len_utf8() < end && word.contains("://");
        if inside && !word.contains(['\'', '"', '\\', '`']) && matches!(operator, '&' | ';' | '|') {
            self.note(Syntax::Unquoted(operator.to_string(), word.to_owned()));
        }
    }

    /// Returns what in the text needs a shell; of several things, the most telling one.
    fn found(&self) -> Option<Syntax> {
        let builtin = self.words.first().filter(|word| BUILTINS.contains(&word.as_str()));
        let background = self.background.map(|_| Syntax::Background);
        self.foreign
            .clone()
            .or(background)
            .or_else(|| self.syntax.clone())
            .or_else(|| builtin.cloned().map(Syntax::Builtin))
    }

    /// Says what to write instead: the text without what is dropped, or with a quoted word, or a list that runs a
    /// shell.
    fn instead(&self, syntax: &Syntax) -> String {
        if let Some(said) = self.without_sink() {
            return said;
        }
        let text = match syntax {
            Syntax::Continued => self.text.trim().lines().map(str::trim).collect::<Vec<_>>().join(" "),
            Syntax::Unquoted(_, word) => self.text.replacen(word.as_str(), &format!("'{word}'"), 1),
            Syntax::Backslash(word) => {
                let path = word.replace('\\', "/");
                let without_drive = path.split_once(":/").map_or(path.as_str(), |(_, path)| path);
                self.text.replacen(word.as_str(), without_drive, 1)
            }
            Syntax::Builtin(word) if word == "exec" => {
                self.text.trim_start().strip_prefix("exec ").unwrap_or(self.text).to_owned()
            }
            _ => self.kept(),
        };
        if text != self.text {
            return Self::line_of(&text);
        }
        format!("to run a shell, write [{}]", self.list_form())
    }

    /// Says how to write a text: as it is, or as a list that runs a shell.
    fn line_of(text: &str) -> String {
        let reader = Reader::of(text).ok();
        if let Some(said) = reader.as_ref().and_then(Reader::without_sink) {
            return said;
        }
        match reader.filter(|reader| reader.found().is_some()) {
            Some(Reader { foreign: Some(foreign), .. }) => format!("{foreign}"),
            Some(reader) => match reader.kept() {
                kept if kept == text => format!("to run a shell, write [{}]", reader.list_form()),
                kept => Self::line_of(&kept),
            },
            None => format!("write {}", text.trim()),
        }
    }

    /// Says what to write without a pipe at the end that only keeps the output, if there is one.
    fn without_sink(&self) -> Option<String> {
        let (before, after) = self.text.split_at(self.pipe?);
        let sink = after.trim_start_matches(['|', '&']).trim().trim_end_matches('&').trim();
        let name = sink.split_whitespace().next()?;
        let name = name.rsplit('/').next().unwrap_or(name);
        if !SINKS.contains(&name) || sink.contains(['|', '&', ';', '\n', '(', ')', '`']) {
            return None;
        }
        let before = before.trim_end().trim_end_matches("2>&1").trim();
        let before = before.strip_prefix("nohup ").unwrap_or(before);
        Some(format!("leave out `| {sink}`, since the journal keeps the output; {}", Self::line_of(before)))
    }

    /// Returns the text without the `&` at its end and its `nohup`, and with its files in the data directory.
    fn kept(&self) -> String {
        let end = self.background.unwrap_or(self.text.len());
        let mut kept = self.text[..end].to_owned();
        for at in self.outputs.iter().rev().filter(|at| **at < end) {
            kept.insert_str(*at, "$DATA_DIR/");
        }
        if self.background.is_none() && kept.trim_end().ends_with(';') {
            kept = kept.trim_end().trim_end_matches(';').trim_end().to_owned();
        }
        kept = placeholder::of_kubernetes(&kept);
        match kept.trim_start().strip_prefix("nohup ") {
            Some(rest) if self.background.is_some() => rest.trim().to_owned(),
            _ if self.background.is_some() => kept.trim().to_owned(),
            _ => kept,
        }
    }

    /// Returns the words of a list in which a shell runs this text.
    fn list_form(&self) -> String {
        if let [shell, option, rest @ ..] = self.words.as_slice()
            && ["sh", "bash", "dash", "/bin/sh", "/bin/bash"].contains(&shell.as_str())
            && option == "-c"
        {
            let words: Vec<String> = rest.iter().map(|word| quoted(word)).collect();
            return format!("{shell}, -c, {}", words.join(", "));
        }
        let shell = if self.is_for_bash() { "bash" } else { "sh" };
        format!("{shell}, -c, {}", quoted(&with_exec(self.text, self.last_separator)))
    }

    /// Returns whether a plain `sh` does not know what is here, or takes it for something else.
    fn is_for_bash(&self) -> bool {
        let blank_or_digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        let both = self.text.match_indices(">&").any(|(at, _)| !blank_or_digit(self.text[at + 2..].trim_start()));
        let sources = |pair: &[String]| pair[0] == "source" || pair[0] == "." && !pair[1].contains('/');
        let expands = |(at, _)| matches!(Expansion::of(&self.text[at + 1..]), Expansion::Bash);
        both || self.text.match_indices("${").any(expands)
            || ["&>", "<<<", "<(", ">(", "[["].iter().any(|known| self.text.contains(known))
            || self.words.windows(2).any(sources)
    }

    fn double_quoted(&mut self, mut at: usize, word: &mut String) -> Option<usize> {
        loop {
            let c = self.text[at..].chars().next()?;
            let after = at + c.len_utf8();
            at = match c {
                '"' => return Some(after),
                '$' => self.dollar(at, word),
                '`' => {
                    self.operator(at);
                    word.push(c);
                    after
                }
                '\\' => {
                    let escaped = self.text[after..].chars().next()?;
                    let next = after + escaped.len_utf8();
                    match escaped {
                        '\n' => {}
                        '$' | '`' | '"' | '\\' => word.push(literal(escaped)),
                        other => word.extend(['\\', other]),
                    }
                    next
                }
                other => {
                    word.push(other);
                    after
                }
            };
        }
    }

    /// Reads what a dollar begins outside of single quotes.
    fn dollar(&mut self, at: usize, word: &mut String) -> usize {
        let rest = &self.text[at + 1..];
        if rest.starts_with('$') {
            word.push(DOLLAR);
            return at + 2;
        }
        if let Some((name, length)) = name_in(rest) {
            // A program in a home is refused with words of its own.
            let is_home = name == "HOME" && word.is_empty() && self.words.is_empty() && rest[length..].starts_with('/');
            if !FILLED_IN.contains(&name) && !is_home {
                self.note(Syntax::Variable(format!("${}", &rest[..length])));
            }
            word.push('$');
            word.push_str(&rest[..length]);
            return at + 1 + length;
        }
        match rest.chars().next() {
            Some('(') => self.note(Syntax::Operator("the output of another command in a shell", "$(".to_owned())),
            Some('{') => {
                let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                let written = format!("${}", &rest[..end]);
                match Expansion::of(rest) {
                    Expansion::None => _ = self.foreign.get_or_insert(Syntax::Foreign(written)),
                    Expansion::Posix | Expansion::Bash => self.note(Syntax::Variable(written)),
                }
            }
            Some(c @ ('0'..='9' | '@' | '*' | '#' | '?' | '!' | '-')) => self.note(Syntax::Variable(format!("${c}"))),
            _ => {}
        }
        word.push('$');
        at + 1
    }

    fn operator(&mut self, at: usize) -> usize {
        const OPERATORS: [(&str, &str); 12] = [
            ("&&", "what runs one command after another in a shell"),
            ("||", "what runs one command or another in a shell"),
            ("<<", REDIRECTION),
            (">>", REDIRECTION),
            (">&", REDIRECTION),
            ("&>", REDIRECTION),
            ("|", PIPE),
            ("&", BACKGROUND),
            (";", "what runs one command after another in a shell"),
            ("<", REDIRECTION),
            (">", REDIRECTION),
            ("`", "the output of another command in a shell"),
        ];
        let rest = &self.text[at..];
        let found = OPERATORS.iter().find(|(written, _)| rest.starts_with(written));
        let Some((written, what)) = found else { return at + 1 };
        let end = at + written.len();
        let after = self.text[end..].trim_start();
        let is_last = after.is_empty() || after.starts_with('#');
        match *written {
            "&" if is_last => self.background = Some(at),
            "|" => self.pipe = Some(at),
            "&&" | ";" | "&" => self.last_separator = Some(end),
            ">&" if after.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {}
            ">" | ">>" | "&>" | ">&" => {
                let after = after.trim_start_matches('>').trim_start();
                let quote = usize::from(after.starts_with(['\'', '"']));
                // `>&` was read as one; a place on the server or in a variable is the author's own business.
                if !is_last && !after[quote..].starts_with(['/', '$', '&', '(', '~']) {
                    self.outputs.push(self.text.len() - after.len() + quote);
                }
            }
            _ => {}
        }
        self.note(Syntax::Operator(what, (*written).to_owned()));
        end
    }
}

/// What other tools fill in, written for one of the variables that are filled in here.
mod placeholder {
    use super::{Expansion, FILLED_IN, is_name};

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
            inside.get(..length).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
                && inside[length..].starts_with(':')
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
}

fn literal(c: char) -> char {
    if c == '$' { DOLLAR } else { c }
}

/// Writes the dollars that stand for themselves: doubled before a name that would be filled in otherwise.
fn with_dollars(word: &str) -> String {
    let (mut written, mut rest) = (String::with_capacity(word.len()), word);
    while let Some(at) = rest.find(DOLLAR) {
        written.push_str(&rest[..at]);
        let after = rest[at..].trim_start_matches(DOLLAR);
        let count = rest[at..].len() - after.len();
        let follows = name_in(after.strip_prefix('$').unwrap_or(after));
        let doubled = follows.is_some_and(|(name, _)| FILLED_IN.contains(&name));
        written.push_str(&"$".repeat(if doubled { 2 * count } else { count }));
        rest = after;
    }
    written.push_str(rest);
    written
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a string or a list of words")
            }
            fn visit_str<E: de::Error>(self, raw: &str) -> Result<Command, E> {
                Command::of_text(raw).map_err(E::custom)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Command, A::Error> {
                let words = Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                Command::of_words(words).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Command::of_text(text).unwrap_or_else(|why| panic!("{text}: {why}")).0
    }

    fn run(text: &str) -> Vec<String> {
        let values = [("PORT", "21003"), ("HOST", "127.0.0.1"), ("DATA_DIR", "/data")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Command::of_text(text).unwrap_or_else(|why| panic!("{text}: {why}")).filled_in(&values)
    }

    fn refusal(text: &str) -> String {
        Command::of_text(text).err().unwrap_or_default()
    }

    #[test]
    fn a_text_without_shell_syntax_is_split_as_a_shell_splits_it() {
        for text in [
            "./app",
            "  ./app  serve\t--a=b c=d\n",
            "./app 'a && b' \"x; y\" a\\ b '' \"\" a'b'\"c\"d",
            "./app \"a\\\"b\\n\" # a comment",
            "./app a#b -- {} * ~ ? [x] (y) !z %h --f={a,b} A=b",
            "é 'ü' \"→\"",
        ] {
            assert_eq!(words(text), shlex::split(text).unwrap(), "{text}");
        }
        assert_eq!(words("./app \\\n --long"), ["./app", "--long"], "a line that goes on, as in a shell");
        for text in ["'", "a \"b", "a \\"] {
            assert!(shlex::split(text).is_none() && Command::of_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn three_variables_are_filled_in_wherever_they_stand_in_a_text() {
        for (text, meant) in [
            ("./app $PORT --port", "21003"),
            ("./app --listen=$HOST:$PORT", "--listen=127.0.0.1:21003"),
            ("./app x${PORT}y", "x21003y"),
            ("./app \"$DATA_DIR/my file\"", "/data/my file"),
            ("./app '${DATA_DIR}/x'", "/data/x"),
            ("./app '$OTHER $(x) && `y` $PORTS'", "$OTHER $(x) && `y` $PORTS"),
            ("./app $$", "$"),
            ("./app $$PORT", "$PORT"),
            ("./app $$$PORT", "$21003"),
            ("./app $$$$PORT", "$$PORT"),
            ("./app \\$PORT", "$PORT"),
            ("./app \"\\$PORT\"", "$PORT"),
            ("./app \\$'PORT'", "$PORT"),
            ("./app $$HOME 5$ 1$% a", "$HOME"),
        ] {
            assert_eq!(run(text)[1], meant, "{text}");
        }
        assert_eq!(run("$DATA_DIR/bin/app"), ["/data/bin/app"]);
    }

    #[test]
    fn in_a_list_three_variables_are_filled_in_and_the_rest_stays() {
        let list = |word: &str| {
            let values = [("DATA_DIR".to_owned(), "/data".to_owned())].into();
            Command::of_words(vec!["sh".into(), word.into()]).unwrap().filled_in(&values)[1].clone()
        };
        for (written, meant) in [
            ("cd $DATA_DIR && exec x \"$HOME\" | y > ${DATA_DIR}/z", "cd /data && exec x \"$HOME\" | y > /data/z"),
            ("echo $$ $DATA_DIRS ${DATA_DIR:-x} $", "echo $$ $DATA_DIRS ${DATA_DIR:-x} $"),
            ("$$DATA_DIR", "$DATA_DIR"),
            ("$PORT", "$PORT"),
        ] {
            assert_eq!(list(written), meant, "{written}");
        }
    }

    #[test]
    fn a_program_that_only_a_shell_finds_is_a_flaw_and_is_read_all_the_same() {
        for (words, flawed) in [
            (["~/bin/app", "x"], true),
            (["$HOME/bin/app", "x"], true),
            (["${HOME}/app", "x"], true),
            (["$DATA_DIR/app", "x"], false),
            (["./app", "~/x"], false),
            (["sh", "$HOME"], false),
        ] {
            let command = Command::of_words(words.map(str::to_owned).to_vec()).unwrap();
            assert_eq!(command.flaw(false).is_some(), flawed, "{words:?}");
        }
        for text in ["~/bin/app serve", "$HOME/bin/app serve", "${HOME}/bin/app serve"] {
            let flaw = Command::of_words(words(text)).unwrap().flaw(false).unwrap_or_default();
            assert!(flaw.contains("apps cannot get at homes"), "{text}: {flaw}");
        }
        assert!(refusal("./app $HOME/x").contains("$HOME is filled in by a shell"));
    }

    #[test]
    fn an_option_on_the_next_line_is_joined_to_its_command() {
        let said = refusal("./app serve\n  --port $PORT\n  -v\n");
        assert!(said.ends_with("; write ./app serve --port $PORT -v"), "{said}");
        assert!(refusal("./a\n./b").contains("where another command begins"));
        assert!(refusal("./a x\u{2000}y|z").contains('|'), "a wide blank is no byte");
        for program in [r"a\ b*", r"\ \n", r"ü*\n", "ü:", "[ü"] {
            let command = Command::of_words(vec![program.to_owned(), "x]".to_owned()]).unwrap();
            assert_eq!(command.flaw(false), None, "a file may have any name");
        }
    }

    #[test]
    fn what_other_tools_fill_in_is_refused_with_the_line_to_write() {
        for (text, written, line) in [
            ("./a --port %PORT%", "%PORT%", "write ./a --port $PORT; quote it"),
            ("./a -b {{HOST}}:{{ PORT }}", "{{HOST}}", "write ./a -b $HOST:$PORT; quote it"),
            ("./a --port={{ .PORT }} {{env.HOST}}", "{{ .PORT }}", "write ./a --port=$PORT $HOST"),
            ("./a {PORT}", "{PORT}", "write ./a $PORT"),
            ("./a <PORT>", "<PORT>", "write ./a $PORT"),
            ("./a @PORT@ __HOST__", "@PORT@", "write ./a $PORT $HOST"),
            ("./a $(PORT)", "$(PORT)", "write ./a $PORT"),
            ("./a \"$(DATA_DIR)/x y\"", "$(DATA_DIR)", "write ./a \"$DATA_DIR/x y\""),
            ("./a ${PORT:-3000}", "${PORT:-3000}", "write ./a $PORT"),
            ("./a -b ${HOST-0.0.0.0}:${PORT}", "${HOST-0.0.0.0}", "write ./a -b $HOST:${PORT}"),
            ("./a ${{ PORT }}", "${{ PORT }}", "write ./a $PORT"),
            ("./a $env:PORT", "$env:PORT", "write ./a $PORT"),
            ("./a $port", "$port", "write ./a $PORT"),
            ("./a --port=${process.env.PORT}", "${process.env.PORT}", "write ./a --port=$PORT"),
            ("./a -p${process.env.PORT || 3000}x", "${process.env.PORT || 3000}", "write ./a -p${PORT}x"),
            ("./a ${server.host}:${server.port:8080}", "${server.host}", "write ./a $HOST:$PORT"),
            ("./a \"${app.server.port}\"", "${app.server.port}", "write ./a \"$PORT\""),
            ("./a ${PORT:8080}", "${PORT:8080}", "write ./a $PORT"),
            ("./a ${port:8080}", "${port:8080}", "write ./a $PORT"),
            ("./a ${ PORT }", "${ PORT }", "write ./a $PORT"),
            ("./a ${{ vars.PORT }}", "${{ vars.PORT }}", "write ./a $PORT"),
            ("./a -p <%= ENV['PORT'] %>", "<%= ENV['PORT'] %>", "write ./a -p $PORT"),
            ("./a -p <%= ENV.fetch(\"PORT\", 3000) %>", "<%= ENV.fetch(\"PORT\", 3000) %>", "write ./a -p $PORT"),
            ("./a <%=port%>", "<%=port%>", "write ./a $PORT"),
            ("./a #{ENV['PORT']}", "#{ENV['PORT']}", "write ./a $PORT"),
            ("./a {{ env \"PORT\" }}", "{{ env \"PORT\" }}", "write ./a $PORT"),
            ("./a {$PORT} {env.HOST}", "{$PORT}", "write ./a $PORT $HOST"),
            ("./a --port=%(ENV_PORT)s", "%(ENV_PORT)s", "write ./a --port=$PORT; quote it"),
            ("./a [PORT]", "[PORT]", "write ./a $PORT; quote it"),
            ("./a <port> -v", "<port>", "write ./a $PORT"),
            ("./a --bind 0.0.0.0:port", "port", "write ./a --bind 0.0.0.0:$PORT; quote it"),
            ("./a :PORT", "PORT", "write ./a :$PORT; quote it"),
            ("./a -b $HOST:port", "port", "write ./a -b $HOST:$PORT"),
            ("cd x && ./a %PORT%", "%PORT%", r#"[sh, -c, "cd x && exec ./a $PORT"]"#),
        ] {
            let said = refusal(text);
            let begin = format!("{written} is not filled in, $");
            assert!(said.starts_with(&begin) && said.contains(line), "{text}: {said}");
        }
        for text in [
            "./a '%PORT%' \"{PORT}\" '<PORT>'",
            "./a name:port --map a:PORT [port] [x] [PORTS] %(ENV_PORTS)s \\${a.port} $${a.b}",
            "node -e 'listen(`${process.env.PORT}`)'",
            "./a %h %PORTS% {PORTS} x{PORT}y {{ port }} {host} %PORT a@HOST b__PORT__",
            "./a --query 'SELECT * FROM x' --match '^a.*$' \"*.js\"",
            "./a *.js --origin *.example.com --allow * -I ?",
            "java -cp lib/* Main",
            "node server.js *.txt",
            "sh -c 'exec node *.js'",
            "./a 'C:\\x' \"a\\b\"",
        ] {
            assert_eq!(refusal(text), "", "{text}");
        }
    }

    #[test]
    fn what_no_shell_fills_in_gets_no_advice_to_run_one() {
        for (text, written) in [
            ("./a --db=${process.env.DATABASE_URL}", "${process.env.DATABASE_URL}"),
            ("cd x && ./a ${app.name}", "${app.name}"),
            ("./a > log ${{ matrix.x }}", "${{ matrix.x }"),
            ("./a \"${#A:-x}\" &", "${#A:-x}"),
            ("./a <%= name %>", "<%= name %>"),
            ("./a --token <YOUR-TOKEN> x", "<YOUR-TOKEN>"),
            ("./a --token <your token>", "<your token>"),
            ("./a <name> --x", "<name>"),
        ] {
            let said = refusal(text);
            let is_foreign = said.starts_with(&format!("{written} is filled in by another tool"));
            assert!(is_foreign && !said.contains("-c"), "{text}: {said}");
        }
        let said = refusal("./a ${server.port} ${app.name}");
        assert!(said.contains("$PORT is; ${app.name} is filled in by another tool"), "{said}");
        for (text, shell) in [
            ("./a ${A:-x} ${A%y} ${#A} ${A+z} ${1}", "[sh, -c"),
            ("./a ${A/x/y}", "[bash, -c"),
            ("./a ${A:0:3}", "[bash, -c"),
            ("./a ${A^^}", "[bash, -c"),
            ("./a ${A[0]} ${#A[@]} ${!A}", "[bash, -c"),
            ("./a <in >out", "[sh, -c"),
            ("./a <in> out", "[sh, -c"),
        ] {
            assert!(refusal(text).contains(shell), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn a_line_copied_from_elsewhere_is_known_by_its_first_word() {
        for (text, said) in [
            ("web: node server.js", "web: is how a line of a Procfile begins; write node server.js"),
            ("CMD node server.js", "CMD is a Dockerfile's word; write node server.js"),
            ("'$' ./app --x 'a b'", "$ is a shell's prompt; write ./app --x 'a b'"),
            (r#"["node", "server.js"]"#, "without quotes around it: run: [node, server.js]"),
            ("./app-* serve", r#"name the program, or write [sh, -c, "exec ./app-* serve"]"#),
            ("'bin\\app'", "is a path of Windows"),
            ("sudo ./app --x", "write ./app --x"),
            ("sudo -E -u www-data A=b ./app -u x", "write ./app -u x"),
            ("sudo -- node s.js", "write node s.js"),
            ("gosu app ./app", "gosu is for other users"),
            ("su-exec app:app ./app x", "write ./app x"),
            ("doas ./app", "write ./app"),
            ("su - app -c ./app", "su is for"),
        ] {
            let flaw = Command::of_text(text).unwrap_or_else(|why| panic!("{text}: {why}")).flaw(false);
            assert!(flaw.as_ref().is_some_and(|flaw| flaw.contains(said)), "{text}: {flaw:?}");
        }
        let list = |words: &[&str]| Command::of_words(words.iter().map(|word| (*word).to_owned()).collect()).unwrap();
        assert!(list(&["./a", "--port=$(PORT)"]).flaw(false).unwrap().ends_with("write $PORT"));
        assert_eq!(list(&["sudo", "./a"]).flaw(true), None, "without a sandbox it may be allowed");
        for words in [&["./a", "*", "web:", "$(date)"][..], &["[", "-e", "x", "]"], &["sh", "-c", "sudo x"]] {
            assert_eq!(list(words).flaw(false), None, "{words:?}");
        }
    }

    #[test]
    fn shell_syntax_is_refused_with_the_list_that_runs_a_shell() {
        for (text, what, list) in [
            ("./a && ./b", "&& is what runs one command after another", r#"[sh, -c, "./a && exec ./b"]"#),
            ("cd app && node s.js", "cd is a shell's own word", r#"[sh, -c, "cd app && exec node s.js"]"#),
            ("cd app; node s.js", "cd is", r#"[sh, -c, "cd app; exec node s.js"]"#),
            ("NODE_ENV=production ./app", "put NODE_ENV under env", r#"[sh, -c, "NODE_ENV=production ./app"]"#),
            ("./a | ./b", "| is a shell's pipe", r#"[sh, -c, "./a | ./b"]"#),
            ("./a | ./b", "at a stop both sides are signalled", ""),
            ("python3 w.py | cat", "leave out `| cat`, since the journal keeps", "write python3 w.py"),
            ("./a --x 2>&1 | tee -a $DATA_DIR/log", "leave out `| tee -a", "write ./a --x"),
            ("./a |& logger -t a", "leave out `| logger -t a`", "write ./a"),
            ("nohup ./a 2>&1 | tee log &", "leave out `| tee log`", "write ./a"),
            ("cd x && ./a | tee log", "leave out `| tee log`", r#"[sh, -c, "cd x && exec ./a"]"#),
            ("./a | grep -v x | tee log", "leave out `| tee log`", r#"[sh, -c, "./a | grep -v x"]"#),
            ("cat x | ./a", "| is a shell's pipe", r#"[sh, -c, "cat x | ./a"]"#),
            ("./a | tee log | ./b", "| is a shell's pipe", r#"[sh, -c, "./a | tee log | ./b"]"#),
            ("./a || ./b", "|| is", r#"[sh, -c, "./a || ./b"]"#),
            ("./a > \"$DATA_DIR/log\"", "> is", r#"[sh, -c, "exec ./a > \"$DATA_DIR/log\""]"#),
            ("./a 2>&1", ">& is", r#"[sh, -c, "exec ./a 2>&1"]"#),
            ("./a > log", "a file of its own belongs in $DATA_DIR", r#"[sh, -c, "exec ./a > $DATA_DIR/log"]"#),
            ("./a >>'my log' 2>&1", ">> is", r#"[sh, -c, "exec ./a >>'$DATA_DIR/my log' 2>&1"]"#),
            ("./a &> log", "&> is", r#"[bash, -c, "exec ./a &> $DATA_DIR/log"]"#),
            ("cat <<EOF\nhi\nEOF", "<< is", r#"[sh, -c, "cat <<EOF\nhi\nEOF"]"#),
            ("cat <<< hi", "<< is", r#"[bash, -c, "exec cat <<< hi"]"#),
            (
                "source env.sh && ./a",
                "what that file sets stands under env",
                r#"[bash, -c, "source env.sh && exec ./a"]"#,
            ),
            (". env.sh && ./a", ". is a shell's own word", r#"[bash, -c, ". env.sh && exec ./a"]"#),
            (". ./env.sh; ./a", ". is a shell's own word", r#"[sh, -c, ". ./env.sh; exec ./a"]"#),
            ("export A=b && ./a", "variables stand under env", r#"[sh, -c, "export A=b && exec ./a"]"#),
            ("nohup ./a --x &", "leave out & and nohup; write ./a --x", ""),
            ("nohup ./a > log 2>&1 &", "leave out & and nohup", r#"[sh, -c, "exec ./a > $DATA_DIR/log 2>&1"]"#),
            ("cd x && ./a &", "leave out & and nohup", r#"[sh, -c, "cd x && exec ./a"]"#),
            ("./a & ./b", "is a process of its own", r#"[sh, -c, "./a & exec ./b"]"#),
            ("./a http://x/?a=1&b=2 -v", "& ends a word in a shell", "quote it; write ./a 'http://x/?a=1&b=2' -v"),
            ("./a --u=http://x/?a=1&b=2;c", "& ends a word", "quote it; write ./a '--u=http://x/?a=1&b=2;c'"),
            ("if true; then ./a; fi", "if is", r#"[sh, -c, "if true; then ./a; fi"]"#),
            ("./a; (./b)", "; is", r#"[sh, -c, "./a; (./b)"]"#),
            ("./a<b", "< is", "exec ./a<b"),
            ("./a &", "& starts a command in the background", "write ./a"),
            ("./a;./b", "; is", r#"[sh, -c, "./a; exec ./b"]"#),
            ("./a `date`", "` is the output of another command", "exec ./a `date`"),
            ("./a \"`date`\"", "` is", "`date`"),
            ("./a $(date)", "$( is", "exec ./a $(date)"),
            ("./a --x=$HOME/y", "$HOME is filled in by a shell", "exec ./a --x=$HOME/y"),
            ("./a \"${NAME}\"", "${NAME} is", r#"exec ./a \"${NAME}\""#),
            ("./a $(date) $(NAME)", "$( is", "exec ./a $(date) $NAME"),
            ("./a ${NAME:-3000}", "${NAME:-3000} is", "exec ./a ${NAME:-3000}"),
            ("./a;", "; is", "write ./a"),
            (
                "node *.js",
                "*.js is a shell's pattern for names",
                r#"name the file; to run a shell, write [sh, -c, "exec node *.js"]"#,
            ),
            ("java -Xmx1g -jar target/*.jar", "is a shell's pattern", "exec java -Xmx1g -jar target/*.jar"),
            (".\\start.cmd x", ".\\start.cmd is a path of Windows", "separated by /; write ./start.cmd x"),
            ("C:\\app\\x.exe", "is a path of Windows", "write app/x.exe"),
            ("./a $1", "$1 is", "exec ./a $1"),
            ("./a $PORTS", "$PORTS is", "exec ./a $PORTS"),
            ("exec ./a", "so leave it out", "write ./a"),
            ("npm ci\nnpm start", "a new line is", r#"[sh, -c, "npm ci\nnpm start"]"#),
            ("sh -c \"./a $X\"", "$X is", r#"[sh, -c, "./a $X"]"#),
        ] {
            let said = refusal(text);
            assert!(said.contains(what) && said.contains(list), "{text}: {said}");
        }
    }
}
