//! The API keys on disk: `<kid>` holds a key, `<kid>.scope` its scope.
//!
//! Both are read on every request, so a removed key is refused at once, without a reload. A file that another user
//! could have written is not accepted.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use zeroize::Zeroizing;

use crate::files;
use crate::model::names::{KeyId, ProjectId};
use crate::sign::Key;

/// Longest valid key or scope file.
const LONGEST: u64 = 256;

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Admin,
    /// Read everything.
    Read,
    /// Switch one project's artifact, and read that project.
    Deploy(ProjectId),
}

impl Scope {
    /// Parses `admin`, `read` or `deploy:<project>`.
    ///
    /// # Errors
    /// The text is not a scope; the message lists the scopes.
    pub fn parse(raw: &str) -> Result<Self, String> {
        match raw.split_once(':') {
            None if raw == "admin" => Ok(Scope::Admin),
            None if raw == "read" => Ok(Scope::Read),
            Some(("deploy", project)) => ProjectId::parse(project).map(Scope::Deploy).map_err(|e| e.to_string()),
            _ => Err("a scope is admin, read or deploy:<project>".to_owned()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Admin => f.write_str("admin"),
            Scope::Read => f.write_str("read"),
            Scope::Deploy(project) => write!(f, "deploy:{project}"),
        }
    }
}

/// A directory of keys.
#[derive(Debug, Clone)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// Uses this directory; an installed agent uses `/etc/zexio/keys`.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Returns a key and its scope; None if it is missing or not trusted, with the reason in the log.
    pub fn find(&self, kid: &KeyId) -> Option<(Key, Scope)> {
        match self.read(kid) {
            Ok(found) => found,
            Err(cause) => {
                tracing::warn!(%kid, cause, "refused an API key");
                None
            }
        }
    }

