//! Whether a tree holds the programs and directories that a release needs, and if not, what it has instead.
//!
//! It refuses only what could not start anyway, so that a release is rejected with its reason instead of after a trial.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;

use super::binary;
use super::tree::{is_junk, is_program, is_system_program};
use crate::model::expected::Expected;
use crate::model::layout::{HIDDEN_HOMES, is_in_home};
use crate::model::spec::Command;

/// The PATH of launched programs.
const USUAL_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How much of a file is read: the kernel reads as much of a script's first line.
const HEAD: u64 = 256;
const MOST_LINKS: usize = 40;
/// How many names are compared to find a similar one.
const MOST_NAMES: usize = 100_000;
/// How many top-level names a message lists.
const SHOWN: usize = 8;
/// Flags whose value is a directory in the artifact.
const DIRECTORY_FLAGS: [&str; 13] = [
    "--prefix",
    "--cwd",
    "--dir",
    "--directory",
    "--chdir",
    "--app-dir",
    "--pythonpath",
    "--workdir",
    "-C",
    "-cp",
    "-classpath",
    "--class-path",
    "-t",
];
/// What stands between the words of a shell's commands.
const SHELL_BREAKS: [char; 10] = [' ', '\t', '\n', ';', '&', '|', '(', ')', '"', '\''];

/// Where the tree is.
pub enum Place<'a> {
    /// The server that runs it.
    Server {
        /// The lone top directory that was left out.
        stripped: Option<&'a str>,
    },
    /// Another machine: what is installed there proves nothing.
    Elsewhere,
}

/// Describes what a release lacks in its tree, if anything. A program without execute permission gets it.
pub fn lacks(root: &Path, expected: &Expected, place: &Place<'_>) -> Option<String> {
    let tree = Tree { root, place, own_path: expected.own_path, unconfined: expected.unconfined };
    let sites = expected.sites.iter().filter(|(_, site)| !tree.has_directory(site.as_str()));
    let mut sites = sites
        .map(|(process, site)| tree.missing(site.as_str(), &format!("process {process} serves"), Wanted::Directory));
    if let Some(why) = sites.next() {
        return Some(why);
    }
    expected.commands.iter().find_map(|(process, command)| {
        let whose = if process == "release" { "the release command".to_owned() } else { format!("process {process}") };
        tree.judge(&whose, command)
    })
}

struct Tree<'a> {
    root: &'a Path,
    place: &'a Place<'a>,
    own_path: bool,
    unconfined: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    File,
    Directory,
}

/// What a path in the tree resolves to.
enum Found {
    /// A file, by its resolved path.
    File(PathBuf),
    Directory,
    Nothing,
    /// A link that leads outside the tree, or nowhere.
    DeadLink(PathBuf),
    /// A link to a system program.
    System,
}

