//! The operator's Caddyfile: as much of its syntax as joining our file to it takes. What it means is left to Caddy.

use std::ops::Range;

/// A word of a Caddyfile, and its place.
struct Word<'a> {
    text: &'a str,
    place: Range<usize>,
    /// Counted from 1.
    line: usize,
    /// Number of blocks open around it.
    depth: usize,
    /// Whether it is the first on its line.
    first: bool,
}

/// Splits a Caddyfile as Caddy's own lexer does: quotes, backquotes, comments, heredocs, a newline after a backslash.
fn words(text: &str) -> Vec<Word<'_>> {
    let bytes = text.as_bytes();
    let (mut words, mut at, mut line, mut depth, mut first) = (Vec::<Word<'_>>::new(), 0, 1, 0_usize, true);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\n' => {
                (line, first) = (line + 1, true);
                at += 1;
            }
            b'\\' if bytes.get(at + 1) == Some(&b'\n') => {
                line += 1;
                at += 2;
            }
            b'#' => at = line_end(text, at),
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let end = word_end(text, at);
                let word = &text[at..end];
                depth = depth.saturating_sub(usize::from(word == "}"));
                words.push(Word { text: word, place: at..end, line, depth, first });
                depth += usize::from(word == "{");
                line += word.matches('\n').count();
                (at, first) = (end, false);
            }
        }
    }
    words
}

fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |length| from + length)
}

fn word_end(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    match rest.as_bytes()[0] {
        quote @ (b'"' | b'`') => {
            let mut escaped = false;
            let close = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
                let ends = *byte == quote && !escaped;
                escaped = quote == b'"' && *byte == b'\\' && !escaped;
                ends
            });
            close.map_or(text.len(), |(length, _)| start + length + 1)
        }
        _ => {
            let end = start + rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
            heredoc_end(text, start, end).unwrap_or(end)
        }
    }
}

/// `<<MARK` continues until a line with the mark alone.
fn heredoc_end(text: &str, start: usize, end: usize) -> Option<usize> {
    let mark = text[start..end].strip_prefix("<<").filter(|mark| !mark.is_empty() && !mark.starts_with('<'))?;
    let body = line_end(text, end) + 1;
    let mut at = body;
    for line in text.get(body..)?.split_inclusive('\n') {
        at += line.len();
        if line.trim() == mark {
            return Some(at - (line.len() - line.trim_end().len()));
        }
    }
    None
}

/// A line of the operator's Caddyfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The words after the directive's name.
    pub arguments: Vec<String>,
}

/// Returns the global block with its braces, if the text begins with one.
fn global(text: &str) -> Option<Range<usize>> {
    let words = words(text);
    let open = words.first().filter(|word| word.text == "{")?;
    let close = words.iter().find(|word| word.text == "}" && word.depth == 0)?;
    Some(open.place.start..close.place.end)
}

/// Splits a text into its global block, if any, and the rest.
pub fn split_global(text: &str) -> (Option<&str>, String) {
    match global(text) {
        Some(block) => {
            (Some(&text[block.clone()]), format!("{}{}", &text[..block.start], text[block.end..].trim_start()))
        }
        None => (None, text.to_owned()),
    }
}

/// Finds a global option by its name.
pub fn option(text: &str, name: &str) -> Option<Line> {
    let words = words(text);
    let block = global(text)?;
    let found = words
        .iter()
        .position(|word| word.first && word.depth == 1 && word.text == name && block.contains(&word.place.start))?;
    let line = words[found].line;
    let arguments = words[found + 1..].iter().take_while(|word| word.line == line && !word.first);
    Some(Line { number: line, arguments: arguments.map(|word| word.text.trim_matches('"').to_owned()).collect() })
}

/// Returns the line of a word outside every block, such as a site's address.
pub fn line_of(text: &str, wanted: impl Fn(&str) -> bool) -> Option<usize> {
    let words = words(text);
    let mut outside = words.iter().filter(|word| word.depth == 0);
    outside.find(|word| wanted(word.text.trim_end_matches(','))).map(|word| word.line)
}

