//! Packs a directory into a tar.zst: the same directory gives the same bytes, for any user and at any path. No link is
//! followed out of it, and what could not be unpacked on the server is refused here.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use tar::{Builder, EntryType, Header};

use super::failure::Failure;
use crate::unpack::{instead_of_link, is_junk, is_system_program};

/// The server strips a lone top-level directory. With one of ours there, none of the user's is stripped.
const TOP: &str = "bundle";
/// zstd's own default; its higher levels take many times as long for a few percent.
const LEVEL: i32 = 3;

/// Packs a directory; returns how many files it packed.
///
/// # Errors
/// Names the file that could not be packed, and why.
pub fn pack(root: &Path, into: impl Write) -> Result<u64, Failure> {
    let failed = |e: io::Error| could_not(root, &e);
    let mut packer = Packer { tar: Builder::new(zstd::Encoder::new(into, LEVEL).map_err(failed)?), files: 0 };
    packer.directory(root, Path::new(""))?;
    packer.tar.into_inner().and_then(|zstd| zstd.finish()).map_err(failed)?;
    match packer.files {
        0 => Err(Failure::new(format!("could not pack {}: there is no file in it", root.display()))),
        files => Ok(files),
    }
}

/// Says that something could not be packed, and how to fix it.
pub fn could_not(path: &Path, cause: &io::Error) -> Failure {
    let hint = match cause.kind() {
        io::ErrorKind::StorageFull => "; TMPDIR can name a directory with more room",
        _ => "",
    };
    Failure::new(format!("could not pack {}: {cause}{hint}", path.display()))
}

struct Packer<W: Write> {
    tar: Builder<W>,
    files: u64,
}

impl<W: Write> Packer<W> {
    /// Adds a directory's contents; `below` is its path from the root.
    fn directory(&mut self, path: &Path, below: &Path) -> Result<(), Failure> {
        self.add(&mut header(EntryType::Directory, 0o755, 0), below, io::empty()).map_err(|e| could_not(path, &e))?;
        let names = names(path).map_err(|e| could_not(path, &e))?;
        for name in names.into_iter().filter(|name| !name.to_str().is_some_and(is_junk)) {
            self.entry(&path.join(&name), &below.join(&name))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, below: &Path) -> Result<(), Failure> {
        let failed = |e: io::Error| could_not(path, &e);
        if below.to_str().is_none() {
            return Err(failed(io::Error::other("its name is not UTF-8")));
        }
        let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
        match kind {
            kind if kind.is_dir() => self.directory(path, below),
            kind if kind.is_file() => self.file(path, below).map_err(failed),
            kind if kind.is_symlink() => self.link(path, below).map_err(failed),
            _ => Err(could_not(path, &io::Error::other("it is neither a file, a directory nor a link"))),
        }
    }

    fn file(&mut self, path: &Path, below: &Path) -> io::Result<()> {
        // Does not follow a link, nor wait for a pipe, that replaced the file since it was examined.
        let flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no file any more"));
        }
        let mode = if found.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        self.files += 1;
        let exact = Exact { file, left: found.len() };
        self.add(&mut header(EntryType::Regular, mode, found.len()), below, exact)
    }

    fn link(&mut self, path: &Path, below: &Path) -> io::Result<()> {
        let target = fs::read_link(path)?;
        if !stays_inside(below, &target) && !target.to_str().is_some_and(is_system_program) {
            let target = target.display();
            return Err(io::Error::other(format!(
                "it is a link to {target}, which is neither below the directory by a relative path nor a program in \
                 /usr/bin; {}",
                instead_of_link(&target.to_string())
            )));
        }
        self.tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), Path::new(TOP).join(below), target)
    }

    fn add(&mut self, header: &mut Header, below: &Path, content: impl Read) -> io::Result<()> {
        self.tar.append_data(header, Path::new(TOP).join(below), content)
    }
}

