//! Seals values with AES-256-GCM. Project, name and version are bound to each value as associated data, so that no row
//! can stand in for another.
//!
//! It protects copies of the database, not a stolen machine: the key is on the same disk.

use std::fmt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// The key that all others are derived from: 32 bytes from the system's random source, in a file that only root can
/// read.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Reads the key file: 64 hex digits, mode 0600, owned by the agent's user.
    ///
    /// # Errors
    /// What is wrong with the file and how to fix it. A wrong mode is refused, not fixed: the key may have been read
    /// already.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let meta = std::fs::symlink_metadata(path)
            .map_err(|e| format!("could not read master key {shown}: {e}; `zexio init` makes it"))?;
        let mode = meta.permissions().mode() & 0o7777;
        if !meta.is_file() || mode != 0o600 || meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(format!(
                "could not use master key {shown}: it must be a file of root with mode 0600, and is mode {mode:04o} of uid {}; `chmod 0600 {shown}` and `chown root {shown}` mend it",
                meta.uid()
            ));
        }
        let text = Zeroizing::new(
            std::fs::read_to_string(path).map_err(|e| format!("could not read master key {shown}: {e}"))?,
        );
        Self::parse(text.trim()).ok_or_else(|| format!("could not use master key {shown}: it must be 64 hex digits"))
    }

    /// Parses 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, key.as_mut_slice()).ok()?;
        Some(Self(key))
    }
}

/// Seals and opens values with a key derived from the master key.
pub struct Sealer {
    cipher: Aes256Gcm,
    id: String,
}

/// The identity of a value, to which its sealed body is bound.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    /// `env` or `secret`.
    pub kind: &'a str,
    pub project: &'a str,
    pub name: &'a str,
    pub version: u32,
}

/// A sealed value, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBody {
    /// The id of the key it is sealed with.
    pub key: String,
    /// Random, drawn for this value.
    pub nonce: [u8; 12],
    /// Ciphertext and tag.
    pub body: Vec<u8>,
}

/// Why a value could not be sealed or opened. It never contains more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealError(&'static str);

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Sealer {
    /// Derives the sealer from a master key.
    pub fn new(master: &MasterKey) -> Self {
        let mut key = Zeroizing::new([0u8; 32]);
        // 32 bytes are less than HKDF's limit of 255 blocks, so expanding cannot fail.
        let _ = Hkdf::<Sha256>::new(None, master.0.as_slice()).expand(b"zexio/env/v1", key.as_mut_slice());
        let id = hex::encode(&Sha256::digest([b"zexio/key-id".as_slice(), key.as_slice()].concat())[..4]);
        Self { cipher: Aes256Gcm::new((&*key).into()), id }
    }

    /// Seals a value.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn seal(&self, label: Label<'_>, value: &str) -> Result<SealedBody, SealError> {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).map_err(|_| SealError("the system gave no random bytes"))?;
        let body = self
            .cipher
            .encrypt(&nonce.into(), Payload { msg: value.as_bytes(), aad: &associated(&self.id, label) })
            .map_err(|_| SealError("the value could not be sealed"))?;
        Ok(SealedBody { key: self.id.clone(), nonce, body })
    }

    /// Opens a value.
    ///
    /// # Errors
    /// It was sealed with another key, or for another project, name or version, or it is damaged.
    pub fn open(&self, label: Label<'_>, sealed: &SealedBody) -> Result<Zeroizing<String>, SealError> {
        if sealed.key != self.id {
            return Err(SealError(
                "it was sealed with another master key; put the old /etc/zexio/master.key back, or set the value again",
            ));
        }
        let payload = Payload { msg: &sealed.body, aad: &associated(&self.id, label) };
        let opened = self
            .cipher
            .decrypt(&sealed.nonce.into(), payload)
            .map_err(|_| SealError("it is damaged or was sealed for another place"))?;
        String::from_utf8(opened).map(Zeroizing::new).map_err(|error| {
            error.into_bytes().zeroize();
            SealError("it is not text")
        })
    }
}

