//! The operator's Caddyfile with its imports, as Caddy reads them. Our own file is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::render::joined;

/// Limit on files; it also ends an import cycle.
const MOST: usize = 1000;

/// The operator's files.
#[derive(Debug)]
pub struct Theirs {
    /// The running Caddy's pid.
    process: Option<i32>,
    /// Each with its text, the main file first.
    files: Vec<(PathBuf, String)>,
}

impl Theirs {
    /// Reads a Caddyfile and its imports, except `ours`. `process`: the running Caddy, whose environment variables are
    /// substituted.
    pub fn read(main: &Path, ours: &Path, process: Option<i32>) -> Self {
        let variables = process.map(variables_of).unwrap_or_default();
        let (mut found, mut next) = (Vec::<(PathBuf, String)>::new(), vec![main.to_path_buf()]);
        while let Some(path) = next.pop().filter(|_| found.len() < MOST) {
            if path == ours || found.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let text = filled_in(&text, &variables);
            let directory = path.parent().unwrap_or(Path::new("/"));
            next.extend(joined::imported(&text).iter().rev().flat_map(|pattern| matching(directory, pattern)));
            found.push((path, text));
        }
        Self { process, files: found }
    }

    /// Returns the site that Caddy calls ambiguous, and where it is: `line 3 of /etc/caddy/Caddyfile`. None if Caddy
    /// said something else or no file has it.
    pub fn ambiguous_site<'a>(&self, said: &'a str) -> Option<(&'a str, String)> {
        let site = said.split("ambiguous site definition: ").nth(1)?.split_whitespace().next()?;
        Some((site, self.site(host_of(site))?))
    }

    /// Returns where a host has a site.
    pub fn site(&self, host: &str) -> Option<String> {
        self.line(|text| joined::line_of(text, |word| host_of(word) == host))
    }

    /// Returns where the admin endpoint is switched off.
    pub fn admin_off(&self) -> Option<String> {
        let off = |text: &str| {
            let line =
                joined::option(text, "admin").filter(|line| line.arguments.first().is_some_and(|to| to == "off"));
            line.map(|line| line.number)
        };
        self.line(off)
    }

    fn line(&self, find: impl Fn(&str) -> Option<usize>) -> Option<String> {
        self.files.iter().find_map(|(path, text)| Some(format!("line {} of {}", find(text)?, path.display())))
    }

    /// Returns a digest that changes with any of the files, with our text, and when Caddy is restarted.
    pub fn fingerprint(&self, beside: &str) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("{:?} {}\n{beside}", self.process, beside.len()));
        for (path, text) in &self.files {
            hasher.update(format!("{} {}\n{text}", path.display(), text.len()));
        }
        hex::encode(hasher.finalize())
    }
}

/// Returns a site's address without its scheme and port.
pub fn host_of(site: &str) -> &str {
    let site = site.trim_matches(['"', '`']);
    let site = site.strip_prefix("https://").or_else(|| site.strip_prefix("http://")).unwrap_or(site);
    match site.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => site,
    }
}

