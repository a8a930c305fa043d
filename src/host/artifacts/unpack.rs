//! The privileged side of unpacking: an unprivileged helper does the work, then this takes ownership of the tree and
//! publishes it as a release.
//!
//! The helper's output is treated as hostile: it parsed untrusted bytes. Every step uses open directory descriptors and
//! never follows a link.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat};
use nix::unistd::{Gid, Uid, fchown, fchownat, syncfs};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::host::disk_error;
use crate::model::names::{ProjectId, ReleaseNo, Sha256};
use crate::model::reason::Reason;
use crate::port::PortError;
use crate::unpack::{Code, Limits, MANIFEST, UnpackError, Unpacked};

const UNPACK_WITHIN: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LONGEST_VERDICT: u64 = 64 << 10;
/// More than any limit allows: only a helper that broke out of its limits gets here.
const DEEPEST: usize = 1024;

/// The unprivileged helper process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// The user `zexio-unpack`, who owns nothing else.
    pub uid: u32,
    pub gid: u32,
    /// Run as `<program> unpack <limits>`.
    pub program: PathBuf,
}

impl Helper {
    /// Returns this program as the helper: the running executable, even while an upgrade replaces the one on disk.
    pub fn this_program(uid: u32, gid: u32) -> Self {
        Self { uid, gid, program: PathBuf::from("/proc/self/exe") }
    }
}

/// A finished release's own record. A directory without it was never finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub project: ProjectId,
    pub release: ReleaseNo,
    /// The digest of the artifact that it was unpacked from.
    pub sha256: Sha256,
    /// The artifact's size.
    pub bytes: u64,
}

/// Prefix of unpacking errors.
const UNPACKING: &str = "could not unpack the artifact: ";

/// Unpacks an artifact into `staging/tree`, which is then owned by root and synced to disk. The helper's user must be
/// able to traverse the parent directories.
///
/// # Errors
/// `ArtifactFailed` is permanent and names the entry; `DiskFull`, `DiskFailed` and `HelperFailed` are transient.
pub fn unpack_into(artifact: &Path, staging: &Path, helper: &Helper, limits: &Limits) -> Result<Unpacked, PortError> {
    let tree = staging.join("tree");
    make_tree(&tree, helper).map_err(|error| disk_error(&format!("make {}", tree.display()), &error))?;
    let unpacked = run_helper(artifact, &tree, helper, limits, UNPACK_WITHIN)?;
    take_over(&tree, helper).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => artifact_failed(&error.to_string()),
        _ => disk_error(&format!("take over {}", tree.display()), &error),
    })?;
    Ok(unpacked)
}

/// Writes the manifest, last of all, and atomically renames the tree to `releases_dir/<number>`. Idempotent.
///
/// # Errors
/// `ReleaseExists` is permanent: something else has the number. `DiskFull` and `DiskFailed` are transient.
pub fn publish(tree: &Path, releases_dir: &Path, number: u32, manifest: &Manifest) -> Result<(), PortError> {
    let release = releases_dir.join(number.to_string());
    if read_manifest(&release).as_ref() == Some(manifest) {
        return Ok(());
    }
    write_manifest(tree, manifest).map_err(|error| disk_error(&format!("write {MANIFEST}"), &error))?;
    let moved = fs::rename(tree, &release).and_then(|()| files::sync(releases_dir));
    moved.map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            PortError::permanent(
                Reason::ReleaseExists,
                format!("could not publish release {number}: it already exists"),
            )
        }
        _ => disk_error(&format!("publish release {number}"), &error),
    })
}

/// Returns a release's manifest; None if it was never finished.
pub fn read_manifest(release_dir: &Path) -> Option<Manifest> {
    let mut text = String::new();
    File::open(release_dir.join(MANIFEST)).ok()?.take(LONGEST_VERDICT).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_manifest(tree: &Path, manifest: &Manifest) -> io::Result<()> {
    let line = serde_json::to_string(manifest)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(tree.join(MANIFEST))?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    files::sync(tree)
}

/// Starts from scratch: an earlier attempt may have left half a tree.
fn make_tree(tree: &Path, helper: &Helper) -> io::Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => DirBuilder::new().mode(0o755).create(tree)?,
    }
    chown(tree, Some(helper.uid), Some(helper.gid))
}

