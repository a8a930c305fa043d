//! The tree being written: what exists where, which names are allowed, and where links may lead.
//!
//! While files are written there is no link on disk, so nothing can be written through one. Links come last, when all
//! possible targets are known.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::budget::Budget;
use super::{Code, Limits, UnpackError, Unpacked};

/// The agent's own marker of a finished release, which no archive may contain.
pub const MANIFEST: &str = ".zexio-release.json";
const LONGEST_NAME: usize = 255;
/// Leaves room below the kernel's 4096 for the releases directory.
const LONGEST_PATH: usize = 2048;
const LONGEST_TARGET: usize = 1024;
/// The kernel follows as many.
const MOST_LINKS: usize = 40;

/// A path inside the tree: names joined by `/`, no `.` or `..`. Empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryName(String);

impl EntryName {
    /// Returns the name under which a bare executable is installed.
    pub(super) fn app() -> Self {
        Self("app".to_owned())
    }

    /// Returns the name under which a jar is installed.
    pub(super) fn jar() -> Self {
        Self("app.jar".to_owned())
    }

    /// Whether it is a metadata file that macOS or Windows adds to archives, not part of the app.
    pub(super) fn is_junk(&self) -> bool {
        self.0.split('/').any(is_junk)
    }

    fn parse(raw: &[u8], limits: &Limits) -> Result<Self, UnpackError> {
        let shown = String::from_utf8_lossy(raw);
        let shown: String = shown.chars().take(200).collect();
        let refuse = |code, rule: String| Err(UnpackError::new(code, format!("could not accept {shown:?}: {rule}")));
        // Refused by its control character, it would refuse a whole archive for a file that Finder hides.
        let icon = raw
            .strip_suffix(b"\r")
            .filter(|name| matches!(name.rsplit(|byte| *byte == b'/').next(), Some(b"Icon" | b"._Icon")));
        let text = match text(icon.unwrap_or(raw)) {
            Ok(text) => text,
            Err(rule) => return refuse(Code::EntryForbidden, format!("its name {rule}")),
        };
        if text.starts_with('/') {
            return refuse(Code::PathEscapes, "its path is absolute".to_owned());
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return refuse(Code::PathEscapes, "its path holds ..".to_owned());
        }
        if parts.iter().any(|part| part.len() > LONGEST_NAME) {
            return refuse(Code::EntryForbidden, format!("one name has more than {LONGEST_NAME} bytes"));
        }
        let path = parts.join("/") + if icon.is_some() { "\r" } else { "" };
        if parts.len() as u64 > limits.max_depth || path.len() > LONGEST_PATH {
            let rule = format!("path too deep: more than {} names or {LONGEST_PATH} bytes", limits.max_depth);
            return refuse(Code::PathTooDeep, rule);
        }
        Ok(Self(path))
    }

    /// Returns the parent directories, outermost first.
    fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }
}

/// Whether a name is one that macOS or Windows adds to directories and archives, not part of the app. Finder's file for
/// a directory's icon ends with a carriage return.
pub fn is_junk(name: &str) -> bool {
    matches!(name, "__MACOSX" | ".DS_Store" | "Icon\r" | "Thumbs.db" | "desktop.ini" | "Desktop.ini")
        || name.starts_with("._")
}

/// Whether a link may lead outside the artifact: to a system program, like those of a virtual environment.
pub fn is_system_program(target: &str) -> bool {
    let name = target.strip_prefix("/usr/bin/").unwrap_or_default();
    !matches!(name, "" | "." | "..") && !name.contains('/')
}

/// Says what to do with a link that leads out of an artifact.
pub fn instead_of_link(target: &str) -> &'static str {
    let name = target.rsplit('/').next().unwrap_or(target);
    let is_python = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
    match is_python.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')) {
        true => {
            "make the virtual environment with `/usr/bin/python3 -m venv`, or ship its packages alone: `pip install \
             --target lib`, and PYTHONPATH: lib under env"
        }
        false => "make it relative, as with `ln -sr`, put the file itself into the artifact, or leave the link out",
    }
}

/// Whether a file starts like a program or a script.
pub(super) fn is_program(head: &[u8]) -> bool {
    head.starts_with(b"#!") || head.starts_with(b"\x7fELF")
}