impl Tree<'_> {
    fn on_server(&self) -> bool {
        matches!(self.place, Place::Server { .. })
    }

    fn has_directory(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root.join(path)).is_ok_and(|meta| meta.is_dir())
    }

    /// Explains why a command could not start.
    fn judge(&self, whose: &str, command: &Command) -> Option<String> {
        let (program, arguments) = command.words().split_first()?;
        let flaw = match program {
            // A path on the server, or one that is known only on start.
            _ if program.starts_with('/') || program.contains('$') => None,
            _ if !program.contains('/') => self.judge_name(whose, program),
            _ => self.judge_program(whose, program),
        };
        let script =
            || script_of(program, arguments).filter(|script| !script.starts_with('/') && !script.contains('$'));
        flaw.or_else(|| self.judge_script(whose, program, script()?))
            .or_else(|| self.judge_package(whose, program, arguments))
            .or_else(|| self.judge_arguments(whose, program, arguments))
    }

    /// A program named without a path is looked up on the server, never in the artifact.
    fn judge_name(&self, whose: &str, name: &str) -> Option<String> {
        if !self.on_server() || self.own_path || is_installed(name) {
            return None;
        }
        let Found::File(path) = self.find(name) else { return None };
        self.judge_file(whose, name, &path).or_else(|| {
            Some(format!(
                "{whose} runs {name}, which is not installed on this server; the artifact has it: write ./{name}"
            ))
        })
    }

    fn judge_program(&self, whose: &str, program: &str) -> Option<String> {
        let bare = bare(program);
        match self.find(&bare) {
            Found::File(path) => self.judge_file(whose, program, &path),
            Found::System => None,
            Found::DeadLink(end) => self.judge_dead_link(whose, program, &end),
            Found::Directory => Some(format!("{whose} runs {program}, which is a directory in the artifact")),
            Found::Nothing => Some(self.missing(program, &format!("{whose} runs"), Wanted::File)),
        }
    }

    /// A script that an interpreter runs.
    fn judge_script(&self, whose: &str, program: &str, script: &str) -> Option<String> {
        match self.find(&bare(script)) {
            Found::Nothing if self.is_found_otherwise(program, script) => None,
            Found::Nothing => Some(self.missing(script, &format!("{whose} runs with {program}"), Wanted::File)),
            Found::File(path) if is_shell(base(program)) => ends_in_return(&head(&path).ok()?).then(|| crlf(script)),
            _ => None,
        }
    }

    fn judge_file(&self, whose: &str, program: &str, path: &Path) -> Option<String> {
        let head = head(path).ok()?;
        let mode = fs::metadata(path).ok()?.permissions().mode();
        if ends_in_return(&head) {
            return Some(crlf(program));
        }
        if let Some(why) = self.of_another_system(program, path, &head) {
            return Some(format!("{whose} runs {program}, {why}"));
        }
        let known = interpreter_for(program);
        if !is_program(&head) && (mode & 0o111 == 0 || known.is_some()) {
            return Some(format!(
                "{whose} runs {program}, which is no program: it does not begin with #! and its interpreter; name the \
                 interpreter before it: `{} {}`",
                known.unwrap_or("python3"),
                known.map_or("app.py".to_owned(), |_| bare(program))
            ));
        }
        if mode & 0o111 == 0 && self.on_server() {
            // If the mode cannot be changed, the start reports it.
            let _ = fs::set_permissions(path, Permissions::from_mode(0o755));
        }
        let (interpreter, fault) = self.missing_interpreter(&head).filter(|_| self.on_server())?;
        let fault = match self.python_beside(program) {
            Some(python) => format!(
                "which this server does not have; the scripts of a virtual environment name the directory it was made \
                 in: write {python} -m {}",
                base(program)
            ),
            None => fault,
        };
        Some(format!("{whose} runs {program}, whose first line names {interpreter}, {fault}"))
    }

    /// Describes a program that was made for another operating system or processor.
    fn of_another_system(&self, program: &str, path: &Path, head: &[u8]) -> Option<String> {
        let stem = program.rsplit_once('.').map_or(program, |(stem, _)| stem);
        let has = |name: &str| matches!(self.find(&bare(name)), Found::File(_));
        let is_windows_script =
            [".cmd", ".bat", ".ps1", ".vbs"].iter().any(|end| program.to_lowercase().ends_with(end));
        let why = match () {
            () if is_windows_script && !is_program(head) => "which is a script for Windows".to_owned(),
            () if head.starts_with(b"PK\x03\x04") && program.ends_with(".jar") => "which is a jar".to_owned(),
            () if !self.on_server() => return None,
            () => format!("which is {}", binary::unfit(path, binary::has_emulators())?),
        };
        let (script, library) = (format!("{stem}.sh"), format!("{stem}.dll"));
        let write = |name: &str| if name.contains('/') { name.to_owned() } else { format!("./{name}") };
        let instead = match () {
            () if program.ends_with(".jar") => format!("write java -jar {}", bare(program)),
            () if has(&library) => format!("or write dotnet {}", bare(&library)),
            () if stem != program && has(stem) => format!("the artifact has {0} too: write {0}", write(stem)),
            () if stem != program && has(&script) => format!("the artifact has {0} too: write {0}", write(&script)),
            () if is_windows_script => {
                "write the command that it runs instead, as in `node server.js`, or a script with #!/bin/sh".to_owned()
            }
            () => return Some(why),
        };
        Some(format!("{why}; {instead}"))
    }

    /// Returns the interpreter that a script's first line asks for, and what to do, if this server cannot run it.
    fn missing_interpreter<'h>(&self, head: &'h [u8]) -> Option<(&'h str, String)> {
        let mut words = std::str::from_utf8(first_line(head)?).ok()?.split_whitespace();
        let first = words.next()?;
        if base(first) == "env" && first.starts_with('/') && Path::new(first).exists() {
            let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
            let is_plain = !name.contains('/') && !self.own_path;
            return (is_plain && !is_installed(name)).then(|| (name, not_installed(name)));
        }
        let is_there = fs::metadata(first).is_ok_and(|meta| meta.is_file());
        if !first.starts_with('/') || is_there || self.unconfined && is_in_home(Path::new(first)) {
            return None;
        }
        // The agent cannot look into homes either.
        let fault = if is_in_home(Path::new(first)) {
            format!("which is out of reach; {HIDDEN_HOMES}")
        } else {
            not_installed(base(first))
        };
        Some((first, fault))
    }

    /// Whether an interpreter looks for a script elsewhere too.
    fn is_found_otherwise(&self, program: &str, script: &str) -> bool {
        let (name, bare) = (base(program), bare(script));
        let of_node = ["node", "nodejs"].contains(&name)
            && [".js", ".json", ".node"].iter().any(|end| matches!(self.find(&format!("{bare}{end}")), Found::File(_)));
        // Some shells look along PATH for a name.
        of_node || is_shell(name) && !script.contains(['/', '.']) && (self.own_path || is_installed(script))
    }

    /// A package manager that starts a script reads it from the artifact's package.json.
    fn judge_package(&self, whose: &str, program: &str, arguments: &[String]) -> Option<String> {
        const FILE: &str = "package.json";
        let flag = match base(program) {
            "npm" => "--prefix",
            "yarn" => "--cwd",
            "pnpm" => "-C",
            _ => return None,
        };
        let starts = arguments.first().is_some_and(|word| ["start", "run", "run-script"].contains(&word.as_str()));
        let goes_elsewhere =
            |word: &String| ["--prefix", "--cwd", "--dir", "-C"].iter().any(|flag| word.starts_with(flag));
        if !starts || arguments.iter().any(goes_elsewhere) || !matches!(self.find(FILE), Found::Nothing) {
            return None;
        }
        let mut names = Vec::new();
        collect(self.root, "", Wanted::File, &mut names);
        let below = names.iter().filter_map(|name| name.strip_suffix(FILE)?.strip_suffix('/'));
        let instead = match below.min_by_key(|directory| directory.len()) {
            Some(directory) => {
                format!("it has {directory}/{FILE}: write {program} {flag} {directory} {}", arguments.join(" "))
            }
            None => self.top_names(),
        };
        Some(format!("the artifact has no {FILE}, which {program} needs in {whose}{}; {instead}", self.stripped_note()))
    }

    fn stripped(&self) -> Option<&str> {
        match self.place {
            Place::Server { stripped } => *stripped,
            Place::Elsewhere => None,
        }
    }

    fn stripped_note(&self) -> String {
        self.stripped().map_or(String::new(), |top| format!("; its one top directory {top:?} was stripped"))
    }

    /// Finds an argument that still names the top directory that was stripped.
    fn judge_arguments(&self, whose: &str, program: &str, arguments: &[String]) -> Option<String> {
        let top = self.stripped().filter(|top| matches!(self.find(top), Found::Nothing))?;
        let of_shell = is_shell(base(program)) && arguments.iter().any(|word| is_command_flag(word));
        let words: Vec<&str> = match of_shell {
            true => {
                arguments.iter().flat_map(|word| word.split(SHELL_BREAKS)).filter(|word| !word.is_empty()).collect()
            }
            false => arguments.iter().map(String::as_str).collect(),
        };
        // What follows is looked for in that directory.
        let mut places = words.iter().zip(words.iter().skip(1)).filter(|(word, _)| of_shell && **word == "cd");
        if places.any(|(_, place)| bare(place) != top) {
            return None;
        }
        let (written, instead) = words.iter().enumerate().find_map(|(at, word)| {
            let before = at.checked_sub(1).and_then(|before| words.get(before)).copied().unwrap_or_default();
            self.without_top(top, before, word, of_shell)
        })?;
        Some(format!(
            "{whose} runs {program} with {written}; the one top directory {top:?} of the artifact was stripped: write \
             {instead}"
        ))
    }

    /// Returns the part of an argument that names the stripped directory, and what it is without that.
    fn without_top(&self, top: &str, before: &str, word: &str, of_shell: bool) -> Option<(String, String)> {
        let (flag, value) = word.split_once('=').unwrap_or((before, word));
        let is_directory = DIRECTORY_FLAGS.contains(&flag) || of_shell && before == "cd";
        if is_directory && bare(value) == top {
            return Some((value.to_owned(), ".".to_owned()));
        }
        value.split(':').find_map(|piece| {
            let exists = |path: &str| matches!(self.find(path), Found::File(_) | Found::Directory | Found::System);
            if let Some(rest) = bare(piece).strip_prefix(top).and_then(|rest| rest.strip_prefix('/'))
                && !piece.starts_with('/')
                && exists(rest)
            {
                let is_first_of_shell = of_shell && !rest.contains('/');
                let dot = if piece.starts_with("./") || is_first_of_shell { "./" } else { "" };
                return Some((piece.to_owned(), format!("{dot}{rest}")));
            }
            // A module of Python, a class of Java.
            let rest = piece.strip_prefix(top)?.strip_prefix('.').filter(|rest| !rest.is_empty())?;
            let path = rest.replace('.', "/");
            let is_module = rest.chars().all(|c| c.is_alphanumeric() || "_.".contains(c));
            let found = [format!("{path}.py"), format!("{path}.class"), format!("{path}/__init__.py")];
            (is_module && found.iter().any(|file| exists(file)))
                .then(|| (value.to_owned(), value.replacen(&format!("{top}."), "", 1)))
        })
    }

    /// Returns the python in the same directory.
    fn python_beside(&self, program: &str) -> Option<String> {
        let python = format!("{}/python", program.rsplit_once('/')?.0);
        matches!(self.find(&bare(&python)), Found::File(_) | Found::System).then_some(python)
    }

    fn judge_dead_link(&self, whose: &str, program: &str, end: &Path) -> Option<String> {
        let target = end.display();
        if !end.to_str().is_some_and(is_system_program) {
            return Some(format!(
                "{whose} runs {program}, which is a link to {target}, and the artifact has no such file"
            ));
        }
        let others = other_versions(base(end.to_str()?));
        let has = if others.is_empty() { String::new() } else { format!("; it has {others}") };
        self.on_server().then(|| {
            format!("{whose} runs {program}, which is a link to {target}, and this server does not have that{has}")
        })
    }

    /// Resolves a path as the kernel would.
    fn find(&self, path: &str) -> Found {
        let mut at = self.root.join(path);
        for _ in 0..MOST_LINKS {
            let Ok(meta) = fs::symlink_metadata(&at) else {
                return if at == self.root.join(path) { Found::Nothing } else { Found::DeadLink(self.shown(&at)) };
            };
            if !meta.is_symlink() {
                return if meta.is_dir() { Found::Directory } else { Found::File(at) };
            }
            let (Ok(target), Some(around)) = (fs::read_link(&at), at.parent()) else { return Found::Nothing };
            if target.is_absolute() {
                let is_there = target.exists() || !self.on_server();
                return if is_there { Found::System } else { Found::DeadLink(target) };
            }
            at = around.join(target);
        }
        Found::Nothing
    }

    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root).unwrap_or(path).to_owned()
    }

    /// Describes what is missing, and what exists instead: the nearest name, or the top-level names.
    fn missing(&self, path: &str, who: &str, wanted: Wanted) -> String {
        let what = match wanted {
            Wanted::File => "",
            Wanted::Directory => "directory ",
        };
        let head = format!("the artifact has no {what}{path}, which {who}");
        let write = |found: &str| match wanted {
            Wanted::File if path.starts_with("./") || !found.contains('/') && !path.ends_with(".jar") => {
                format!("./{found}")
            }
            _ => found.to_owned(),
        };
        let bare = bare(path);
        if let Some(top) = self.stripped() {
            let stripped = format!("{head}{}", self.stripped_note());
            let below = match bare.strip_prefix(top) {
                Some("") => Some("."),
                Some(rest) => rest.strip_prefix('/'),
                None => None,
            };
            return match below.filter(|below| self.is(below, wanted)) {
                Some(".") => format!("{stripped}: write ."),
                Some(below) => format!("{stripped}: write {}", write(below)),
                None => format!("{stripped}; {}", self.instead(&bare, wanted, write)),
            };
        }
        format!("{head}; {}", self.instead(&bare, wanted, write))
    }

    fn is(&self, path: &str, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Directory => self.has_directory(path),
            Wanted::File => matches!(self.find(path), Found::File(_) | Found::System),
        }
    }

    fn instead(&self, bare: &str, wanted: Wanted, write: impl Fn(&str) -> String) -> String {
        let mut names = Vec::new();
        collect(self.root, "", wanted, &mut names);
        let near = names.iter().filter_map(|name| Some((unlikeness(bare, name)?, name))).min();
        if let Some((_, name)) = near {
            return format!("it has {name}: write {}", write(name));
        }
        self.top_names()
    }

    fn top_names(&self) -> String {
        let names = fs::read_dir(self.root).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let (mut top, left_out): (Vec<String>, Vec<String>) =
            names.map(|name| name.to_string_lossy().into_owned()).partition(|name| !is_junk(name));
        if top.is_empty() && left_out.is_empty() {
            return "it is empty".to_owned();
        }
        if top.is_empty() {
            return format!("it has nothing but {}, which is left out", left_out.join(", "));
        }
        top.sort();
        let more = if top.len() > SHOWN { format!(" and {} more", top.len() - SHOWN) } else { String::new() };
        top.truncate(SHOWN);
        format!("at its top it has {}{more}", top.join(", "))
    }
}