fn variables_of(process: i32) -> BTreeMap<String, String> {
    let all = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    let pairs = all.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Substitutes `{$NAME}` and `{$NAME:default}`, as Caddy does before it parses anything.
fn filled_in(text: &str, variables: &BTreeMap<String, String>) -> String {
    let (mut made, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("{$") {
        let Some((inside, behind)) = after.split_once('}') else { break };
        let (name, default) = inside.split_once(':').unwrap_or((inside, ""));
        made.push_str(before);
        made.push_str(variables.get(name).map_or(default, String::as_str));
        rest = behind;
    }
    made + rest
}

/// Returns the files that an import matches, in order. Without a wildcard it may be a snippet: then no such file
/// exists.
fn matching(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in directory.join(pattern).components() {
        found = found.into_iter().flat_map(|base| step(base, part)).collect();
    }
    found.retain(|path| path.is_file());
    // They are popped from the end.
    found.sort_by(|one, other| other.cmp(one));
    found
}

fn step(mut base: PathBuf, part: Component<'_>) -> Vec<PathBuf> {
    let name = part.as_os_str().to_string_lossy();
    if part == Component::ParentDir {
        base.pop();
        return vec![base];
    }
    if !name.contains(['*', '?']) {
        return vec![base.join(part)];
    }
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let fits = |entry: &fs::DirEntry| {
        let entry = entry.file_name();
        let entry = entry.to_string_lossy();
        // Caddy skips hidden files, among them our drafts.
        joined::fits(&entry, &name) && !entry.starts_with('.')
    };
    entries.filter(fits).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operator's files, and what is read from them.
    fn theirs(files: &[(&str, &str)]) -> (tempfile::TempDir, Theirs) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("DIR", &directory.path().display().to_string())).unwrap();
        }
        let (main, ours) = (directory.path().join("Caddyfile"), directory.path().join("zexio.caddyfile"));
        let found = Theirs::read(&main, &ours, Some(std::process::id() as i32));
        (directory, found)
    }

    #[test]
    fn a_site_is_found_in_whichever_file_has_it() {
        let (directory, found) = theirs(&[
            ("Caddyfile", "{\n}\na.com, b.com {\n}\nimport sites/*\nimport DIR/more/*.caddy\nimport zexio.caddyfile\n"),
            ("sites/one", "# c.com\nc.com {\n\treverse_proxy d.com\n\timport ../parts/?.conf\n}\n"),
            ("sites/.hidden", "h.com {\n}\n"),
            ("more/two.caddy", "\nhttp://{$NO_SUCH_VARIABLE:e.com} {\n}\nimport three args.com\n\"f.com:443\" {\n}\n"),
            ("more/two.conf", "n.com {\n}\n"),
            ("more/three", "{args[0]} {\n}\nimport ../Caddyfile\n"),
            ("parts/x.conf", "root * /srv\n"),
            ("zexio.caddyfile", "ours.com {\n}\n"),
        ]);
        let said = |site: &str| Some(found.ambiguous_site(&format!("ambiguous site definition: {site}"))?.1);
        for (site, place) in [
            ("b.com", "line 3 of DIR/Caddyfile"),
            ("https://a.com", "line 3 of DIR/Caddyfile"),
            ("c.com", "line 2 of DIR/sites/one"),
            ("http://e.com", "line 2 of DIR/more/two.caddy"),
            ("args.com", "line 4 of DIR/more/two.caddy"),
            ("f.com", "line 5 of DIR/more/two.caddy"),
        ] {
            assert_eq!(said(site), Some(place.replace("DIR", &directory.path().display().to_string())), "{site}");
        }
        for site in ["d.com", "h.com", "n.com", "ours.com"] {
            assert_eq!(said(site), None, "{site}");
        }
        assert_eq!(found.ambiguous_site("something else"), None);
        assert!(found.files.iter().any(|(path, _)| path.ends_with("parts/x.conf")), "{found:?}");
    }

    #[test]
    fn any_change_in_any_file_changes_the_fingerprint_and_one_of_ours_does_not() {
        let files = [("Caddyfile", "import sites/*\nimport zexio.caddyfile\n"), ("sites/one", "a.com {\n}\n")];
        let of = |more: &[(&'static str, &'static str)]| {
            let (directory, found) = theirs(&[&files[..], more].concat());
            let texts: Vec<_> =
                found.files.iter().map(|(path, text)| (path.strip_prefix(&directory).unwrap(), text)).collect();
            format!("{texts:?}")
        };
        let before = of(&[]);
        assert_eq!(of(&[("zexio.caddyfile", "b.com {\n}\n")]), before);
        assert_ne!(of(&[("sites/two", "b.com {\n}\n")]), before);
        assert_ne!(of(&[("sites/one", "b.com {\n}\n")]), before);
        let print = |process: i32, text: &str, beside: &str| {
            Theirs { process: Some(process), files: vec![("Caddyfile".into(), text.to_owned())] }.fingerprint(beside)
        };
        let before = print(1, "a.com", "c.com");
        assert_eq!(print(1, "a.com", "c.com"), before);
        for other in [print(2, "a.com", "c.com"), print(1, "b.com", "c.com"), print(1, "a.com", "d.com")] {
            assert_ne!(other, before);
        }
    }

    #[test]
    fn admin_off_is_found_in_an_imported_file_too() {
        let (directory, found) = theirs(&[("Caddyfile", "import options\n"), ("options", "{\n\tadmin off\n}\n")]);
        assert_eq!(found.admin_off(), Some(format!("line 2 of {}/options", directory.path().display())));
        let (_directory, found) = theirs(&[("Caddyfile", "{\n\tadmin localhost:2020\n}\n")]);
        assert_eq!(found.admin_off(), None);
    }
}