/// No owner and no time: they differ from machine to machine, and the server keeps neither.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names: Vec<OsString> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Tells whether a link leads to a place in the directory, from its target text alone.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut at = link.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    target.components().all(|part| match part {
        Component::Normal(name) => {
            at.push(name);
            true
        }
        Component::CurDir => true,
        Component::ParentDir => at.pop(),
        Component::RootDir | Component::Prefix(_) => false,
    })
}

/// A file that must be as long as its header says.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read(&mut into[..most])?;
        if got == 0 && self.left > 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn tree(root: &Path) {
        fs::create_dir_all(root.join("assets/deep")).unwrap();
        fs::write(root.join("assets/deep/app.js"), "x".repeat(300_000)).unwrap();
        fs::write(root.join("run"), "#!").unwrap();
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(root.join("a".repeat(150)), "long").unwrap();
        symlink("deep/app.js", root.join("assets/latest")).unwrap();
        symlink("/usr/bin/env", root.join("env")).unwrap();
        fs::create_dir(root.join("__MACOSX")).unwrap();
        for junk in ["__MACOSX/x", ".DS_Store", "assets/._latest"] {
            fs::write(root.join(junk), "junk").unwrap();
        }
    }

    fn packed(root: &Path) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        pack(root, &mut bytes).map(|_| bytes)
    }

    #[test]
    fn the_same_directory_gives_the_same_bytes_wherever_it_lies() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(one.path());
        tree(other.path());
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::open(other.path().join("run")).unwrap().set_modified(old).unwrap();
        assert_eq!(packed(one.path()).unwrap(), packed(other.path()).unwrap());
        fs::write(other.path().join("new"), "").unwrap();
        assert_ne!(packed(one.path()).unwrap(), packed(other.path()).unwrap());
    }

    #[test]
    fn what_was_packed_is_what_the_server_unpacks() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(from.path());
        let artifact = to.path().join("artifact");
        fs::write(&artifact, packed(from.path()).unwrap()).unwrap();
        let tree = to.path().join("tree");
        fs::create_dir(&tree).unwrap();
        crate::unpack::unpack(File::open(&artifact).unwrap(), &tree, &crate::unpack::Limits::default()).unwrap();
        assert_eq!(fs::read_link(tree.join("assets/latest")).unwrap(), Path::new("deep/app.js"));
        assert_eq!(fs::read(tree.join("assets/latest")).unwrap().len(), 300_000);
        assert_eq!(fs::metadata(tree.join("run")).unwrap().mode() & 0o777, 0o755);
        assert_eq!(fs::read(tree.join("a".repeat(150))).unwrap(), b"long");
        assert_eq!(fs::read_link(tree.join("env")).unwrap(), Path::new("/usr/bin/env"));
        assert!(!["__MACOSX", ".DS_Store", "assets/._latest"].iter().any(|junk| tree.join(junk).exists()));
    }

    #[test]
    fn a_lone_directory_in_it_stays_a_directory() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("public")).unwrap();
        fs::write(from.path().join("public/index.html"), "hi").unwrap();
        let artifact = to.path().join("artifact");
        fs::write(&artifact, packed(from.path()).unwrap()).unwrap();
        let tree = to.path().join("tree");
        fs::create_dir(&tree).unwrap();
        crate::unpack::unpack(File::open(&artifact).unwrap(), &tree, &crate::unpack::Limits::default()).unwrap();
        assert!(tree.join("public/index.html").is_file());
    }

    #[test]
    fn what_leads_out_of_it_or_is_no_file_is_refused_by_name() {
        for target in ["/etc/passwd", "../outside", "assets/../../outside", "/usr/bin/../x", "/usr/local/bin/x"] {
            let dir = tempfile::tempdir().unwrap();
            tree(dir.path());
            symlink(target, dir.path().join("link")).unwrap();
            let said = packed(dir.path()).unwrap_err().message;
            assert!(said.contains("/link: it is a link to") && said.contains(target), "{said}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(packed(dir.path()).unwrap_err().message.contains("there is no file in it"));
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(packed(dir.path()).unwrap_err().message.contains("pipe: it is neither a file"));
    }
}