/// Decodes bytes as text that looks the same to every reader and in every terminal.
fn text(raw: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(raw).map_err(|_| "is not UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    match text.contains('\\') {
        true => Err("holds a backslash"),
        false => Ok(text),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Dir,
    File,
    Link(String),
}

/// The tree under construction.
pub(super) struct Tree<'a> {
    root: &'a Path,
    limits: Limits,
    budget: Budget,
    entries: u64,
    nodes: BTreeMap<String, Node>,
    /// Whether any file came with execute permission.
    has_modes: bool,
    /// Files that start like programs and came without execute permission.
    without_mode: Vec<String>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a Path, limits: &Limits, artifact: u64) -> Self {
        let budget = Budget::new(limits, artifact);
        Self {
            root,
            limits: *limits,
            budget,
            entries: 0,
            nodes: BTreeMap::new(),
            has_modes: false,
            without_mode: Vec::new(),
        }
    }

    /// Checks an entry's name, and counts the entry, even if it is refused later.
    pub(super) fn name(&mut self, raw: &[u8]) -> Result<EntryName, UnpackError> {
        self.entries += 1;
        self.check_count()?;
        self.path(raw)
    }

    /// Checks a path that is not an entry of its own: a hard link's target.
    pub(super) fn path(&self, raw: &[u8]) -> Result<EntryName, UnpackError> {
        EntryName::parse(raw, &self.limits)
    }

    /// Creates a directory. A second entry for it is fine: many tools write them.
    pub(super) fn dir(&mut self, name: &EntryName) -> Result<(), UnpackError> {
        self.make_parents(name)?;
        match self.nodes.get(&name.0) {
            _ if name.0.is_empty() => Ok(()),
            Some(Node::Dir) => Ok(()),
            Some(_) => Err(duplicate(&name.0)),
            None => self.make_dir(&name.0),
        }
    }

    /// Writes a file and returns its size. Only the execute bit of its mode is kept.
    pub(super) fn file(
        &mut self,
        name: EntryName,
        executable: bool,
        content: &mut dyn Read,
        blame: &dyn Fn(io::Error) -> UnpackError,
    ) -> Result<u64, UnpackError> {
        self.claim(&name, Node::File)?;
        let failed = |error: io::Error| UnpackError::writing(&name.0, &error);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.at(&name.0)).map_err(failed)?;
        let before = self.budget.used;
        let mut chunk = vec![0; 64 << 10];
        let mut head = Vec::with_capacity(4);
        loop {
            let read = match content.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(blame(error)),
            };
            self.budget.spend(read as u64)?;
            head.extend(chunk[..read].iter().take(4 - head.len()));
            file.write_all(&chunk[..read]).map_err(failed)?;
        }
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
        self.has_modes |= executable;
        self.without_mode.extend((!executable && is_program(&head)).then_some(name.0));
        Ok(self.budget.used - before)
    }

    /// Records a link; it is created once the tree is complete.
    pub(super) fn symlink(&mut self, name: EntryName, target: &[u8]) -> Result<(), UnpackError> {
        let refuse = |code, rule: &str| {
            let target = String::from_utf8_lossy(target);
            Err(UnpackError::new(code, format!("could not accept the link {:?} to {target:?}: {rule}", name.0)))
        };
        let target = match text(target) {
            Ok(target) => target,
            Err(rule) => return refuse(Code::EntryForbidden, &format!("its target {rule}")),
        };
        if target.is_empty() || target.len() > LONGEST_TARGET {
            return refuse(Code::EntryForbidden, "its target is empty or has more than 1024 bytes");
        }
        if target.starts_with('/') && !is_system_program(target) {
            let rule = format!("its target is absolute, and not a program in /usr/bin; {}", instead_of_link(target));
            return refuse(Code::PathEscapes, &rule);
        }
        self.claim(&name, Node::Link(target.to_owned()))
    }

    /// Hard-links an earlier file.
    pub(super) fn hardlink(&mut self, name: EntryName, target: &EntryName) -> Result<(), UnpackError> {
        if self.nodes.get(&target.0) != Some(&Node::File) {
            let rule = format!("{:?} is not an earlier file of the archive", target.0);
            return Err(UnpackError::new(
                Code::PathEscapes,
                format!("could not accept the hard link {:?}: {rule}", name.0),
            ));
        }
        self.claim(&name, Node::File)?;
        let linked = fs::hard_link(self.at(&target.0), self.at(&name.0));
        linked.map_err(|error| UnpackError::writing(&name.0, &error))
    }

    /// Strips a lone top directory and creates the links.
    pub(super) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        if !self.nodes.values().any(|node| *node == Node::File) {
            return Err(UnpackError::damaged("it holds no files"));
        }
        if !self.has_modes {
            self.give_modes()?;
        }
        let stripped = self.lone_top();
        if let Some(top) = &stripped {
            self.hoist(top).map_err(|error| UnpackError::writing(top, &error))?;
        }
        if self.nodes.contains_key(MANIFEST) {
            let message = format!("could not accept {MANIFEST:?}: the name belongs to the agent");
            return Err(UnpackError::new(Code::EntryForbidden, message));
        }
        self.make_links()?;
        Ok(Unpacked { entries: self.nodes.len() as u64, bytes: self.budget.used, stripped })
    }

    /// An archive without any executable was made where files have no execute bit: on Windows, or by a CI's artifact
    /// store.
    fn give_modes(&self) -> Result<(), UnpackError> {
        self.without_mode.iter().try_for_each(|path| {
            let given = fs::set_permissions(self.at(path), Permissions::from_mode(0o755));
            given.map_err(|error| UnpackError::writing(path, &error))
        })
    }

    /// Reserves a free path whose parents are all directories.
    fn claim(&mut self, name: &EntryName, node: Node) -> Result<(), UnpackError> {
        self.make_parents(name)?;
        if name.0.is_empty() || self.nodes.contains_key(&name.0) {
            return Err(duplicate(&name.0));
        }
        self.nodes.insert(name.0.clone(), node);
        self.check_count()
    }

    fn make_parents(&mut self, name: &EntryName) -> Result<(), UnpackError> {
        for parent in name.parents() {
            let (code, what) = match self.nodes.get(parent) {
                Some(Node::Dir) => continue,
                None => {
                    self.make_dir(parent)?;
                    continue;
                }
                Some(Node::File) => (Code::DuplicateEntry, "file"),
                Some(Node::Link(_)) => (Code::PathEscapes, "link"),
            };
            let message = format!("could not accept {:?}: it lies under the {what} {parent:?}", name.0);
            return Err(UnpackError::new(code, message));
        }
        Ok(())
    }

    fn make_dir(&mut self, path: &str) -> Result<(), UnpackError> {
        self.nodes.insert(path.to_owned(), Node::Dir);
        self.check_count()?;
        let made = DirBuilder::new().mode(0o755).create(self.at(path));
        made.map_err(|error| UnpackError::writing(path, &error))
    }

    fn check_count(&self) -> Result<(), UnpackError> {
        let most = self.limits.max_entries;
        match self.entries.max(self.nodes.len() as u64) > most {
            true => Err(UnpackError::new(Code::TooManyEntries, format!("too many entries: more than {most}"))),
            false => Ok(()),
        }
    }

    /// Returns the directory that holds everything, as in most source archives.
    fn lone_top(&self) -> Option<String> {
        let mut tops = self.nodes.iter().filter(|(path, _)| !path.contains('/'));
        match (tops.next(), tops.next()) {
            (Some((top, Node::Dir)), None) => Some(top.clone()),
            _ => None,
        }
    }

    fn hoist(&mut self, top: &str) -> io::Result<()> {
        let inside = format!("{top}/");
        let nodes = std::mem::take(&mut self.nodes);
        let nodes = nodes.into_iter().filter_map(|(path, node)| Some((path.strip_prefix(&inside)?.to_owned(), node)));
        self.nodes = nodes.collect();
        // The directory may contain an entry of its own name, so it is renamed first.
        let aside = (0..).map(|n| format!(".top-{n}")).find(|name| !self.nodes.contains_key(name.as_str()));
        let aside = self.root.join(aside.unwrap_or_default());
        fs::rename(self.root.join(top), &aside)?;
        for child in fs::read_dir(&aside)? {
            let child = child?;
            fs::rename(child.path(), self.root.join(child.file_name()))?;
        }
        fs::remove_dir(aside)
    }

    fn make_links(&self) -> Result<(), UnpackError> {
        for (path, node) in &self.nodes {
            let Node::Link(target) = node else { continue };
            self.check_link(path, target).map_err(|rule| {
                let message = format!("could not accept the link {path:?} to {target:?}: {rule}");
                UnpackError::new(Code::PathEscapes, message)
            })?;
            symlink(target, self.at(path)).map_err(|error| UnpackError::writing(path, &error))?;
        }
        Ok(())
    }

    /// Resolves a link as the kernel would, including links on the way. A missing target is allowed if it would lie
    /// inside.
    fn check_link(&self, path: &str, target: &str) -> Result<(), &'static str> {
        let mut at: Vec<&str> = path.split('/').collect();
        at.pop();
        let mut rest: Vec<&str> = target.split('/').rev().collect();
        let mut links = 0;
        if target.starts_with('/') {
            return Ok(());
        }
        while let Some(part) = rest.pop() {
            match part {
                "" | "." => continue,
                ".." => at.pop().map(drop).ok_or("it leads out of the tree")?,
                name => at.push(name),
            }
            if let Some(Node::Link(next)) = self.nodes.get(&at.join("/")) {
                if next.starts_with('/') {
                    let is_end = rest.iter().all(|part| matches!(*part, "" | "."));
                    return if is_end { Ok(()) } else { Err("it leads out of the tree") };
                }
                at.pop();
                links += 1;
                rest.extend(next.split('/').rev());
            }
            if links > MOST_LINKS {
                return Err("it never arrives");
            }
        }
        Ok(())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

fn duplicate(path: &str) -> UnpackError {
    UnpackError::new(Code::DuplicateEntry, format!("could not accept {path:?}: there is already an entry of that name"))
}