fn run_helper(
    artifact: &Path,
    tree: &Path,
    helper: &Helper,
    limits: &Limits,
    within: Duration,
) -> Result<Unpacked, PortError> {
    let artifact = File::open(artifact).map_err(|error| disk_error("open the artifact", &error))?;
    let mut child = Command::new(&helper.program)
        .arg("unpack")
        .args(limits.to_args())
        .env_clear()
        .current_dir(tree)
        .uid(helper.uid)
        .gid(helper.gid)
        .stdin(artifact)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| helper_failed(&format!("it does not start: {error}")))?;
    let stdout = child.stdout.take();
    let verdict = thread::spawn(move || stdout.map(read_verdict).unwrap_or_default());
    let status = wait(&mut child, within).map_err(|error| helper_failed(&error.to_string()))?;
    let Some(status) = status else {
        return Err(artifact_failed(&format!("it took more than {} s", within.as_secs())));
    };
    judge(status, &verdict.join().unwrap_or_default())
}

/// Reads up to a limit: a helper that writes more gets a closed pipe.
fn read_verdict(stdout: impl Read) -> String {
    let mut text = Vec::new();
    // After a read error, what was read before it is parsed.
    let _ = stdout.take(LONGEST_VERDICT).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits for the helper to exit, and kills it on a timeout.
fn wait(child: &mut Child, within: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= within {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn judge(status: ExitStatus, verdict: &str) -> Result<Unpacked, PortError> {
    let line = verdict.lines().next_back().unwrap_or_default();
    if status.success() {
        return serde_json::from_str(line).map_err(|_| helper_failed("it gave no verdict"));
    }
    let Ok(UnpackError { code, message }) = serde_json::from_str(line) else {
        // A decoder that exceeds the memory limit ends like this.
        return Err(artifact_failed(&format!("the helper ended with {status}")));
    };
    let message: String = message.chars().filter(|c| !c.is_control()).take(1000).collect();
    match code {
        Code::DiskFull => Err(PortError::transient(Reason::DiskFull, message)),
        Code::Failed => Err(helper_failed(&message)),
        _ => Err(artifact_failed(&message)),
    }
}

fn artifact_failed(cause: &str) -> PortError {
    // The helper uses the same words if no entry is at fault.
    let cause = cause.strip_prefix(UNPACKING).unwrap_or(cause);
    PortError::permanent(Reason::ArtifactFailed, format!("{UNPACKING}{cause}"))
}

fn helper_failed(cause: &str) -> PortError {
    PortError::transient(Reason::HelperFailed, format!("could not run the unpack helper: {cause}"))
}

/// Gives the tree to root, from the top down: below a directory that root owns, the helper's user can move nothing.
fn take_over(tree: &Path, helper: &Helper) -> io::Result<()> {
    let top = OpenOptions::new().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(tree)?;
    let top = OwnedFd::from(top);
    TakeOver { helper: helper.uid, taken: HashSet::new() }.directory(&top, 0)?;
    if fstatat(&top, MANIFEST, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
        return Err(invalid(format!("{MANIFEST:?} belongs to the agent")));
    }
    // Must not be ignored: it alone reports whether what the helper wrote is on disk.
    Ok(syncfs(&top)?)
}

struct TakeOver {
    helper: u32,
    /// Inodes of files already given to root, for their further hard links.
    taken: HashSet<u64>,
}

impl TakeOver {
    fn directory(&mut self, dir: &OwnedFd, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(invalid("the tree is too deep".to_owned()));
        }
        take(dir, 0o755)?;
        names(dir)?.iter().try_for_each(|name| self.entry(dir, name, depth))
    }

    fn entry(&mut self, dir: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
        let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        self.check_owner(&stat)?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => {
                let below = openat(dir, name, open_flags() | OFlag::O_DIRECTORY, Mode::empty())?;
                self.directory(&below, depth + 1)
            }
            SFlag::S_IFREG => {
                self.taken.insert(stat.st_ino);
                let file = openat(dir, name, open_flags(), Mode::empty())?;
                take(&file, if stat.st_mode & 0o111 == 0 { 0o644 } else { 0o755 })
            }
            SFlag::S_IFLNK => {
                let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
                Ok(fchownat(dir, name, Some(root), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?)
            }
            _ => Err(invalid("the tree holds what is neither file, directory nor link".to_owned())),
        }
    }

    /// A hard link to a file of another owner would hand that file over.
    fn check_owner(&self, stat: &FileStat) -> io::Result<()> {
        match stat.st_uid == self.helper || self.taken.contains(&stat.st_ino) {
            true => Ok(()),
            false => Err(invalid("the tree holds something that is not the helper's".to_owned())),
        }
    }
}

/// The owner first: chown clears the setuid bits, which a mode set before would not.
fn take(what: &OwnedFd, mode: u32) -> io::Result<()> {
    fchown(what, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
    Ok(fchmod(what.as_fd(), Mode::from_bits_truncate(mode))?)
}

fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut dir = Dir::openat(dir, ".", open_flags() | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Never follows a link, and never blocks on a FIFO.
fn open_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC
}

fn invalid(cause: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::process::ExitCode;

    use super::*;
    use crate::port::Retry;

    const NOBODY: u32 = 65534;

    /// A directory that the helper's user may traverse, like the agent's own.
    fn place() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        dir
    }

    /// Only root can chown. A silently skipped test proves nothing, so it fails.
    fn needs_root() {
        assert!(nix::unistd::geteuid().is_root(), "run this as root: it hands files to another user");
    }

    /// Creates a helper from a few lines of shell.
    fn script(dir: &Path, lines: &str) -> Helper {
        let program = dir.join("helper");
        fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Helper { uid: NOBODY, gid: NOBODY, program }
    }

    fn unpack_by(lines: &str, artifact: &[u8]) -> (tempfile::TempDir, Result<Unpacked, PortError>) {
        let dir = place();
        let helper = script(dir.path(), lines);
        let file = dir.path().join("artifact");
        fs::write(&file, artifact).unwrap();
        let result = unpack_into(&file, dir.path(), &helper, &Limits::default());
        (dir, result)
    }

    const DONE: &str = r#"echo '{"entries":1,"bytes":1}'"#;

    /// Acts as the helper when a script below runs this test binary.
    #[test]
    fn as_the_helper() {
        if std::env::var_os("ZEXIO_TEST_HELPER").is_some() {
            let code = crate::unpack::main_from_stdin(&Limits::default().to_args());
            std::process::exit(i32::from(code != ExitCode::SUCCESS));
        }
    }

    /// Runs this test binary as the helper, and cuts off the test runner's output before the verdict.
    fn real_helper() -> String {
        let program = std::env::current_exe().unwrap();
        let test = "host::artifacts::unpack::tests::as_the_helper";
        let run = format!("{} --exact {test} --nocapture --test-threads=1", program.display());
        format!("out=$(ZEXIO_TEST_HELPER=1 {run}); code=$?; echo \"${{out##*... }}\"; exit $code")
    }

    fn tar_of(name: &str, mode: u32) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(mode);
        header.set_size(1);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header, &b"1"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn the_real_helper_unpacks_and_the_tree_is_then_roots() {
        needs_root();
        let (dir, result) = unpack_by(&real_helper(), &tar_of("bin/run", 0o6777));
        result.unwrap();
        for (path, mode) in [("tree", 0o755), ("tree/run", 0o755)] {
            let meta = dir.path().join(path).symlink_metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, mode), "{path}");
        }
    }

    #[test]
    fn the_real_helper_names_the_entry_it_refuses() {
        needs_root();
        let error = unpack_by(&real_helper(), &tar_of("../x", 0o644)).1.unwrap_err();
        assert_eq!((error.retry, error.reason), (Retry::Never, Reason::ArtifactFailed));
        assert!(error.message.contains("../x"), "{error}");
    }

    #[test]
    fn the_helper_has_nothing_but_the_artifact_and_the_tree() {
        needs_root();
        let lines =
            format!("id -u > who; id -G >> who; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= >> who; cat > copy; {DONE}");
        let (dir, result) = unpack_by(&lines, b"content");
        result.unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("tree/who")).unwrap(), "65534\n65534\n");
        assert_eq!(fs::read_to_string(dir.path().join("tree/copy")).unwrap(), "content");
    }

    #[test]
    fn each_verdict_says_whether_it_may_pass() {
        needs_root();
        let verdict = |code: &str| format!(r#"echo '{{"code":"{code}","message":"could not x\u001b"}}'; exit 1"#);
        for (lines, retry, reason) in [
            (verdict("path_escapes"), Retry::Never, Reason::ArtifactFailed),
            (verdict("archive_too_large"), Retry::Never, Reason::ArtifactFailed),
            (verdict("disk_full"), Retry::Later, Reason::DiskFull),
            (verdict("failed"), Retry::Later, Reason::HelperFailed),
            ("kill -9 $$".to_owned(), Retry::Never, Reason::ArtifactFailed),
            ("exit 3".to_owned(), Retry::Never, Reason::ArtifactFailed),
            ("echo nonsense".to_owned(), Retry::Later, Reason::HelperFailed),
            ("exec yes 2>&1".to_owned(), Retry::Never, Reason::ArtifactFailed),
            (format!("echo x > {MANIFEST}; {DONE}"), Retry::Never, Reason::ArtifactFailed),
            (format!("mkfifo pipe; {DONE}"), Retry::Never, Reason::ArtifactFailed),
        ] {
            let error = unpack_by(&lines, b"").1.unwrap_err();
            assert_eq!((error.retry, error.reason), (retry, reason), "{lines}: {error}");
            assert!(!error.message.contains('\u{1b}'), "{error:?}");
        }
    }

    #[test]
    fn a_helper_that_never_ends_is_ended() {
        needs_root();
        let dir = place();
        let helper = script(dir.path(), "read line < fifo");
        make_tree(&dir.path().join("tree"), &helper).unwrap();
        nix::unistd::mkfifo(&dir.path().join("tree/fifo"), Mode::from_bits_truncate(0o666)).unwrap();
        let program = helper.program.clone();
        let tree = dir.path().join("tree");
        let error = run_helper(&program, &tree, &helper, &Limits::default(), Duration::ZERO).unwrap_err();
        assert_eq!((error.retry, error.reason), (Retry::Never, Reason::ArtifactFailed));
        assert!(error.message.contains("more than 0 s"), "{error}");
    }

    #[test]
    fn taking_over_follows_no_link_and_takes_nothing_that_was_not_the_helpers() {
        needs_root();
        let dir = place();
        let helper = script(dir.path(), "");
        let (tree, secret) = (dir.path().join("tree"), dir.path().join("secret"));
        make_tree(&tree, &helper).unwrap();
        fs::write(&secret, "s").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&secret, Some(7), Some(7)).unwrap();
        symlink(&secret, tree.join("link")).unwrap();
        std::os::unix::fs::lchown(tree.join("link"), Some(NOBODY), None).unwrap();
        take_over(&tree, &helper).unwrap();
        fs::hard_link(&secret, tree.join("hard")).unwrap();
        std::os::unix::fs::lchown(tree.join("link"), Some(NOBODY), None).unwrap();
        assert_eq!(take_over(&tree, &helper).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let meta = secret.metadata().unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (7, 0o600));
    }

    fn manifest(release: u32) -> Manifest {
        Manifest {
            project: ProjectId::parse("shop").unwrap(),
            release: ReleaseNo(release),
            sha256: Sha256::parse(&"a".repeat(64)).unwrap(),
            bytes: 5,
        }
    }

    #[test]
    fn a_published_release_says_what_it_is_and_is_not_published_twice() {
        let dir = place();
        let (tree, releases) = (dir.path().join("tree"), dir.path().join("releases"));
        fs::create_dir_all(&tree).unwrap();
        fs::create_dir(&releases).unwrap();
        fs::write(tree.join("app"), "1").unwrap();
        assert_eq!(read_manifest(&tree), None);
        publish(&tree, &releases, 3, &manifest(3)).unwrap();
        assert_eq!(read_manifest(&releases.join("3")), Some(manifest(3)));
        assert!(releases.join("3/app").exists() && !tree.exists());
        publish(&tree, &releases, 3, &manifest(3)).unwrap();
        fs::create_dir(&tree).unwrap();
        let error = publish(&tree, &releases, 3, &manifest(4)).unwrap_err();
        assert_eq!((error.retry, error.reason), (Retry::Never, Reason::ReleaseExists));
        assert_eq!(read_manifest(&releases.join("3")), Some(manifest(3)));
    }

    #[test]
    fn half_a_manifest_is_none() {
        let dir = place();
        fs::write(dir.path().join(MANIFEST), "{\"project\":\"shop\"").unwrap();
        assert_eq!(read_manifest(dir.path()), None);
    }
}
