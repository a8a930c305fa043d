//! What the words of a command name: the script of an interpreter, the files of a program, a shell's simple command.

use super::base;

/// What stands between a shell's commands.
pub(super) const SHELL_BREAKS: [char; 6] = ['\n', ';', '&', '|', '(', ')'];

/// Programs whose arguments name files and modules of the artifact, and no terms of the app's own.
const OF_FILES: [&str; 7] = ["gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "uwsgi", "caddy"];

/// Of other programs, the flags whose values do; what else they are given may be the app's own.
const FLAGS_OF_FILES: [(&str, &[&str]); 9] = [
    ("python", &["-m"]),
    ("java", &["-cp", "-classpath", "--class-path"]),
    ("celery", &["-A", "--app"]),
    ("php", &["-t"]),
    ("npm", &["--prefix"]),
    ("yarn", &["--cwd"]),
    ("pnpm", &["-C", "--dir"]),
    ("bun", &["--cwd"]),
    ("make", &["-C", "-f"]),
];

/// Returns the script that an interpreter runs, if that is certain.
pub(super) fn script_of<'a>(program: &str, arguments: &'a [String]) -> Option<&'a String> {
    let name = base(program);
    if name == "java" {
        let flag = arguments.iter().position(|word| word == "-jar")?;
        return arguments.get(flag + 1);
    }
    if name == "dotnet" {
        return arguments.first().filter(|word| word.ends_with(".dll"));
    }
    let python = name.strip_prefix("python").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let takes_a_file = python || is_shell(name) || ["node", "nodejs", "ruby", "perl", "php"].contains(&name);
    let takes_a_name_too = ["bun", "deno"].contains(&name);
    if !takes_a_file && !takes_a_name_too {
        return None;
    }
    let alone = match () {
        () if python => "bBdEIOPqsSuv",
        // Not c and s, after which no script follows.
        () if is_shell(name) => "aefhiklmnpuvxBCEHPT",
        () => "",
    };
    let mut words = arguments.iter().skip_while(|word| stands_alone(word, alone));
    // `node inspect x`
    let script = words.next().filter(|word| !word.starts_with(['-', '+']) && *word != "inspect")?;
    let suffixes = [".js", ".mjs", ".cjs", ".ts"];
    (takes_a_file || suffixes.iter().any(|suffix| script.ends_with(suffix))).then_some(script)
}

/// Whether a word is a flag without a separate argument, as far as that is certain; `alone`: such letters.
fn stands_alone(word: &str, alone: &str) -> bool {
    const OF_NODE: [&str; 4] = ["--no-", "--enable-", "--expose-", "--trace-"];
    match word.strip_prefix("--") {
        Some(_) => word.contains('=') || OF_NODE.iter().any(|begin| word.starts_with(begin)),
        None => {
            let letters = word.strip_prefix('-').unwrap_or_default();
            !letters.is_empty() && letters.chars().all(|letter| alone.contains(letter))
        }
    }
}

/// Whether a shell's flag has its commands in the next word: `-c`, `-ec`.
fn is_command_flag(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|letters| !letters.starts_with('-') && letters.ends_with('c'))
}

/// Returns the usual interpreter of a script with this name.
pub(super) fn interpreter_for(script: &str) -> Option<&'static str> {
    let (_, suffix) = base(script).rsplit_once('.')?;
    Some(match suffix {
        "js" | "mjs" | "cjs" => "node",
        "py" => "python3",
        "rb" => "ruby",
        "pl" => "perl",
        "php" => "php",
        _ => return None,
    })
}

/// Returns the shell for a script of which only the name shows that it is one.
pub(super) fn shell_for(script: &str) -> Option<&'static str> {
    match base(script).rsplit_once('.')?.1 {
        "sh" => Some("sh"),
        "bash" => Some("bash"),
        _ => None,
    }
}

/// Returns the text that a shell is given to run.
pub(super) fn shell_text<'a>(program: &str, arguments: &'a [String]) -> Option<&'a str> {
    let flag = arguments.iter().position(|word| is_command_flag(word)).filter(|_| is_shell(base(program)))?;
    arguments.get(flag + 1).map(String::as_str)
}

/// Returns the words of a simple command of a shell: its program first.
pub(super) fn simple_command(command: &str) -> Vec<&str> {
    const BEFORE: [&str; 9] = ["exec", "then", "do", "else", "if", "!", "{", "time", "nohup"];
    let is_assignment = |word: &str| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut words = command.split_whitespace().peekable();
    while let Some(word) = words.next_if(|word| BEFORE.contains(word) || is_assignment(word)) {
        while let Some(flag) = words.next_if(|flag| word == "exec" && flag.starts_with('-')) {
            // The name that the program is to have.
            let _ = (flag == "-a").then(|| words.next());
        }
    }
    words.map(|word| word.trim_matches(['"', '\''])).collect()
}

/// Returns the words of a simple command that name files to be run, or with `cd` a directory.
pub(super) fn files_of<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let Some((program, arguments)) = words.split_first() else { return Vec::new() };
    if *program == "cd" {
        return words.iter().take(2).copied().collect();
    }
    let owned: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let script = script_of(program, &owned).and_then(|script| arguments.iter().find(|word| *word == script));
    let script: Vec<&str> = [*program].into_iter().chain(script.copied()).collect();
    let of_files = match base(program) {
        "bundle" if arguments.first() == Some(&"exec") => files_of(&arguments[1..]),
        name if OF_FILES.contains(&name) => arguments.to_vec(),
        name => {
            let name = if name.starts_with("python") { "python" } else { name };
            let flags = FLAGS_OF_FILES.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, flags)| flags);
            let at = arguments.iter().position(|word| flags.contains(&word.split('=').next().unwrap_or(word)));
            at.map_or(&[][..], |at| &arguments[at..arguments.len().min(at + 2)]).to_vec()
        }
    };
    [script, of_files].concat()
}

pub(super) fn is_shell(name: &str) -> bool {
    ["sh", "bash", "dash", "ash", "ksh", "zsh"].contains(&name)
}
