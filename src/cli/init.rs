//! Prepares a machine: directories, keys, the user that unpacks, Caddy. A second run changes nothing.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::args::Format;
use super::failure::Failure;
use super::output::{machine, say};
use super::prompt;
use crate::files;
use crate::keys::{Keys, Scope};
use crate::model::names::KeyId;
use crate::settings::{self, Settings};

/// The parts of `init` that work on the machine.
#[derive(Clone, Copy)]
pub struct InitHooks {
    /// Makes the user that unpacks downloaded artifacts, if missing; returns its name.
    pub make_unpacker: fn() -> Result<&'static str, String>,
    /// Adds our Caddyfile to the operator's; returns what was done, a line each.
    pub join_proxy: fn(&Settings, &JoinProxy<'_>) -> Result<Vec<String>, String>,
}

/// What may be done to the operator's Caddy.
#[derive(Clone, Copy)]
pub struct JoinProxy<'a> {
    pub yes: bool,
    /// Restart it if there is no other way.
    pub restart: bool,
    /// Asks the operator; none without a terminal.
    pub ask: Option<&'a dyn Fn(&str) -> bool>,
}

/// Prepares the machine.
///
/// # Errors
/// Names what could not be created.
pub fn init(hooks: &InitHooks, yes: bool, restart: bool, format: Format) -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Err(Failure::new("could not prepare the machine: run this as root"));
    }
    let settings = Settings::read(Path::new(settings::FILE))?;
    let mut done = Done::default();
    // Even on failure, what was made until then is printed.
    let ask: &dyn Fn(&str) -> bool = &|question| prompt::agrees(question);
    let join = JoinProxy { yes, restart, ask: io::stdin().is_terminal().then_some(ask) };
    let made = prepare(&settings, hooks, &join, &mut done);
    say(&machine(format, &json!({ "done": done.0, "complete": made.is_ok() })).unwrap_or_else(|| done.shown()))?;
    made?;
    if format == Format::Table { say(NEXT) } else { Ok(()) }
}

const NEXT: &str = "\
\nnext steps
  systemctl enable --now zexio-agent
  zexio status
  zexio apply -f shop.yaml --wait
keep a copy of /etc/zexio/master.key in a safe place: without it the stored secrets cannot be read
";

/// What was made and what existed.
#[derive(Debug, Default)]
struct Done(Vec<Deed>);

/// One thing that was made or existed.
#[derive(Debug, Serialize)]
struct Deed {
    did: &'static str,
    what: String,
}

impl Done {
    fn note(&mut self, did: &'static str, what: impl std::fmt::Display) {
        self.0.push(Deed { did, what: what.to_string() });
    }

    fn shown(&self) -> String {
        self.0.iter().map(|Deed { did, what }| format!("{did:<7}  {what}\n")).collect()
    }
}

fn prepare(settings: &Settings, hooks: &InitHooks, join: &JoinProxy<'_>, done: &mut Done) -> Result<(), Failure> {
    let places = Places::of(settings);
    make_places(&places, done)?;
    done.note("user", (hooks.make_unpacker)()?);
    for line in (hooks.join_proxy)(settings, join)? {
        done.note("caddy", line);
    }
    Ok(())
}

/// The paths of everything that `init` makes.
pub struct Places {
    /// Directories, with their modes.
    pub directories: Vec<(PathBuf, u32)>,
    pub master_key: PathBuf,
    pub keys: PathBuf,
}

impl Places {
    /// Returns the paths that the settings give.
    pub fn of(settings: &Settings) -> Self {
        let mut directories = vec![
            ("/etc/zexio".into(), 0o755),
            (settings::KEYS.into(), 0o700),
            (crate::model::layout::LAUNCH_DIR.into(), 0o700),
        ];
        directories.extend(settings.root.shared());
        directories.extend(settings.specs.clone().map(|specs| (specs, 0o755)));
        Self { directories, master_key: settings::MASTER_KEY.into(), keys: settings::KEYS.into() }
    }
}