fn collect(directory: &Path, prefix: &str, wanted: Wanted, names: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if names.len() >= MOST_NAMES || matches!(name.as_str(), "node_modules" | ".git") || is_junk(&name) {
            continue;
        }
        let (path, is_dir) = (format!("{prefix}{name}"), entry.file_type().is_ok_and(|kind| kind.is_dir()));
        if is_dir {
            collect(&entry.path(), &format!("{path}/"), wanted, names);
        }
        if is_dir == (wanted == Wanted::Directory) {
            names.push(path);
        }
    }
}

/// Returns a name's distance from the expected one; None if they are not similar.
fn unlikeness(meant: &str, name: &str) -> Option<usize> {
    let depth = name.matches('/').count();
    let (meant_base, name_base) = (base(meant), base(name));
    let stem = |base: &str| base.rsplit_once('.').map_or(base, |(stem, _)| stem).to_ascii_lowercase();
    if meant.eq_ignore_ascii_case(name) {
        return Some(0);
    }
    let rank = match () {
        () if meant_base == name_base => 1,
        () if meant_base.eq_ignore_ascii_case(name_base) => 2,
        () if stem(meant_base) == stem(name_base) => 3,
        () if name_base.strip_prefix(meant_base).is_some_and(|rest| rest.starts_with(['-', '_', '.'])) => 4,
        () if meant_base.ends_with(".jar") && name == "app.jar" => 4,
        () if meant_base.len() < 64
            && strsim::damerau_levenshtein(meant_base, name_base) <= meant_base.len().min(8) / 4 =>
        {
            5
        }
        () => return None,
    };
    Some(100 * rank + depth)
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns a path without its no-op components.
fn bare(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

/// Returns the script that an interpreter runs, if that is certain.
fn script_of<'a>(program: &str, arguments: &'a [String]) -> Option<&'a String> {
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
fn interpreter_for(script: &str) -> Option<&'static str> {
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

/// A link counts that leads to a place which the agent cannot see: the start reports that.
fn is_installed(name: &str) -> bool {
    USUAL_PATH.iter().any(|directory| Path::new(directory).join(name).symlink_metadata().is_ok())
}

fn not_installed(name: &str) -> String {
    let others = other_versions(name);
    let has = if others.is_empty() { String::new() } else { format!("; this server has {others}") };
    format!("which this server does not have; install that, or name another interpreter there{has}")
}

/// Lists what is installed under the same name with another version: python3.11 for python or python3.12.
fn other_versions(name: &str) -> String {
    let stem = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned();
    let names = fs::read_dir("/usr/bin").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut others: Vec<String> = names.filter(|other| stem(other) == stem(name)).collect();
    others.sort();
    others.join(", ")
}

fn is_shell(name: &str) -> bool {
    ["sh", "bash", "dash", "ash", "ksh", "zsh"].contains(&name)
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    // A FIFO in its place does not block.
    let file: File = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

fn first_line(head: &[u8]) -> Option<&[u8]> {
    head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()
}

/// Whether a script's first line ends in CRLF: the kernel takes the CR as part of the interpreter's name.
fn ends_in_return(head: &[u8]) -> bool {
    first_line(head).is_some_and(|line| line.ends_with(b"\r"))
}

fn crlf(script: &str) -> String {
    let bare = bare(script);
    format!(
        "{script} has Windows line ends (CRLF), so that Linux looks for an interpreter whose name ends in a return; save \
         it with LF: `dos2unix {bare}`, and `{} text eol=lf` in .gitattributes",
        base(&bare)
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::model::spec::SiteDirectory;

    /// Creates a tree of files: a name that ends in `*` is executable, `a->b` is a link.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let (name, mode) = name.strip_suffix('*').map_or((*name, 0o644), |name| (name, 0o755));
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("->") {
                Some(target) => symlink(target, &path).unwrap(),
                None => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                }
            }
        }
        dir
    }

    const SERVER: Place<'_> = Place::Server { stripped: None };

    fn runs(files: &[(&str, &str)], run: &str, place: &Place<'_>) -> String {
        let commands = [("web".to_owned(), Command::of_text(run).unwrap())].into();
        let dir = tree(files);
        lacks(dir.path(), &Expected { commands, ..Expected::default() }, place).unwrap_or_default()
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_is() {
        let elf = "\u{7f}ELF";
        for (files, run, said) in [
            (
                &[("shop/app*", elf)][..],
                "./app",
                "has no ./app, which process web runs; it has shop/app: write ./shop/app",
            ),
            (&[("App*", elf)], "./app", "it has App: write ./App"),
            (&[("app.sh*", "#!/bin/sh\n")], "./app", "it has app.sh: write ./app.sh"),
            (&[("app-linux-amd64*", elf)], "./app", "it has app-linux-amd64: write"),
            (&[("bin/server*", elf)], "bin/sever", "it has bin/server: write bin/server"),
            (&[("a", ""), ("b/c", "")], "./app", "at its top it has a, b"),
            (&[], "./app", "has no ./app, which process web runs; it is empty"),
            (&[(".DS_Store", "")], "./app", "it has nothing but .DS_Store, which is left out"),
            (&[(".env", "")], "./app", "at its top it has .env"),
            (&[("app/x", "")], "./app", "which is a directory in the artifact"),
            (&[("a.jar", "")], "java -Xmx1g -jar app.jar", "no app.jar, which process web runs with java"),
            (&[("dist/server.js", "")], "node server.js", "it has dist/server.js: write dist/server.js"),
            (&[("dist/server.js", "")], "/usr/bin/node --no-warnings server.js", "write dist/server.js"),
            (&[("src/main.py", "")], "python3 -uB main.py", "it has src/main.py: write src/main.py"),
            (&[("main.py", "")], "python3.11 app.py", "no app.py"),
            (&[("made-up-name*", elf)], "made-up-name serve", "the artifact has it: write ./made-up-name"),
        ] {
            let found = runs(files, run, &SERVER);
            assert!(found.contains(said), "{run}: {found}");
        }
        let stripped = Place::Server { stripped: Some("dist") };
        for (files, run, said) in [
            (&[("app*", elf)][..], "./dist/app", "its one top directory \"dist\" was stripped: write ./app"),
            (&[("server.js", "")], "node dist/server.js", "was stripped: write ./server.js"),
            (&[("bin/app*", elf)], "./app", "was stripped; it has bin/app: write ./bin/app"),
            (&[("run", "")], "sh dist/run", "with sh; its one top directory \"dist\" was stripped: write ./run"),
            (&[("bin/run", "")], "bash -eu ./dist/bin/run", "was stripped: write ./bin/run"),
            (&[("run", "")], "python3 dist/run", "was stripped: write ./run"),
            (&[("artisan", "")], "php dist/artisan serve", "was stripped: write ./artisan"),
            (&[("server.js", "")], "node dist", "its one top directory \"dist\" was stripped"),
            (
                &[("a.rb", "")],
                "bundle exec ruby dist/a.rb",
                "runs bundle with dist/a.rb; the one top directory \"dist\"",
            ),
            (&[("c.yaml", "")], "caddy run --config=./dist/c.yaml", "was stripped: write ./c.yaml"),
            (&[("a.jar", ""), ("b.jar", "")], "java -cp lib:dist/a.jar Main", "was stripped: write a.jar"),
            (&[("app.py", "")], "gunicorn dist.app:app", "with dist.app:app; the one top directory \"dist\""),
            (&[("api/main.py", "")], "uvicorn dist.api.main:app", "was stripped: write api.main:app"),
            (&[("tasks/__init__.py", "")], "celery -A dist.tasks worker", "was stripped: write tasks"),
            (&[("app.py", "")], "gunicorn --chdir dist app:app", "with dist; the one top directory \"dist\" of the"),
            (&[("index.php", "")], "php -S $HOST:$PORT -t dist", "was stripped: write ."),
            (&[("package.json", "")], "npm --prefix=dist start", "was stripped: write ."),
            (&[("run", "")], "sh -c 'cd dist && exec ./run'", "was stripped: write ."),
            (&[("run", "")], "sh -c 'x=1; exec dist/run'", "was stripped: write ./run"),
            (
                &[("a", "")],
                "npm start",
                "no package.json, which npm needs in process web; its one top directory \"dist\"",
            ),
        ] {
            let found = runs(files, run, &stripped);
            assert!(found.contains(said), "{run}: {found}");
        }
        for (files, run) in [
            (&[("app*", elf)][..], "./app dist"),
            (&[("app*", elf)], "./app --mode dist --to dist/new https://x/dist/app"),
            (&[("app*", elf), ("dist/x", "")], "./app dist/x"),
            (&[("app*", elf)], "./app /dist/app"),
            (&[("app*", elf)], "python3 -m dist.x"),
            (&[("run", "")], "sh -c 'cd $DATA_DIR && exec dist/run'"),
            (&[("a", "")], "npm --prefix $DATA_DIR start"),
            (&[("a", "")], "npm exec serve"),
            (&[("server.js", "")], "node server"),
            (&[("a", "")], "sh true"),
        ] {
            assert_eq!(runs(files, run, &stripped), "", "{run}");
        }
        let found = runs(&[("web/package.json", ""), ("a", "")], "npm run serve -- -p $PORT", &SERVER);
        assert!(found.ends_with("write npm --prefix web run serve -- -p $PORT"), "{found}");
    }

    #[test]
    fn an_interpreter_that_only_the_app_may_find_is_left_to_the_start() {
        let dir = tree(&[("x*", "#!/usr/bin/env pythonx\n"), ("y*", "#!/home/none/node\n")]);
        for (run, own_path, unconfined) in [("./x", true, false), ("./y", false, true)] {
            let commands = [("web".to_owned(), Command::of_text(run).unwrap())].into();
            let expected = Expected { commands, own_path, unconfined, ..Expected::default() };
            assert_eq!(lacks(dir.path(), &expected, &SERVER), None, "{run}");
        }
        let foreign = tree(&[("x*", "#!/usr/bin/env pythonx\n")]);
        let commands = [("web".to_owned(), Command::of_text("./x").unwrap())].into();
        let expected = Expected { commands, ..Expected::default() };
        assert_eq!(lacks(foreign.path(), &expected, &Place::Elsewhere), None);
    }

    #[test]
    fn what_could_start_is_left_to_start() {
        let elf = "\u{7f}ELF";
        for (files, run) in [
            (&[("app*", elf)][..], "./app serve"),
            (&[("app", elf)], "./app"),
            (&[("bin/app*", "#!/bin/sh\n")], "bin//./app"),
            (&[("x.wasm*", "wasm")], "./x.wasm"),
            (
                &[("venv/bin/python", "->python3"), ("venv/bin/python3", "->/usr/bin/env"), ("app.py", "")],
                "venv/bin/python app.py",
            ),
            (&[("run", "->bin/run"), ("bin/run*", elf)], "./run"),
            (&[("a", "")], "/opt/x/run"),
            (&[("a", "")], "$DATA_DIR/run"),
            (&[("a", "")], "node --flag server.js"),
            (&[("a", "")], "python3 -m server.py"),
            (&[("a", "")], "/usr/bin/env python3 server.py"),
            (&[("a", "")], "python3 -m http.server"),
            (&[("a", "")], "java -jar $DATA_DIR/x.jar"),
            (&[("a", "")], "not-installed-anywhere"),
            (&[("app.py", "#!/usr/bin/env python3\r\n")], "python3 app.py"),
        ] {
            assert_eq!(runs(files, run, &SERVER), "", "{run}");
        }
        assert_eq!(
            runs(&[("python", "->/usr/bin/python9.9")], "./python x.py", &Place::Elsewhere),
            "the artifact has no x.py, which process web runs with ./python; at its top it has python"
        );
    }

    #[test]
    fn a_script_that_could_not_start_is_told_by_name() {
        for (files, run, said) in [
            (&[("run.sh*", "#!/bin/sh\r\necho\r\n")][..], "./run.sh", "./run.sh has Windows line ends (CRLF)"),
            (&[("run.sh", "#!/bin/sh\r\necho\r\n")], "bash run.sh", "run.sh has Windows line ends"),
            (&[("app.py", "print(1)")], "./app.py", "name the interpreter before it"),
            (&[("x*", "#!/opt/none/bin/ruby -w\n")], "./x", "first line names /opt/none/bin/ruby, which this server"),
            (&[("x*", "#!/usr/bin/env pythonx\n")], "./x", "first line names pythonx, which this server does not have"),
            (&[("x*", "#!/usr/bin/env -S A=b s9h -e\n")], "./x", "names s9h, which this server does not have"),
            (&[("x*", "#!/usr/bin/sh9\n")], "./x", "or name another interpreter there; this server has sh"),
            (&[("x*", "#!/root/.none/shims/python3\n")], "./x", "out of reach; apps cannot get at homes"),
            (&[("x*", "#!/home/none/.nvm/node\n")], "./x", "names /home/none/.nvm/node, which is out of reach"),
            (&[("server.js*", "console.log(1)")], "./server.js", "before it: `node server.js`"),
            (&[("start.cmd", "@echo off\r\n")], "./start.cmd", "which is a script for Windows; write the command"),
            (
                &[("start.bat*", "x"), ("start.sh", "")],
                "./start.bat",
                "a script for Windows; the artifact has ./start.sh",
            ),
            (&[("bin/run.ps1*", "x"), ("bin/run*", "")], "bin/run.ps1", "too: write bin/run"),
            (&[("start.cmd", "x")], "start.cmd", "which is a script for Windows"),
            (&[("app.exe", "MZ\u{1}\0\0\0\0\0"), ("app.dll", "")], "./app.exe", "for Linux; or write dotnet app.dll"),
            (&[("app.jar*", "PK\u{3}\u{4}")], "./app.jar", "which is a jar; write java -jar app.jar"),
            (
                &[("venv/bin/gunicorn*", "#!/home/ci/venv/bin/python3\n"), ("venv/bin/python", "->/usr/bin/env")],
                "./venv/bin/gunicorn app:app",
                "write ./venv/bin/python -m gunicorn",
            ),
            (
                &[("venv/bin/python3", "->/usr/bin/python9.9")],
                "venv/bin/python3",
                "link to /usr/bin/python9.9, and this server",
            ),
            (&[("run", "->bin/run"), ("a", "")], "./run", "link to bin/run, and the artifact has no such file"),
        ] {
            let found = runs(files, run, &SERVER);
            assert!(found.contains(said), "{run}: {found}");
        }
    }

    #[test]
    fn a_program_gets_the_right_to_be_run() {
        let dir = tree(&[("app", "\u{7f}ELF")]);
        let commands = [("web".to_owned(), Command::of_text("./app").unwrap())].into();
        let expected = Expected { commands, ..Expected::default() };
        let mode = || fs::metadata(dir.path().join("app")).unwrap().permissions().mode() & 0o777;
        assert_eq!((lacks(dir.path(), &expected, &Place::Elsewhere), mode()), (None, 0o644));
        assert_eq!((lacks(dir.path(), &expected, &SERVER), mode()), (None, 0o755));
    }

    #[test]
    fn a_directory_to_serve_is_looked_for_the_same_way() {
        let expected = |site: &str| {
            let site = SiteDirectory::try_from(site.to_owned()).unwrap();
            Expected { sites: [("docs".parse().unwrap(), site)].into(), ..Expected::default() }
        };
        let dir = tree(&[("site/public/index.html", "")]);
        let lacks = |site: &str, stripped| lacks(dir.path(), &expected(site), &Place::Server { stripped });
        assert_eq!(lacks("site/public", None), None);
        assert_eq!(lacks(".", None), None);
        let said = lacks("public", None).unwrap();
        assert!(
            said.ends_with("no directory public, which process docs serves; it has site/public: write site/public"),
            "{said}"
        );
        let said = lacks("dist", Some("dist")).unwrap();
        assert!(said.ends_with("its one top directory \"dist\" was stripped: write ."), "{said}");
        let said = lacks("dist/site", Some("dist")).unwrap();
        assert!(said.ends_with("was stripped: write site"), "{said}");
    }
}
