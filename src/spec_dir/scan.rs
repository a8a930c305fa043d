//! Reads the watched directory. Root acts on its files, so each is opened without following links and checked on the
//! open file, before a byte of it is read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::decide::{File, Holds, Listing};
use crate::model::document::{self, Subject};
use crate::model::quantity::Timestamp;
use crate::plan::accept::admit::{Admitted, Origin, UrlCheck, admit};

/// The files' specs, by file.
pub type Specs = BTreeMap<String, Found>;

/// A file's spec.
pub enum Found {
    /// New or changed; it was parsed.
    New(Box<Admitted>),
    /// Unchanged since the last observation; most of these are never needed.
    Unchanged(Zeroizing<Vec<u8>>, Timestamp),
}

impl Found {
    /// Returns the spec; none if its file was not admitted.
    pub fn admitted(self, check_url: &UrlCheck) -> Option<Admitted> {
        match self {
            Found::New(spec) => Some(*spec),
            Found::Unchanged(text, written) => {
                let document = document::parse(&text).ok()?;
                admit(&text, document, Origin::File { written }, check_url).ok()
            }
        }
    }
}

/// Reads the directory; unchanged files are not parsed again.
pub fn read(dir: &Path, before: &BTreeMap<String, File>, check_url: &UrlCheck) -> (Listing, Specs) {
    match list(dir) {
        Ok((open, identity, names)) => {
            let (mut files, mut specs) = (BTreeMap::new(), Specs::new());
            for name in names {
                let Some((file, found)) = read_file(&open, &name, before.get(&name), check_url) else { continue };
                specs.extend(found.map(|found| (name.clone(), found)));
                files.insert(name, file);
            }
            (Listing::Read { identity, files }, specs)
        }
        Err(why) => (Listing::Lost(why), Specs::new()),
    }
}

/// Returns the identity of the directory under a path now, if any.
pub fn identity(dir: &Path) -> Option<String> {
    fs::metadata(dir).ok().map(|meta| identity_of(&meta))
}

fn identity_of(meta: &fs::Metadata) -> String {
    format!("{}:{}", meta.dev(), meta.ino())
}

fn list(dir: &Path) -> Result<(fs::File, String, Vec<String>), String> {
    let fail =
        |cause: &dyn std::fmt::Display| format!("could not read the watched directory {}: {cause}", dir.display());
    let open = fs::File::open(dir).map_err(|e| fail(&e))?;
    let meta = open.metadata().map_err(|e| fail(&e))?;
    if !meta.is_dir() {
        return Err(fail(&"it is not a directory"));
    }
    if let Some(why) = loose(&meta, "0755") {
        return Err(fail(&why));
    }
    // The listing has a position of its own, and the files are still opened beneath the directory that was checked.
    let here = openat(open.as_fd(), ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let mut entries = here.and_then(Dir::from_fd).map_err(|e| fail(&e.desc()))?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = entry.map_err(|e| fail(&e.desc()))?;
        names.extend(entry.file_name().to_str().ok().filter(|name| is_spec_name(name)).map(str::to_owned));
    }
    names.sort();
    Ok((open, identity_of(&meta), names))
}

/// Tells whether a name is a spec's, and not an editor's or a copy's temporary file.
fn is_spec_name(name: &str) -> bool {
    let fits = name.ends_with(".yaml") || name.ends_with(".yml");
    fits && !name.starts_with(['.', '~', '#']) && !name.chars().any(char::is_control)
}

/// Returns who else could change the contents, and how to fix it.
fn loose(meta: &fs::Metadata, mode: &str) -> Option<String> {
    let euid = geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != euid {
        return Some(format!("it belongs to user {}, not to root; `chown root` it", meta.uid()));
    }
    let writable = meta.mode() & 0o022 != 0;
    writable.then(|| format!("others may write it (mode {:04o}); `chmod {mode}` it", meta.mode() & 0o7777))
}

/// Reads one file; none if it is gone by now.
fn read_file(dir: &fs::File, name: &str, before: Option<&File>, check_url: &UrlCheck) -> Option<(File, Option<Found>)> {
    match guarded(dir, name) {
        Ok(None) => None,
        Ok(Some((text, written))) => Some(understand(text, written, before, check_url)),
        Err(why) => Some((File { digest: None, holds: Holds::Nothing { named: None, why } }, None)),
    }
}