fn make_places(places: &Places, done: &mut Done) -> Result<(), Failure> {
    for (path, mode) in &places.directories {
        let word = make_directory(path, *mode)
            .map_err(|e| Failure::new(format!("could not make the directory {}: {e}", path.display())))?;
        done.note(word, format_args!("{} {mode:04o}", path.display()));
    }
    let word = make_master_key(&places.master_key)
        .map_err(|e| Failure::new(format!("could not make the master key {}: {e}", places.master_key.display())))?;
    done.note(word, places.master_key.display());
    make_admin(&places.keys, done)
}

/// Makes a directory, or sets the mode of an existing one. Returns a word for what was done.
fn make_directory(path: &Path, mode: u32) -> io::Result<&'static str> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // The umask may have removed bits.
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            files::sync_parent(path)?;
            Ok("made")
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => keep_directory(path, mode),
        Err(e) => Err(e),
    }
}

fn keep_directory(path: &Path, mode: u32) -> io::Result<&'static str> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(io::Error::other("something that is no directory is in its place"));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to user {}, not to root", found.uid())));
    }
    if found.mode() & 0o7777 == mode {
        return Ok("there");
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok("changed")
}

/// Makes the master key if there is none. An existing one is never touched: all stored secrets are sealed with it.
fn make_master_key(path: &Path) -> io::Result<&'static str> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok("there");
    }
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|e| io::Error::other(e.to_string()))?;
    let text = Zeroizing::new(hex::encode(bytes.as_slice()) + "\n");
    files::publish(path, text.as_bytes(), 0o600)?;
    Ok("made")
}

fn make_admin(dir: &Path, done: &mut Done) -> Result<(), Failure> {
    let kid = KeyId::parse("admin").map_err(|e| Failure::new(e.to_string()))?;
    let path = dir.join(kid.as_str());
    if fs::symlink_metadata(&path).is_ok() {
        done.note("there", path.display());
        return Ok(());
    }
    Keys::at(dir).create(&kid, &Scope::Admin)?;
    done.note("made", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: &Path) -> Places {
        let keys = root.join("keys");
        let directories = vec![(keys.clone(), 0o700), (root.join("staging"), 0o711)];
        Places { directories, master_key: root.join("master.key"), keys }
    }

    fn mode(path: PathBuf) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_second_time_finds_everything_and_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let (mut first, mut second) = (Done::default(), Done::default());
        make_places(&places, &mut first).unwrap();
        let read = || (fs::read(&places.master_key).unwrap(), fs::read(places.keys.join("admin")).unwrap());
        let before = read();
        make_places(&places, &mut second).unwrap();
        assert!(first.0.iter().all(|deed| deed.did == "made"), "{first:?}");
        assert!(second.0.iter().all(|deed| deed.did == "there"), "{second:?}");
        assert_eq!(read(), before);
    }

    #[test]
    fn keys_are_roots_alone_and_well_formed() {
        let root = tempfile::tempdir().unwrap();
        make_places(&places(root.path()), &mut Done::default()).unwrap();
        let key = fs::read_to_string(root.path().join("master.key")).unwrap();
        assert!(key.trim().len() == 64 && key.trim().bytes().all(|b| b.is_ascii_hexdigit()), "{key:?}");
        assert_eq!(mode(root.path().join("master.key")), 0o600);
        assert_eq!(mode(root.path().join("keys/admin")), 0o600);
        assert_eq!((mode(root.path().join("keys")), mode(root.path().join("staging"))), (0o700, 0o711));
        assert!(fs::read_to_string(root.path().join("keys/admin")).unwrap().starts_with("zxs_"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3, "no draft is left");
    }

    #[test]
    fn a_directory_that_became_too_open_is_closed_again() {
        let root = tempfile::tempdir().unwrap();
        make_places(&places(root.path()), &mut Done::default()).unwrap();
        fs::set_permissions(root.path().join("keys"), Permissions::from_mode(0o777)).unwrap();
        let mut done = Done::default();
        make_places(&places(root.path()), &mut done).unwrap();
        assert_eq!(done.0[0].did, "changed", "{done:?}");
        assert_eq!(mode(root.path().join("keys")), 0o700);
    }

    #[test]
    fn something_else_in_a_directorys_place_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("keys"), "x").unwrap();
        let failure = make_places(&places(root.path()), &mut Done::default()).unwrap_err();
        assert!(failure.message.contains("no directory"), "{}", failure.message);
    }
}