/// Returns what the imports of a Caddyfile name, in order: files, patterns, snippets.
pub fn imported(text: &str) -> Vec<String> {
    let words = words(text);
    let pairs = words.iter().zip(words.iter().skip(1));
    let imports = pairs.filter(|(directive, argument)| {
        directive.first && directive.text == "import" && argument.line == directive.line
    });
    imports.map(|(_, argument)| argument.text.trim_matches(['"', '`']).to_owned()).collect()
}

/// Returns whether the distribution's Caddyfile is unmodified: only its welcome page on port 80.
pub fn is_untouched(text: &str) -> bool {
    let found: Vec<&str> = words(text).into_iter().map(|word| word.text).collect();
    found.is_empty() || found == [":80", "{", "root", "*", "/usr/share/caddy", "file_server", "}"]
}

/// Finds the paths of the lines outside every block that import our file. Relative paths are relative to the directory
/// of the Caddyfile.
fn imports(text: &str, path: &str) -> Vec<Range<usize>> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let words = words(text);
    let pairs = words.iter().zip(words.iter().skip(1));
    let of_ours = pairs.filter(|(directive, argument)| {
        let to = argument.text.trim_matches(['"', '`']);
        directive.first
            && directive.depth == 0
            && directive.text == "import"
            && argument.line == directive.line
            && (to == path || to == name || to.strip_prefix("./") == Some(name))
    });
    of_ours.map(|(_, argument)| argument.place.clone()).collect()
}

/// Returns whether a Caddyfile imports our file.
pub fn is_joined(text: &str, path: &str) -> bool {
    !imports(text, path).is_empty()
}

/// Finds a line whose pattern matches our file too: `import *.caddyfile`.
pub fn pattern_of_ours(text: &str, path: &str) -> Option<Line> {
    let (directory, name) = path.rsplit_once('/')?;
    let words = words(text);
    let mut pairs = words.iter().zip(words.iter().skip(1));
    let found = pairs.find(|(directive, argument)| {
        let to = argument.text.trim_matches(['"', '`']);
        let to = to.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/')).unwrap_or(to);
        let to = to.strip_prefix("./").unwrap_or(to);
        directive.first && directive.text == "import" && to.contains('*') && fits(name, to)
    });
    found.map(|(directive, argument)| Line { number: directive.line, arguments: vec![argument.text.to_owned()] })
}

/// Returns whether a name matches a pattern: `*` stands for any characters, `?` for one.
pub fn fits(name: &str, pattern: &str) -> bool {
    let (mut name, mut pattern) = (name.chars(), pattern.chars());
    match pattern.next() {
        None => name.next().is_none(),
        Some('*') => {
            let rest = pattern.as_str();
            fits(name.as_str(), rest) || name.next().is_some() && fits(name.as_str(), &format!("*{rest}"))
        }
        Some('?') => name.next().is_some() && fits(name.as_str(), pattern.as_str()),
        Some(other) => name.next() == Some(other) && fits(name.as_str(), pattern.as_str()),
    }
}

/// Replaces the import of our file with another file, to try that one.
pub fn with_other_import(text: &str, path: &str, other: &str) -> String {
    let mut tried = text.to_owned();
    for place in imports(text, path).into_iter().rev() {
        tried.replace_range(place, other);
    }
    tried
}

/// Adds the line that imports our file, if missing.
pub fn with_import(text: &str, path: &str) -> String {
    if is_joined(text, path) {
        return text.to_owned();
    }
    let newline = newline(text);
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { newline };
    format!("{text}{gap}import {path}{newline}")
}