/// What a file holds, and when it was written.
type Written = (Zeroizing<Vec<u8>>, Timestamp);

/// Opens a file that only root can have made, and reads it; also returns when it was written.
fn guarded(dir: &fs::File, name: &str) -> Result<Option<Written>, String> {
    // O_NONBLOCK: opening a FIFO would wait for its other end.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = match openat(dir.as_fd(), name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return Err("it is a symbolic link; put a copy of the file here".into()),
        Err(errno) => return Err(format!("it could not be opened: {}", errno.desc())),
    };
    let file = fs::File::from(fd);
    let meta = file.metadata().map_err(|e| format!("it could not be read: {e}"))?;
    if let Some(why) = unfit(&meta) {
        return Err(why);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(meta.len() as usize + 1));
    let limit = document::LONGEST as u64 + 1;
    file.take(limit).read_to_end(&mut text).map_err(|e| format!("it could not be read: {e}"))?;
    let written = u64::try_from(meta.mtime()).map_or(0, |seconds| seconds.saturating_mul(1000));
    Ok(Some((text, Timestamp(written))))
}

fn unfit(meta: &fs::Metadata) -> Option<String> {
    if !meta.is_file() {
        return Some("it is not a regular file".into());
    }
    if meta.nlink() == 0 {
        return Some("it was replaced while it was read".into());
    }
    if meta.nlink() > 1 {
        return Some(format!("it has {} names (hard links); put a copy of the file here", meta.nlink()));
    }
    if meta.len() > document::LONGEST as u64 {
        return Some(format!("it has {} bytes; {} is the most", meta.len(), document::LONGEST));
    }
    loose(meta, "0644")
}

