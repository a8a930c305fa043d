//! Whether a tree holds the programs and directories that a release needs.
//!
//! It refuses only what could not start anyway, so that a release is rejected with its reason instead of after a trial.

mod instead;
mod words;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;

use super::tree::{is_program, is_system_program};
use super::{binary, kind};
use crate::model::expected::Expected;
use crate::model::layout::{HIDDEN_HOMES, is_in_home};
use crate::model::spec::Command;

use instead::collect;
use words::{SHELL_BREAKS, files_of, interpreter_for, is_shell, script_of, shell_for, shell_text, simple_command};

/// The PATH of launched programs.
const USUAL_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How much of a file is read: the kernel reads as much of a script's first line.
const HEAD: u64 = 256;

const MOST_LINKS: usize = 40;

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

/// What makes a shell's word other than it is written, or another thing than a word.
const SHELL_SIGNS: [char; 11] = ['$', '`', '*', '?', '~', '\\', '<', '>', '{', '"', '\''];

/// Flags for the directory where a program works; without that directory it ends.
const WORKS_IN: [(&str, &str); 8] = [
    ("gunicorn", "--chdir"),
    ("uwsgi", "--chdir"),
    ("npm", "--prefix"),
    ("yarn", "--cwd"),
    ("pnpm", "-C"),
    ("bun", "--cwd"),
    ("php", "-t"),
    ("make", "-C"),
];

/// Where an app sees other files than the agent does, or files come and go.
const OUT_OF_SIGHT: [&str; 10] =
    ["/tmp", "/var/tmp", "/run", "/var/run", "/proc", "/sys", "/dev", "/mnt", "/media", "/srv"];