/// Sets the admin endpoint in the global block, which is added if missing. Another endpoint stays as a comment.
pub fn with_admin(text: &str, admin: &str) -> String {
    let newline = newline(text);
    let Some(block) = global(text) else {
        return format!("{{{newline}\tadmin {admin}{newline}}}{newline}{newline}{text}");
    };
    if let Some(old) = option(text, "admin") {
        return replace_option(text, old.number, &format!("\tadmin {admin}{newline}"));
    }
    let mut at = block.start + 1;
    let after = &text[at..line_end(text, at)];
    if after.trim().is_empty() || after.trim_start().starts_with('#') {
        at += after.trim_end().len();
    }
    format!("{}{newline}\tadmin {admin}{}", &text[..at], rest_of_line(&text[at..], newline))
}

/// Moves what follows the opening brace to a line of its own.
fn rest_of_line<'a>(rest: &'a str, newline: &str) -> std::borrow::Cow<'a, str> {
    if rest.starts_with(['\r', '\n']) { rest.into() } else { format!("{newline}\t{}", rest.trim_start()).into() }
}

/// Comments out the lines of an option, with its block if any, and puts another line before them.
fn replace_option(text: &str, number: usize, line: &str) -> String {
    let words = words(text);
    let mut of_line = words.iter().filter(|word| word.line == number);
    let opens = of_line.next_back().is_some_and(|word| word.text == "{");
    let closed = words.iter().find(|word| word.line > number && word.text == "}" && word.depth == 1);
    let last = closed.filter(|_| opens).map_or(number, |word| word.line);
    let mut made = String::new();
    for (i, old) in text.split_inclusive('\n').enumerate() {
        if i + 1 == number {
            made.push_str(line);
        }
        if (number..=last).contains(&(i + 1)) {
            made.push_str("\t# ");
            made.push_str(old.trim_start());
        } else {
            made.push_str(old);
        }
    }
    made
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Returns the Caddyfile of a server that had none: with these global options, or the default ones.
pub fn fresh(admin: &str, options: Option<&str>, path: &str) -> String {
    let usual = format!("{{\n\tadmin {admin}\n\tskip_install_trust\n}}");
    format!(
        "# Yours: other sites go here, and `systemctl reload caddy` loads them.\n\
         # zexio's own file is imported below; keep that line and `admin`.\n\
         {}\n\nimport {path}\n",
        options.unwrap_or(&usual)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "/etc/caddy/zexio.caddyfile";
    const ADMIN: &str = "unix//run/caddy/admin.sock";

    fn joined(text: &str) -> String {
        with_import(&with_admin(text, ADMIN), OURS)
    }

    #[test]
    fn two_lines_are_added_and_nothing_else_changes() {
        let line = "admin unix//run/caddy/admin.sock";
        for (theirs, wanted) in [
            ("a.com {\n}\n", format!("{{\n\t{line}\n}}\n\na.com {{\n}}\nimport {OURS}\n")),
            (
                "{\n\temail a@b.c\n}\na.com {\n}",
                format!("{{\n\t{line}\n\temail a@b.c\n}}\na.com {{\n}}\nimport {OURS}\n"),
            ),
            ("# x\n{ # y\n\tdebug\n}\n", format!("# x\n{{ # y\n\t{line}\n\tdebug\n}}\nimport {OURS}\n")),
            ("{\r\n\tdebug\r\n}\r\n", format!("{{\r\n\t{line}\r\n\tdebug\r\n}}\r\nimport {OURS}\r\n")),
            ("{ debug\n}\n", format!("{{\n\t{line}\n\tdebug\n}}\nimport {OURS}\n")),
            ("", format!("{{\n\t{line}\n}}\n\nimport {OURS}\n")),
            ("{\n}", format!("{{\n\t{line}\n}}\nimport {OURS}\n")),
        ] {
            assert_eq!(joined(theirs), wanted, "{theirs:?}");
            assert_eq!(with_import(&wanted, OURS), wanted, "once is enough");
        }
    }

    #[test]
    fn another_admin_endpoint_stays_as_a_comment() {
        let line = "\tadmin unix//run/caddy/admin.sock\n";
        assert_eq!(with_admin("{\n\tadmin off\n}\n", ADMIN), format!("{{\n{line}\t# admin off\n}}\n"));
        let block = "{\n\tadmin localhost:2020 {\n\t\torigins a\n\t}\n\tdebug\n}\n";
        let wanted = format!("{{\n{line}\t# admin localhost:2020 {{\n\t# origins a\n\t# }}\n\tdebug\n}}\n");
        assert_eq!(with_admin(block, ADMIN), wanted);
        let found = option(block, "admin").unwrap();
        assert_eq!((found.number, found.arguments), (2, vec!["localhost:2020".to_owned(), "{".to_owned()]));
        assert_eq!(option("a.com {\n\tadmin off\n}\n", "admin"), None, "that is a site's");
    }

    #[test]
    fn our_line_is_found_however_it_is_written_and_only_where_it_holds() {
        for text in [
            "import /etc/caddy/zexio.caddyfile",
            "a.com {\n}\n  import zexio.caddyfile # ours\n",
            "import \"/etc/caddy/zexio.caddyfile\"\r\n",
            "import ./zexio.caddyfile\na {\n}\n",
        ] {
            assert!(is_joined(text, OURS), "{text:?}");
            let tried = with_other_import(text, OURS, "/x");
            assert!(tried.contains("import /x") && !tried.contains("zexio"), "{tried:?}");
        }
        for text in [
            "# import /etc/caddy/zexio.caddyfile",
            "a.com {\n\timport /etc/caddy/zexio.caddyfile\n}\n",
            "a.com {\n\trespond \"\nimport /etc/caddy/zexio.caddyfile\n\"\n}\n",
            "a.com {\n\trespond `\nimport /etc/caddy/zexio.caddyfile\n`\n}\n",
            "a.com {\n\trespond <<END\nimport /etc/caddy/zexio.caddyfile\nEND\n}\n",
            "import sites/*",
        ] {
            assert!(!is_joined(text, OURS), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_that_takes_our_file_in_is_found() {
        for (text, found) in [
            ("import *.caddyfile\n", true),
            ("import sites/*\nimport /etc/caddy/*\n", true),
            ("import ./z*o.caddy*", true),
            ("import sites/*.caddyfile\nimport /srv/*.caddyfile\n", false),
            ("import *.conf\n# import *\n", false),
        ] {
            assert_eq!(pattern_of_ours(text, OURS).is_some(), found, "{text:?}");
        }
    }

    #[test]
    fn braces_in_words_and_quotes_open_no_block() {
        let text =
            "{\n\temail {$MAIL}\n\tlog {\n\t\toutput stdout\n\t}\n}\na.com {\n\trespond \"} \\\" {\" {path}\n}\n";
        let (options, rest) = split_global(text);
        assert!(options.unwrap().ends_with("\t}\n}") && rest.starts_with("a.com {"), "{options:?} {rest}");
        assert!(is_joined(&joined(text), OURS));
        assert_eq!(split_global("a.com {\n}\n").0, None);
    }

    #[test]
    fn the_distributions_file_is_known_with_any_comments() {
        assert!(is_untouched("# hi\n:80 {\n\troot * /usr/share/caddy\n\n\t# x\n\tfile_server\n}\n"));
        assert!(is_untouched("") && is_untouched("# nothing\n"));
        assert!(!is_untouched(":80 {\n\troot * /srv/www\n\tfile_server\n}\n"));
        let fresh = fresh(ADMIN, None, OURS);
        assert!(!is_untouched(&fresh) && is_joined(&fresh, OURS) && fresh.lines().count() == 8, "{fresh}");
    }

    #[test]
    fn a_word_is_found_in_its_line_and_not_in_a_comment() {
        let text = "# old.example.com\nb.com,\nhttp://old.example.com {\n}\n";
        assert_eq!(line_of(text, |word| word == "http://old.example.com"), Some(3));
        assert_eq!(line_of(text, |word| word == "b.com"), Some(2));
    }
}
