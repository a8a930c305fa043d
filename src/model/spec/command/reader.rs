//! Splits a text into words as a shell does, and finds what in it only a shell understands.

use super::syntax::{BACKGROUND, BUILTINS, Expansion, PIPE, REDIRECTION, SINKS, Syntax, quoted, with_exec};
use super::{FILLED_IN, is_name, name_in, placeholder};

/// A dollar that stands for itself, while the word around it is incomplete. No text contains it otherwise.
const DOLLAR: char = '\0';

/// Splits a text as a shell does, and notes the first thing in it that needs one.
pub(super) struct Reader<'a> {
    text: &'a str,
    pub(super) words: Vec<String>,
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
    pub(super) fn of(text: &'a str) -> Result<Self, String> {
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
    pub(super) fn found(&self) -> Option<Syntax> {
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
    pub(super) fn instead(&self, syntax: &Syntax) -> String {
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
    pub(super) fn line_of(text: &str) -> String {
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