/// The largest package.json that is read.
const LARGEST_PACKAGE: u64 = 1 << 20;

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
            // Known only on start.
            _ if program.contains('$') => None,
            _ if program.starts_with('/') => self.judge_absolute(whose, program, ""),
            _ if !program.contains('/') => self.judge_name(whose, program),
            _ => self.judge_program(whose, program),
        };
        let script = || script_of(program, arguments).filter(|script| !script.contains('$'));
        flaw.or_else(|| self.judge_script(whose, program, script()?))
            .or_else(|| self.judge_directory(whose, program, arguments))
            .or_else(|| self.judge_shell(whose, shell_text(program, arguments)?))
            .or_else(|| self.judge_package(whose, program, arguments))
            .or_else(|| self.judge_arguments(whose, program, arguments))
    }

    /// A program named without a path is looked up on the server, never in the artifact.
    fn judge_name(&self, whose: &str, name: &str) -> Option<String> {
        if !self.on_server() || self.own_path || is_installed(name) {
            return None;
        }
        let Found::File(path) = self.find(name) else { return named_otherwise(whose, name, base(name)) };
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

    /// A path on the server, as in a container's image.
    fn judge_absolute(&self, whose: &str, path: &str, with: &str) -> Option<String> {
        let Some(inside) = self.inside(path, Wanted::File) else {
            let is_of_system = path.rsplit_once('/').is_some_and(|(place, _)| USUAL_PATH.contains(&place));
            let is_program = with.is_empty() && is_of_system && self.is_absent(path);
            return is_program.then(|| named_otherwise(whose, path, base(path))).flatten();
        };
        Some(format!(
            "{whose} runs {path}{with}, which this server does not have; the artifact has {inside}, and a process starts \
             in the artifact's directory: write ./{inside}"
        ))
    }

    /// Returns the path in the artifact of what is not on the server under an absolute path.
    fn inside(&self, path: &str, wanted: Wanted) -> Option<String> {
        if !self.is_absent(path) {
            return None;
        }
        let bare = bare(path);
        let parts: Vec<&str> = bare.split('/').collect();
        (0..parts.len()).map(|from| parts[from..].join("/")).find(|rest| self.is(rest, wanted))
    }

    /// Whether the server has no file or directory of an absolute path, as far as the agent sees what an app sees.
    fn is_absent(&self, path: &str) -> bool {
        let path = Path::new(path);
        let is_near = |place: &Path| place.components().nth(1) == path.components().nth(1);
        self.on_server()
            && path.is_absolute()
            && !is_near(self.root)
            && !is_in_home(path)
            && !OUT_OF_SIGHT.iter().any(|place| path.starts_with(place))
            && fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// A directory on the server where a program is to work.
    fn judge_directory(&self, whose: &str, program: &str, arguments: &[String]) -> Option<String> {
        let (_, flag) = WORKS_IN.into_iter().find(|(name, _)| *name == base(program))?;
        let at = arguments.iter().position(|word| word == flag);
        let after = at.and_then(|at| arguments.get(at + 1)).map(String::as_str);
        let joined = || arguments.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
        let directory = after.or_else(joined).filter(|directory| !directory.contains('$'))?;
        self.is_absent(directory).then(|| {
            let inside = self.inside(directory, Wanted::Directory).unwrap_or_else(|| ".".to_owned());
            format!(
                "{whose} runs {program} with {flag} {directory}, and this server has no such directory; a process starts \
                 in the artifact's directory: write {flag} {inside}"
            )
        })
    }

    /// Judges what a shell's text runs, if it cannot do without it: the last of its commands, and what `&&` binds to it.
    fn judge_shell(&self, whose: &str, text: &str) -> Option<String> {
        let last = text.rsplit([';', '\n']).find(|command| !command.trim().is_empty())?;
        // What is quoted may hold the signs that were split at.
        let is_whole = ['"', '\''].iter().all(|quote| last.matches(*quote).count() % 2 == 0);
        let is_bound = is_whole && !last.contains("||") && !last.replace("&&", " ").contains(['&', '|', '(', ')']);
        if !is_bound || text.contains("<<") {
            return None;
        }
        let mut commands = last.split("&&").map(simple_command);
        if text.split_whitespace().any(|word| ["cd", "pushd", "chroot"].contains(&word)) {
            return None;
        }
        let is_plain = |word: &str| !word.contains(SHELL_SIGNS);
        commands.find_map(|words| {
            let (program, arguments) = words.split_first().filter(|(program, _)| is_plain(program))?;
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            let of_file = match self.find(&bare(program)) {
                Found::File(path) if program.contains('/') && !program.starts_with('/') => {
                    self.judge_file(whose, program, &path)
                }
                _ => None,
            };
            let script = || {
                let script = script_of(program, &arguments).filter(|script| is_plain(script))?;
                matches!(self.find(&bare(script)), Found::File(_)).then_some(script)
            };
            of_file.or_else(|| self.judge_script(whose, program, script()?))
        })
    }

    /// A script that an interpreter runs.
    fn judge_script(&self, whose: &str, program: &str, script: &str) -> Option<String> {
        if script.starts_with('/') {
            return self.judge_absolute(whose, script, &format!(" with {program}"));
        }
        match self.find(&bare(script)) {
            Found::Nothing if self.is_found_otherwise(program, script) => None,
            Found::Nothing => Some(self.missing(script, &format!("{whose} runs with {program}"), Wanted::File)),
            Found::File(path) => {
                let head = head(&path).ok()?;
                if let Some(what) = kind::no_script(&head) {
                    return Some(format!("{whose} runs {script} with {program}, and that is {what}"));
                }
                (is_shell(base(program)) && ends_in_return(&head)).then(|| crlf(script))
            }
            _ => None,
        }
    }

    fn judge_file(&self, whose: &str, program: &str, path: &Path) -> Option<String> {
        let head = head(path).ok()?;
        let mode = fs::metadata(path).ok()?.permissions().mode();
        // An empty release command does nothing, and that may be meant.
        if head.is_empty() && whose.starts_with("process ") {
            return Some(format!("{whose} runs {program}, which is empty in the artifact"));
        }
        if let Some(what) = kind::no_script(&head) {
            return Some(format!("{whose} runs {program}, which is {what}"));
        }
        if ends_in_return(&head) {
            return Some(crlf(program));
        }
        if let Some(why) = self.of_another_system(program, path, &head) {
            return Some(format!("{whose} runs {program}, {why}"));
        }
        if let Some(name) = kind::no_program(&head).filter(|_| !binary::has_handlers()) {
            return Some(format!(
                "{whose} runs {program}, which is no program but {name}; a program begins with #! and its interpreter, or \
                 is built for Linux"
            ));
        }
        let known = interpreter_for(program).or_else(|| head.starts_with(b"<?php").then_some("php"));
        if !is_program(&head) && (mode & 0o111 == 0 || known.is_some()) {
            let (interpreter, script) = match known.or_else(|| shell_for(program)) {
                Some(interpreter) => (interpreter, bare(program)),
                None => ("python3", "FILE".to_owned()),
            };
            return Some(format!(
                "{whose} runs {program}, which is no program: it does not begin with #! and its interpreter; name the \
                 interpreter before it: `{interpreter} {script}`"
            ));
        }
        if let Some(interpreter) = joined_interpreter(&head) {
            return Some(format!(
                "{whose} runs {program}, in whose first line env takes all of {interpreter:?} for one name: write \
                 #!/usr/bin/env -S {interpreter}"
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
        if !starts || arguments.iter().any(goes_elsewhere) {
            return None;
        }
        match self.find(FILE) {
            Found::Nothing => {}
            Found::File(path) => {
                let name = arguments.iter().find(|word| !word.starts_with('-') && !word.starts_with("run"));
                let script = script_of_package(&path, name?)?;
                return self.judge_shell(&format!("{whose}, by {FILE},"), &script);
            }
            _ => return None,
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
        let text = shell_text(program, arguments);
        let given: Vec<&str> = [program].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let words: Vec<&str> = match text {
            Some(text) => text.split(SHELL_BREAKS).flat_map(|command| files_of(&simple_command(command))).collect(),
            // What it runs was judged already.
            None => files_of(&given).split_off(1),
        };
        let of_shell = text.is_some();
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
        if flag == "-m" {
            return self.module_without_top(top, value);
        }
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

    /// The same for a module that python runs. What it imports may name the directory too.
    fn module_without_top(&self, top: &str, module: &str) -> Option<(String, String)> {
        const KEPT: &str = "or pack the directory with another file beside it, so that it is kept";
        let exists = |path: &str| matches!(self.find(path), Found::File(_));
        if is_of_python(top) {
            return None;
        }
        if module == top && exists("__main__.py") {
            return Some((format!("-m {module}"), format!("__main__.py in place of it, {KEPT}")));
        }
        let rest = module.strip_prefix(top)?.strip_prefix('.')?;
        let path = rest.replace('.', "/");
        let is_there = exists(&format!("{path}.py")) || exists(&format!("{path}/__main__.py"));
        is_there.then(|| (format!("-m {module}"), format!("-m {rest}, {KEPT}")))
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
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns a path without its no-op components.
fn bare(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

/// A link counts that leads to a place which the agent cannot see: the start reports that.
fn is_installed(name: &str) -> bool {
    USUAL_PATH.iter().any(|directory| Path::new(directory).join(name).symlink_metadata().is_ok())
}

/// Says under which name a program is installed that is not under the one it is run by.
fn named_otherwise(whose: &str, written: &str, name: &str) -> Option<String> {
    if is_installed(name) {
        return Some(format!("{whose} runs {written}, which this server does not have there: write {name}"));
    }
    let others = other_versions(name);
    let first = others.split(", ").next().filter(|first| !first.is_empty())?;
    Some(format!("{whose} runs {written}, which this server does not have; it has {others}: write {first}"))
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

/// Returns what `env` takes for one name in a script's first line, though it has arguments.
fn joined_interpreter(head: &[u8]) -> Option<&str> {
    let (env, rest) = std::str::from_utf8(first_line(head)?).ok()?.trim().split_once([' ', '\t'])?;
    let rest = rest.trim();
    let is_joined = rest.split_once([' ', '\t']).is_some_and(|(name, _)| !name.starts_with('-'));
    (base(env) == "env" && is_joined).then_some(rest)
}

/// Whether a module of this name comes with the server's python.
fn is_of_python(module: &str) -> bool {
    let versions = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut versions = versions.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
    versions.any(|entry| {
        let at = entry.path();
        ["", "dist-packages"]
            .iter()
            .any(|place| at.join(place).join(module).exists() || at.join(place).join(format!("{module}.py")).exists())
    })
}

/// Returns a script of a package.json.
fn script_of_package(path: &Path, name: &str) -> Option<String> {
    let file = File::open(path).ok()?;
    let package: serde_json::Value = serde_json::from_reader(file.take(LARGEST_PACKAGE)).ok()?;
    package.get("scripts")?.get(name)?.as_str().map(str::to_owned)
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

    const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n";
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
            (&[("main.py", "")], "/opt/py/python3.11 app.py", "no app.py"),
            (&[("made-up-name*", elf)], "made-up-name serve", "the artifact has it: write ./made-up-name"),
            (&[("app*", LFS)], "./app", "runs ./app, which is a Git LFS pointer and not the file itself: pack after"),
            (&[("app.jar", LFS)], "java -jar app.jar", "runs app.jar with java, and that is a Git LFS pointer"),
            (&[("app*", "<!DOCTYPE html>\n")], "./app", "which is a web page in place of the file"),
            (&[("app*", "<?php echo 1;")], "./app", "name the interpreter before it: `php app`"),
            (&[("app*", "")], "./app", "process web runs ./app, which is empty in the artifact"),
            (&[("app", "")], "/usr/local/sbin/sh app", "does not have there: write sh"),
            (&[("app", "")], "sh9.9 app", "which this server does not have; it has sh: write sh"),
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
            (
                &[("app.py", "")],
                "python3 -m dist.app",
                "was stripped: write -m app, or pack the directory with another",
            ),
            (&[("__main__.py", "")], "/opt/py/python3.11 -m dist", "with -m dist; the one top directory \"dist\""),
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
            (&[("app*", elf)], "./app -t dist --prefix dist -C dist"),
            (&[("app*", elf), ("orders.py", "")], "./app --topic dist.orders"),
            (&[("app*", elf), ("data/x", "")], "./app --s3 dist/data/x"),
            (&[("orders.py", "")], "celery -A tasks -Q dist.orders"),
            (&[("artisan", ""), ("orders", "")], "php artisan queue:work --queue=dist/orders"),
            (&[("a.jar", ""), ("orders", "")], "java -cp a.jar Main --topic dist/orders"),
            (&[("app.py", "")], "bash -c 'echo dist/app.py; exec python3 app.py'"),
            (&[("app.py", ""), ("orders.py", "")], "sh -c 'exec python3 app.py --topic dist.orders'"),
            (&[("app*", elf)], "python3 -m dist.x"),
            (&[("app.py", "")], "python3 -m app"),
            (&[("app*", elf), ("app.py", "")], "./app -m dist.app"),
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
            (&[("a.sh*", "#!/bin/sh\r\n"), ("b", "")], "sh -c './a.sh || exec sh b'"),
            (&[("a.sh*", "#!/bin/sh\r\n"), ("b", "")], "sh -c './a.sh; exec sh b'"),
            (&[("a.sh*", "#!/bin/sh\r\n")], "sh -c 'cd $DATA_DIR && ./a.sh'"),
            (&[("a.sh*", "#!/bin/sh\r\n")], "sh -c 'echo ./a.sh'"),
            (&[("a.sh*", "#!/bin/sh\r\n")], r#"sh -c 'echo "x; ./a.sh"'"#),
            (&[("package.json", r#"{"scripts": {"start": "node x.js"}}"#)], "npm start"),
            (&[("x.sh*", "exec true")], "./x.sh"),
            (&[("x.sh*", "#!/usr/bin/env -S bash -e\n")], "./x.sh"),
            (&[("run.sh*", "#!/bin/sh\n")], "/home/me/run.sh"),
            (&[("run.sh*", "#!/bin/sh\n")], "/tmp/none/run.sh"),
            (&[("sh*", "#!/bin/sh\n")], "/bin/sh"),
            (&[("run*", "#!/bin/sh\n")], "./run --chdir /none x"),
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
            (&[("x*", "#!/usr/bin/env A=b sh\n")], "./x", "for one name: write #!/usr/bin/env -S A=b sh"),
            (&[("x*", "#!/usr/bin/env -S A=b s9h -e\n")], "./x", "names s9h, which this server does not have"),
            (&[("x*", "#!/usr/bin/sh9\n")], "./x", "or name another interpreter there; this server has sh"),
            (&[("x*", "#!/root/.none/shims/python3\n")], "./x", "out of reach; apps cannot get at homes"),
            (&[("x*", "#!/home/none/.nvm/node\n")], "./x", "names /home/none/.nvm/node, which is out of reach"),
            (&[("server.js*", "console.log(1)")], "./server.js", "before it: `node server.js`"),
            (&[("x.sh", "exec true"), ("app.py", "")], "./x.sh", "before it: `sh x.sh`"),
            (&[("x.sh*", "#!/usr/bin/env bash -e\n")], "./x.sh", "one name: write #!/usr/bin/env -S bash -e"),
            (&[("a.sh*", "#!/bin/sh\r\n")], "sh -c ./a.sh", "./a.sh has Windows line ends"),
            (&[("a.sh*", "#!/bin/sh\r\n")], "sh -c 'set -e; true && A=1 exec -a web ./a.sh -x'", "Windows line ends"),
            (&[("a.sh", "#!/bin/sh\r\n")], "bash -c 'exec sh a.sh'", "a.sh has Windows line ends"),
            (
                &[("a.sh*", "#!/bin/sh\r\n"), ("package.json", r#"{"scripts": {"start": "./a.sh"}}"#)],
                "npm start",
                "./a.sh has Windows line ends",
            ),
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
    fn a_path_of_a_container_is_found_in_the_artifact() {
        for (files, run, said) in [
            (&[("run.sh*", "#!/bin/sh\n")][..], "/app/run.sh", "the artifact has run.sh, and a process"),
            (&[("bin/run*", "#!/bin/sh\n")], "/app/none/bin/run", "write ./bin/run"),
            (&[("app.py", "")], "python3 /usr/src/none/app.py", "runs /usr/src/none/app.py with python3, which this"),
            (&[("dist/server.js", "")], "node /app/none/dist/server.js", "write ./dist/server.js"),
            (&[("gi.py", "")], "gunicorn --chdir /app/none gi:app", "write --chdir ."),
            (&[("shop/gi.py", "")], "gunicorn --chdir=/app/none/shop gi:app", "write --chdir shop"),
        ] {
            let found = runs(files, run, &SERVER);
            assert!(found.contains(said), "{run}: {found}");
            assert_eq!(runs(files, run, &Place::Elsewhere), "", "{run}");
        }
    }

    #[test]
    fn what_is_no_app_is_named() {
        let image = &[("manifest.json", "[]"), ("repositories", "{}"), ("abc/layer.tar", "")][..];
        for (files, run, said) in [
            (image, "python3 app.py", "it is a container's image"),
            (&[("oci-layout", ""), ("index.json", ""), ("blobs/x", "")], "./run", "it is a container's image"),
            (&[("app.tar", "")], "python3 app.py", "it has app.tar, an archive in the archive: publish app.tar itself"),
            (&[("s30.tgz", ""), ("README", "")], "./s30", "it has s30.tgz, an archive in the archive"),
            (&[("data.zip", ""), ("a", ""), ("b", ""), ("main.py", "")], "python3 app.py", "at its top it has a, b"),
        ] {
            let found = runs(files, run, &SERVER);
            assert!(found.contains(said), "{run}: {found}");
        }
        let dir = tempfile::tempdir().unwrap();
        let mut jar = zip::ZipWriter::new(File::create(dir.path().join("app.jar")).unwrap());
        for name in ["META-INF/MANIFEST.MF", "app.py"] {
            jar.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        }
        jar.finish().unwrap();
        for (run, said) in [("python3 app.py", "it was taken for a jar"), ("java -jar x.jar", "write app.jar")] {
            let commands = [("web".to_owned(), Command::of_text(run).unwrap())].into();
            let found = lacks(dir.path(), &Expected { commands, ..Expected::default() }, &SERVER).unwrap();
            assert!(found.contains(said), "{run}: {found}");
        }
        let binary = runs(&[("x*", "\0asm\u{1}\0\0\0")], "./x", &SERVER);
        assert!(binary.contains("no program but a WebAssembly module") || binary::has_handlers(), "{binary}");
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
