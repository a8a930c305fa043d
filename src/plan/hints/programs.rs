//! Programs, libraries and scripts that could not be run on this server.

use super::has_one_of;

/// What programs print about a name that they do not know.
const UNKNOWN: [&str; 8] = [
    "no such file",
    "not found",
    "can't open",
    "cannot open",
    "illegal option",
    "invalid option",
    "syntax error",
    "cannot find",
];

/// Explains a module or program that was built for another system than this server.
pub(super) fn foreign_module(line: &str) -> Option<&'static str> {
    const OTHER: &str = "it has native parts that were built on another system: install the packages on Linux with this \
        server's processor and C library, as in CI, and not on a Mac, on Windows or in Alpine";
    let lower = line.to_lowercase();
    if lower.contains("glibc_") || lower.contains("glibcxx_") {
        return Some(
            "it was built on a newer system than this server: build it on this server's distribution or an older one, \
             or link it statically",
        );
    }
    let has = |words: &[&str]| has_one_of(&lower, words);
    if has(&["error while loading shared libraries"]) {
        return Some("a library is missing on this server: install the package that has it, or link it statically");
    }
    let other = has(&[
        "invalid elf header",
        "wrong elf class",
        "exec format error",
        "cannot execute binary file",
        "for another platform",
        "was compiled against a different node.js version",
        "incompatible architecture",
        "err_dlopen_failed",
        "using the linux-",
    ]);
    other.then_some(OTHER)
}

/// Returns the program that a shell or `env` finds and may not run.
pub(super) fn denied_program(line: &str) -> Option<&str> {
    let denied = line.strip_suffix(": Permission denied")?;
    let of_env = denied.contains("env: ").then(|| denied.rsplit("env: ").next()).flatten();
    let of_shell = || {
        let (before, name) = denied.rsplit_once(": ")?;
        let (_, place) = before.rsplit_once(": ").unwrap_or(("", before));
        let is_line = place.strip_prefix("line ").unwrap_or(place).bytes().all(|byte| byte.is_ascii_digit());
        // bash says the same of a file that it may not write.
        let is_file = name.rsplit_once('.').is_some_and(|(_, end)| end.bytes().all(|byte| byte.is_ascii_alphabetic()));
        let is_shell = ["sh", "bash", "dash"].contains(&place);
        (is_line || is_shell || place == "exec").then_some(name).filter(|_| !is_file)
    };
    let name = of_env.or_else(of_shell)?.trim_matches(['\'', '\u{2018}', '\u{2019}', '"']);
    is_program_name(name).then_some(name)
}

/// Returns the file in which a shell finds what is not its language.
fn misread(line: &str) -> Option<&str> {
    let lower = line.to_ascii_lowercase();
    let at = lower.find(": syntax error").filter(|at| !lower[at + 14..].starts_with(" at"))?;
    let (file, number) = line[..at].rsplit_once(": ")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_shell =
        ["sh", "bash", "dash", "-c"].iter().any(|shell| file == *shell || file.ends_with(&format!("/{shell}")));
    let is_file = !file.contains([' ', ':']) && !is_shell;
    (is_file && is_number(number.strip_prefix("line ").unwrap_or(number))).then_some(file)
}

/// Explains a program that a shell, `env` or a wrapper does not find, or a file that a shell takes for a script.
pub(super) fn missing_program(line: &str) -> Option<String> {
    if let Some(file) = misread(line) {
        return Some(format!(
            "a shell reads {file} and finds in it what is no shell script: if it is of another language, let it begin with \
             #! and its interpreter, as #!/usr/bin/env node, or name that before it in run"
        ));
    }
    if let Some(name) = denied_program(line) {
        return Some({
            format!(
                "{name} is where an app may not run it: a directory of its PATH is a home, or not open to all users; \
                 install it for all users, or ship it in the artifact"
            )
        });
    }
    let found = line.strip_suffix(": not found").or_else(|| line.strip_suffix(": command not found"));
    let of_shell = found.filter(|rest| rest.contains(": ")).and_then(|rest| rest.rsplit(": ").next());
    let of_env = line.strip_suffix(": No such file or directory").filter(|rest| rest.contains("env: "));
    let of_env = of_env.and_then(|rest| rest.rsplit("env: ").next());
    let name = of_shell.or(of_env)?.trim_matches(['\'', '\u{2018}', '\u{2019}', '"']);
    const OF_OTHER_LANGUAGES: [&str; 8] =
        ["import", "from", "const", "require", "package", "def", "require_once", "use"];
    if of_shell.is_some_and(|name| OF_OTHER_LANGUAGES.contains(&name)) {
        return Some(format!(
            "a shell reads a file that is no shell script, since it says {name}: let the file begin with #! and its \
             interpreter, as #!/usr/bin/env python3, or name that before it in run"
        ));
    }
    if of_env.is_some() && name.split_once(' ').is_some_and(|(first, _)| is_program_name(first)) {
        return Some(format!("env takes all of {name:?} in the script's first line for one name: {}", split(name)));
    }
    is_program_name(name).then(|| {
        format!(
            "{name} is not installed on this server: install it for all users, or ship it in the artifact and put its \
             directory into PATH under env"
        )
    })
}

/// A binary file that a shell runs has words of other characters.
fn is_program_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._+-@".contains(c))
}

/// Returns the first line of a script whose interpreter has arguments.
fn split(interpreter: &str) -> String {
    format!("write #!/usr/bin/env -S {interpreter}")
}

/// Whether a line is about a name that ends in a carriage return.
pub(super) fn ends_in_return(line: &str) -> bool {
    let is_shown =
        ["\\r'", "\\r\"", "\\r:", "\r'", "\r\"", "\r:", "\\x0d'", "^M'", "^M:"].iter().any(|end| line.contains(end));
    is_shown && has_one_of(&line.to_lowercase(), &UNKNOWN)
}

/// Whether a line names a file with a `*`.
pub(super) fn is_about_a_pattern(line: &str) -> bool {
    let words = line.split([' ', '\'', '"', ':']);
    words.filter(|word| word.contains('*')).any(|word| word.contains("*.") && !word.contains("**"))
}

pub(super) const PATTERN: &str =
    "nothing replaces a * in a command with names of files: name the file, or run a shell: [sh, -c, \"exec …\"]";

pub(super) const RETURN: &str = "a script has Windows line ends (CRLF), so that a name in it ends in a return: save it with LF, by \
     `dos2unix`, and `*.sh text eol=lf` in .gitattributes";