    fn read(&self, kid: &KeyId) -> Result<Option<(Key, Scope)>, String> {
        let path = self.key_file(kid);
        let Some(text) = read_private(&path)? else { return Ok(None) };
        let key = Key::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Some((key, self.scope(kid)?)))
    }

    /// Only root writes here, so a key without a scope file was made by root by hand: it may do everything.
    fn scope(&self, kid: &KeyId) -> Result<Scope, String> {
        let path = self.scope_file(kid);
        match read_private(&path)? {
            None => Ok(Scope::Admin),
            Some(text) => Scope::parse(text.trim()).map_err(|e| format!("{}: {e}", path.display())),
        }
    }

    /// Lists the keys that would be accepted.
    ///
    /// # Errors
    /// The directory could not be read.
    pub fn list(&self) -> Result<Vec<(KeyId, Scope)>, String> {
        let entries = fs::read_dir(&self.dir).map_err(|e| format!("could not read {}: {e}", self.dir.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut keys: Vec<(KeyId, Scope)> = names
            .filter_map(|name| KeyId::parse(&name).ok())
            .filter_map(|kid| self.find(&kid).map(|(_, scope)| (kid, scope)))
            .collect();
        keys.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(keys)
    }

    /// Creates a key. Its scope is written first: at no moment may it do more than it should.
    ///
    /// # Errors
    /// The key exists already, or an I/O error.
    pub fn create(&self, kid: &KeyId, scope: &Scope) -> Result<Key, String> {
        let failed = |e: io::Error| format!("could not make key {kid} in {}: {e}", self.dir.display());
        if fs::symlink_metadata(self.key_file(kid)).is_ok() {
            return Err(format!("could not make key {kid}: there is one already; remove it first"));
        }
        let key = Key::generate()?;
        let text = Zeroizing::new(format!("{}\n", key.text().as_str()));
        files::replace(&self.scope_file(kid), format!("{scope}\n").as_bytes(), 0o600).map_err(failed)?;
        files::publish(&self.key_file(kid), text.as_bytes(), 0o600).map_err(failed)?;
        Ok(key)
    }

    /// Replaces a key's bytes atomically and keeps its scope: the old ones are refused from then on.
    ///
    /// # Errors
    /// There is no such key, its scope cannot be read, or an I/O error; the old key is then unchanged.
    pub fn rotate(&self, kid: &KeyId) -> Result<(Key, Scope), String> {
        let path = self.key_file(kid);
        if fs::symlink_metadata(&path).is_err() {
            return Err(format!("could not rotate key {kid}: there is none; `zexio key add` makes one"));
        }
        let scope = self.scope(kid)?;
        let key = Key::generate()?;
        let text = Zeroizing::new(format!("{}\n", key.text().as_str()));
        files::replace(&path, text.as_bytes(), 0o600).map_err(|e| format!("could not rotate key {kid}: {e}"))?;
        Ok((key, scope))
    }

    /// Removes a key; returns whether it existed. The key is removed before its scope, for the same reason.
    pub fn remove(&self, kid: &KeyId) -> Result<bool, String> {
        let failed = |e: io::Error| format!("could not remove key {kid} from {}: {e}", self.dir.display());
        let removed = files::remove(&self.key_file(kid)).map_err(failed)?;
        files::sync(&self.dir).map_err(failed)?;
        files::remove(&self.scope_file(kid)).map_err(failed)?;
        Ok(removed)
    }

    /// Returns a key's file.
    pub fn path(&self, kid: &KeyId) -> PathBuf {
        self.key_file(kid)
    }

    fn key_file(&self, kid: &KeyId) -> PathBuf {
        self.dir.join(kid.as_str())
    }

    /// The dot separates the two: no key id has one.
    fn scope_file(&self, kid: &KeyId) -> PathBuf {
        self.dir.join(format!("{kid}.scope"))
    }
}

/// Reads a file that only its owner, who must be us, can read or write; None if there is no such file.
fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
    let failed = |cause: &dyn fmt::Display| format!("could not read {}: {cause}", path.display());
    // Links are not followed and FIFOs do not block: either of them here is an error.
    let open = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC).open(path);
    let file = match open {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    let found = file.metadata().map_err(|e| failed(&e))?;
    let owner = nix::unistd::geteuid().as_raw();
    if !found.is_file() || found.uid() != owner || found.mode() & 0o177 != 0 || found.len() > LONGEST {
        return Err(failed(&format!("it must be a regular file of uid {owner} with mode 0600")));
    }
    let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize));
    file.take(LONGEST).read_to_string(&mut text).map_err(|e| failed(&e))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn kid(raw: &str) -> KeyId {
        KeyId::parse(raw).unwrap()
    }

    fn put(dir: &Path, name: &str, text: &str, mode: u32) {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_key_is_found_with_its_scope_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(dir.path());
        let scope = Scope::Deploy(ProjectId::parse("shop").unwrap());
        let made = keys.create(&kid("ci"), &scope).unwrap();
        let (found, found_scope) = keys.find(&kid("ci")).unwrap();
        assert_eq!((found.text(), found_scope), (made.text(), scope.clone()));
        assert!(keys.create(&kid("ci"), &Scope::Admin).is_err());
        assert_eq!(keys.list().unwrap(), [(kid("ci"), scope)]);
        let mode = fs::metadata(dir.path().join("ci")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(keys.remove(&kid("ci")).unwrap());
        assert!(!keys.remove(&kid("ci")).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_rotated_key_has_new_bytes_and_its_old_scope() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(dir.path());
        let old = keys.create(&kid("ci"), &Scope::Read).unwrap();
        let (new, scope) = keys.rotate(&kid("ci")).unwrap();
        assert_ne!(old.text(), new.text());
        let (found, found_scope) = keys.find(&kid("ci")).unwrap();
        assert_eq!((found.text(), found_scope, scope), (new.text(), Scope::Read, Scope::Read));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(keys.rotate(&kid("nobody")).err().unwrap().contains("`zexio key add`"));
        put(dir.path(), "ci.scope", "root", 0o600);
        assert!(keys.rotate(&kid("ci")).is_err(), "what it may do is not guessed");
    }

    #[test]
    fn a_key_that_others_could_read_or_that_lies_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = Key::generate().unwrap().text();
        put(dir.path(), "good", &text, 0o600);
        put(dir.path(), "open", &text, 0o640);
        put(dir.path(), "broken", "zxs_short", 0o600);
        put(dir.path(), "long", &"x".repeat(300), 0o600);
        symlink(dir.path().join("good"), dir.path().join("link")).unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        let keys = Keys::at(dir.path());
        assert!(matches!(keys.find(&kid("good")), Some((_, Scope::Admin))));
        for name in ["open", "broken", "long", "link", "dir", "missing"] {
            assert!(keys.find(&kid(name)).is_none(), "{name}");
        }
    }

    #[test]
    fn a_scope_that_cannot_be_read_refuses_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(dir.path());
        put(dir.path(), "k", &Key::generate().unwrap().text(), 0o600);
        for (text, mode) in [("", 0o600), ("root", 0o600), ("deploy:", 0o600), ("deploy:../x", 0o600), ("admin", 0o666)]
        {
            put(dir.path(), "k.scope", text, mode);
            assert!(keys.find(&kid("k")).is_none(), "{text:?} {mode:o}");
        }
        put(dir.path(), "k.scope", "read\n", 0o600);
        assert!(matches!(keys.find(&kid("k")), Some((_, Scope::Read))));
    }
}