fn associated(key: &str, label: Label<'_>) -> Vec<u8> {
    let Label { kind, project, name, version } = label;
    format!("zexio-{kind}\0v1\0{key}\0{project}\0{name}\0{version}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealer(digit: &str) -> Sealer {
        Sealer::new(&MasterKey::parse(&digit.repeat(64)).unwrap())
    }

    const LABEL: Label<'_> = Label { kind: "env", project: "shop", name: "KEY", version: 3 };

    #[test]
    fn a_value_opens_only_in_the_place_it_was_sealed_for() {
        let sealed = sealer("1").seal(LABEL, "hunter2 é\n").unwrap();
        assert_eq!(sealer("1").open(LABEL, &sealed).unwrap().as_str(), "hunter2 é\n");
        for other in [
            Label { project: "shop2", ..LABEL },
            Label { name: "KEY2", ..LABEL },
            Label { version: 2, ..LABEL },
            Label { kind: "secret", ..LABEL },
        ] {
            assert!(sealer("1").open(other, &sealed).is_err(), "{other:?}");
        }
        assert!(sealer("2").open(LABEL, &sealed).is_err());
        let mut bent = sealed.clone();
        bent.body[0] ^= 1;
        assert!(sealer("1").open(LABEL, &bent).is_err());
    }

    proptest! {
        #[test]
        fn every_value_opens_in_its_own_place_and_in_no_other(
            value: String, mine in place(), other in place(), field in 0usize..4, one: [u8; 32], two: [u8; 32],
        ) {
            let sealer = |key: [u8; 32]| Sealer::new(&MasterKey::parse(&hex::encode(key)).unwrap());
            let sealed = sealer(one).seal(mine.label(), &value).unwrap();
            let opened = sealer(one).open(mine.label(), &sealed).unwrap();
            prop_assert_eq!(opened.as_str(), &value);
            for there in [mine.with(field, &other), other] {
                prop_assert_eq!(sealer(one).open(there.label(), &sealed).is_ok(), there == mine);
            }
            prop_assert_eq!(sealer(two).open(mine.label(), &sealed).is_ok(), one == two);
            // Even if the row claims to be of the other key.
            let claimed = SealedBody { key: sealer(two).id, ..sealed };
            prop_assert_eq!(sealer(two).open(mine.label(), &claimed).is_ok(), one == two);
        }
    }

    /// A label that owns its parts. None of them can hold a NUL: they are checked names.
    #[derive(Debug, Clone, PartialEq)]
    struct Where {
        kind: &'static str,
        project: String,
        name: String,
        version: u32,
    }

    impl Where {
        fn label(&self) -> Label<'_> {
            Label { kind: self.kind, project: &self.project, name: &self.name, version: self.version }
        }

        fn with(&self, field: usize, other: &Self) -> Self {
            let mut mixed = self.clone();
            match field {
                0 => mixed.kind = other.kind,
                1 => mixed.project.clone_from(&other.project),
                2 => mixed.name.clone_from(&other.name),
                _ => mixed.version = other.version,
            }
            mixed
        }
    }

    fn place() -> impl Strategy<Value = Where> {
        (any::<bool>(), "[a-z][a-z0-9-]{0,5}", "[A-Za-z_][A-Za-z0-9_]{0,5}", any::<u32>()).prop_map(
            |(env, project, name, version)| Where { kind: if env { "env" } else { "secret" }, project, name, version },
        )
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let sealer = sealer("1");
        assert_ne!(sealer.seal(LABEL, "x").unwrap(), sealer.seal(LABEL, "x").unwrap());
    }

    #[test]
    fn a_key_file_that_others_could_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        std::fs::write(&path, "ab".repeat(32)).unwrap();
        for (mode, fine) in [(0o644, false), (0o400, false), (0o600, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(MasterKey::read(&path).is_ok(), fine, "{mode:o}");
        }
        std::fs::write(&path, "short").unwrap();
        assert!(MasterKey::read(&path).is_err());
    }
}
