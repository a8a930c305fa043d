//! What an artifact lacks, and what it has instead: the nearest name, another kind of artifact, or its top-level names.

use std::fs;
use std::path::Path;

use super::{Found, Tree, Wanted, bare, base};
use crate::unpack::tree::is_junk;
use crate::unpack::zipped;

/// How many names are compared to find a similar one.
const MOST_NAMES: usize = 100_000;

/// How many top-level names a message lists.
const SHOWN: usize = 8;

/// How archives are named that no program is run from.
const ARCHIVES: [&str; 10] = [".tar", ".tgz", ".gz", ".xz", ".txz", ".zst", ".bz2", ".zip", ".7z", ".rar"];

/// The sets of files by which container images are known.
const IMAGES: [[&str; 2]; 3] =
    [["manifest.json", "repositories"], ["oci-layout", "index.json"], ["oci-layout", "manifest.json"]];

impl Tree<'_> {
    /// Describes what is missing, and what exists instead: the nearest name, or the top-level names.
    pub(super) fn missing(&self, path: &str, who: &str, wanted: Wanted) -> String {
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

    pub(super) fn is(&self, path: &str, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Directory => self.has_directory(path),
            Wanted::File => matches!(self.find(path), Found::File(_) | Found::System),
        }
    }

    fn instead(&self, bare: &str, wanted: Wanted, write: impl Fn(&str) -> String) -> String {
        let mut names = Vec::new();
        collect(self.root, "", wanted, &mut names);
        if let Some(said) = self.other_than_files(bare, &names) {
            return said;
        }
        let near = names.iter().filter_map(|name| Some((unlikeness(bare, name)?, name))).min();
        if let Some((_, name)) = near {
            return format!("it has {name}: write {}", write(name));
        }
        self.top_names()
    }

    /// Describes what the artifact holds in place of an app's files.
    fn other_than_files(&self, meant: &str, names: &[String]) -> Option<String> {
        let is_archive = |name: &str| ARCHIVES.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        if IMAGES.iter().any(|image| image.iter().all(|name| self.is(name, Wanted::File))) {
            return Some(
                "it is a container's image: publish the files that the image is built from, since programs run here \
                 without an image"
                    .to_owned(),
            );
        }
        let is_jar = matches!(names, [name] if name == "app.jar") && !meant.ends_with(".jar");
        if is_jar && zipped::has_entry(&self.root.join("app.jar"), meant) {
            return Some(
                "it was taken for a jar, which is kept whole as app.jar, since it has META-INF/MANIFEST.MF: pack it \
                 without META-INF"
                    .to_owned(),
            );
        }
        let inner = names.iter().find(|name| !name.contains('/') && is_archive(name)).filter(|_| !is_archive(meant))?;
        let has_more = names.iter().filter(|name| !is_archive(name)).count() > 2;
        (!has_more).then(|| format!("it has {inner}, an archive in the archive: publish {inner} itself"))
    }

    pub(super) fn top_names(&self) -> String {
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

pub(super) fn collect(directory: &Path, prefix: &str, wanted: Wanted, names: &mut Vec<String>) {
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