fn understand(
    text: Zeroizing<Vec<u8>>,
    written: Timestamp,
    before: Option<&File>,
    check_url: &UrlCheck,
) -> (File, Option<Found>) {
    let digest = Some(Sha256::digest(&text).into());
    if let Some(same) = before.filter(|file| file.digest == digest) {
        return (same.clone(), Some(Found::Unchanged(text, written)));
    }
    let document::Reading { subject, about_host, named } = document::read(&text);
    let read = subject.and_then(|subject| match subject {
        Subject::Host(services) => Ok((Holds::Host(services), None)),
        Subject::Project(document) => {
            let spec = admit(&text, *document, Origin::File { written }, check_url)?;
            Ok((Holds::Spec(spec.project().clone()), Some(Found::New(Box::new(spec)))))
        }
    });
    let holds = match read {
        Ok((holds, found)) => return (File { digest, holds }, found),
        Err(error) if about_host => Holds::BrokenHost(error.to_string()),
        Err(error) => Holds::Nothing { named, why: error.to_string() },
    };
    (File { digest, holds }, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::Arc;

    use super::*;

    const SPEC: &str = "zexio: 1\nproject: shop\nartifact: { url: https://a.example.com/x.tar.gz }\nprocesses: { web: { run: ./shop } }\n";

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    fn put(dir: &Path, name: &str, text: &[u8]) {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn https() -> UrlCheck {
        Arc::new(|url| if url.starts_with("https://") { Ok(()) } else { Err("only https".into()) })
    }

    fn files(dir: &Path) -> BTreeMap<String, File> {
        match read(dir, &BTreeMap::new(), &https()).0 {
            Listing::Read { files, .. } => files,
            Listing::Lost(why) => panic!("{why}"),
        }
    }

    fn why(dir: &Path, name: &str) -> String {
        match &files(dir)[name].holds {
            Holds::Nothing { why, .. } | Holds::BrokenHost(why) => why.clone(),
            Holds::Spec(project) => format!("the spec of {project}"),
            Holds::Host(services) => format!("the services {services:?}"),
        }
    }

    #[test]
    fn only_specs_are_read_and_nothing_an_editor_leaves_for_a_moment() {
        let dir = directory();
        for name in [
            "shop.yaml",
            "blog.yml",
            ".shop.yaml.swp",
            "shop.yaml~",
            ".#shop.yaml",
            "#shop.yaml#",
            "shop.yaml.tmp",
            "4913",
            "~$shop.yaml",
            ".hidden.yaml",
            "notes.txt",
            "a\nb.yaml",
        ] {
            put(dir.path(), name, SPEC.as_bytes());
        }
        assert_eq!(files(dir.path()).into_keys().collect::<Vec<_>>(), ["blog.yml", "shop.yaml"]);
    }

    #[test]
    fn a_file_that_is_not_roots_own_is_refused_and_says_what_to_do() {
        let dir = directory();
        let at = |name: &str| dir.path().join(name);
        put(dir.path(), "open.yaml", SPEC.as_bytes());
        fs::set_permissions(at("open.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
        symlink("/etc/shadow", at("link.yaml")).unwrap();
        nix::unistd::mkfifo(&at("fifo.yaml"), Mode::from_bits_truncate(0o644)).unwrap();
        put(dir.path(), "hard.yaml", SPEC.as_bytes());
        fs::hard_link(at("hard.yaml"), at("other.txt")).unwrap();
        put(dir.path(), "big.yaml", &vec![b'#'; document::LONGEST + 1]);
        put(dir.path(), "bytes.yaml", &[b'a', 0xff, 0xfe]);
        fs::create_dir(at("dir.yaml")).unwrap();
        for (name, part) in [
            ("open.yaml", "chmod 0644"),
            ("link.yaml", "symbolic link"),
            ("fifo.yaml", "not a regular file"),
            ("hard.yaml", "hard links"),
            ("big.yaml", "262144 is the most"),
            ("bytes.yaml", "not UTF-8"),
            ("dir.yaml", "not a regular file"),
        ] {
            assert!(why(dir.path(), name).contains(part), "{name}: {}", why(dir.path(), name));
        }
        put(dir.path(), "fine.yaml", SPEC.as_bytes());
        assert_eq!(why(dir.path(), "fine.yaml"), "the spec of shop");
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let dir = directory();
        put(dir.path(), "shop.yaml", SPEC.as_bytes());
        // Only root can give a file away.
        if std::os::unix::fs::chown(dir.path().join("shop.yaml"), Some(65_534), None).is_ok() {
            assert!(why(dir.path(), "shop.yaml").contains("belongs to user 65534"));
        }
    }

    #[test]
    fn a_broken_file_still_names_its_project_and_the_place() {
        let dir = directory();
        put(dir.path(), "x.yaml", format!("{SPEC}secrts: [A]\n").as_bytes());
        let Holds::Nothing { named, why } = files(dir.path())["x.yaml"].holds.clone() else { panic!("accepted") };
        assert_eq!(named.unwrap().as_str(), "shop");
        assert!(why.starts_with("line 5, column 1: secrts"), "{why}");
    }

    #[test]
    fn a_url_that_the_api_would_refuse_is_refused_with_its_words_and_place() {
        let dir = directory();
        put(dir.path(), "x.yaml", SPEC.replace("https:", "http:").as_bytes());
        assert_eq!(why(dir.path(), "x.yaml"), "line 3, column 18: artifact.url: only https");
    }

    #[test]
    fn what_is_new_is_read_once_and_what_is_unchanged_only_when_it_is_asked_for() {
        let dir = directory();
        put(dir.path(), "shop.yaml", SPEC.as_bytes());
        let (listing, mut specs) = read(dir.path(), &BTreeMap::new(), &https());
        assert!(matches!(specs.remove("shop.yaml"), Some(Found::New(_))));
        let Listing::Read { files, .. } = listing else { panic!("lost") };
        let unchanged = read(dir.path(), &files, &https()).1.remove("shop.yaml").unwrap();
        assert!(matches!(unchanged, Found::Unchanged(..)));
        assert_eq!(unchanged.admitted(&https()).unwrap().project().as_str(), "shop");
    }

    #[test]
    fn a_directory_that_is_gone_or_open_to_others_is_lost_and_not_empty() {
        let dir = directory();
        let gone = dir.path().join("gone");
        assert!(matches!(read(&gone, &BTreeMap::new(), &https()).0, Listing::Lost(why) if why.contains("gone")));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(
            matches!(read(dir.path(), &BTreeMap::new(), &https()).0, Listing::Lost(why) if why.contains("chmod 0755"))
        );
    }
}
