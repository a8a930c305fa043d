//! Caddy over its admin socket: adapts our Caddyfile together with the operator's, which imports it, checks the result,
//! loads it, and writes ours where Caddy reads it on start. The operator's file is only read here; `join` adds its two
//! lines.

mod admin;
pub mod certificates;
mod config;
pub mod join;
mod sites;
mod theirs;
mod version;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::files;
use crate::model::names::Hostname;
use crate::model::observed::{CertificateSeen, ProxySeen};
use crate::plan::RoutesOrder;
use crate::port::{PortError, Routes};
use crate::render::caddyfile::OURS;
use crate::render::joined;

use super::disk;
use crate::host::probe::listener::{self, Listener};
use crate::model::reason::Reason;
use admin::{Admin, Client};
use certificates::Certificates;
use theirs::Theirs;

pub use version::{OUTDATED, Version};

/// The operator's file, which Caddy reads on start.
pub const CADDYFILE: &str = "/etc/caddy/Caddyfile";
/// Our own file, which the operator's imports.
pub const OUR_CADDYFILE: &str = "/etc/caddy/zexio.caddyfile";
/// Drafts of both, to adapt them before they are loaded. They stand beside the real ones, since Caddy resolves relative
/// imports against the importing file's directory.
const DRAFT: &str = "/etc/caddy/.zexio-draft";
const OUR_DRAFT: &str = "/etc/caddy/.zexio-draft-sites";
/// The file that each draft stands for.
const DRAFTS: [(&str, &str); 3] = [(join::DRAFT, CADDYFILE), (OUR_DRAFT, OUR_CADDYFILE), (DRAFT, CADDYFILE)];
/// The cgroup of Caddy's unit.
pub const CGROUP: &str = "/system.slice/caddy.service";
/// The reason for everything that Caddy, or the check of the adapted result, refuses.
const REFUSED: Reason = Reason::RouteRefused;
/// The reason while the operator has to act.
const PENDING: Reason = Reason::RoutePending;
const PROGRAM: &str = "/usr/bin/caddy";
/// How long a cached proof that Caddy is healthy is trusted. What Caddy serves may be changed without its file.
const REREAD: Duration = Duration::from_secs(2);

/// The Caddy adapter.
pub struct Caddy {
    socket: PathBuf,
    client: Client,
    /// The template, and its file's stamp when it was last read.
    template: Option<(PathBuf, Cell<Stamp>)>,
    certificates: RefCell<Certificates>,
    well: RefCell<Option<Well>>,
}

/// Cached proof that Caddy serves what its file says, trusted for a while as long as the process and the files are the
/// same: most passes have nothing to do with routes.
struct Well {
    process: i32,
    read: Instant,
    text: String,
    main: Stamp,
}

/// Changes when a file does.
type Stamp = Option<(u64, i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

impl Caddy {
    /// Creates the adapter for an admin socket. Fails if its runtime cannot start.
    pub fn new(socket: &Path) -> Result<Self, String> {
        Ok(Self {
            socket: socket.to_path_buf(),
            client: Client::new()?,
            template: None,
            certificates: RefCell::default(),
            well: RefCell::default(),
        })
    }

    /// Watches a template.
    #[must_use]
    pub fn with_template(self, path: &Path) -> Self {
        Self { template: Some((path.to_path_buf(), Cell::new(None))), ..self }
    }

    /// Returns why Caddy refuses a text of ours on its own, if it does.
    pub fn refuses(&self, text: &str) -> Option<String> {
        self.adapt(text).err().filter(|error| error.reason == REFUSED).map(|error| error.message)
    }

    /// Where Caddy's admin endpoint is. A Caddyfile without our line may have moved it to Caddy's default; that is used
    /// only if Caddy listens there: any user of this machine could.
    fn admin(&self) -> Admin {
        let gone = std::os::unix::net::UnixStream::connect(&self.socket).is_err();
        let default = Admin::Address(config::DEFAULT_ADMIN.to_owned());
        if gone && default.port().is_some_and(|port| listener::on_port(port, CGROUP) == Listener::Ours) {
            default
        } else {
            Admin::Socket(self.socket.clone())
        }
    }

    fn live(&self) -> Result<Value, PortError> {
        self.client.live(&self.admin())
    }

    fn adapt(&self, text: &str) -> Result<Value, PortError> {
        self.client.adapt(&self.admin(), text)
    }

    /// Adapts a text of ours on its own.
    fn adapt_alone(&self, text: &str) -> Result<Value, PortError> {
        let _draft = Draft::write(&[(OUR_DRAFT, text)])?;
        self.adapt(&format!("import {OUR_DRAFT}\n"))
    }

    /// Adapts the files on disk together.
    fn adapt_files(&self) -> Result<Value, PortError> {
        self.adapt(&format!("import {CADDYFILE}\n"))
    }

    /// Adapts a text of ours together with the operator's file; refuses it in Caddy's words, or names what is wrong
    /// with the operator's.
    fn adapt_with(&self, text: &str) -> Result<Value, PortError> {
        let main = read_main()?;
        if !joined::is_joined(&main, OUR_CADDYFILE) {
            return Err(PortError::transient(
                PENDING,
                format!("{CADDYFILE} does not import {OUR_CADDYFILE}; `zexio init --yes` joins them"),
            ));
        }
        let draft = joined::with_other_import(&main, OUR_CADDYFILE, OUR_DRAFT);
        let _draft = Draft::write(&[(DRAFT, &draft), (OUR_DRAFT, text)])?;
        self.adapt(&format!("import {DRAFT}\n")).map_err(|error| self.blame(error))
    }

    /// Attributes a refusal to our file or the operator's.
    fn blame(&self, error: PortError) -> PortError {
        if error.reason != REFUSED {
            return error;
        }
        let said = without_drafts(&error.message);
        let message = match self.adapt_files() {
            Err(files) if files.reason == REFUSED && fs::exists(OUR_CADDYFILE).unwrap_or_default() => {
                match self.clash(&files) {
                    Some(clash) => return clash,
                    None => invalid(&files.message),
                }
            }
            _ => match self.theirs().ambiguous_site(&said) {
                Some((_, place)) => format!("Caddy could not read the new routes: {said}; that site is in {place} too"),
                None => format!("Caddy could not read the new routes: {said}"),
            },
        };
        PortError::transient(REFUSED, format!("{message}; Caddy serves on as before"))
    }

    /// Refuses a result that does not serve each host of ours, and only as ours.
    fn checked(&self, meant: Value, order: &RoutesOrder) -> Result<Value, PortError> {
        let refused = |cause| PortError::transient(REFUSED, format!("the new routes were not loaded: {cause}"));
        if let Some((host, place)) = self.shared(&meant, &self.adapt_alone(&order.text)?) {
            return Err(match self.serves_ours(&host) {
                true => added(&host, &place),
                false => refused(format!("{host} has another site, in {place}")),
            });
        }
        config::check(&meant, order, &self.socket).map_err(refused).map(|()| meant)
    }

    /// Reads the operator's files.
    fn theirs(&self) -> Theirs {
        Theirs::read(Path::new(CADDYFILE), Path::new(OUR_CADDYFILE), admin::listener_of(&self.socket))
    }

    /// The error for files on disk that Caddy refuses together because the operator added a site of ours to theirs.
    /// Caddy still serves ours, and nothing can be loaded before one of the two is removed.
    fn clash(&self, refused: &PortError) -> Option<PortError> {
        let said = without_drafts(&refused.message);
        let (site, place) = self.theirs().ambiguous_site(&said)?;
        self.serves_ours(theirs::host_of(site)).then(|| added(site, &place))
    }

    /// Whether Caddy serves a host exactly as our file says.
    fn serves_ours(&self, host: &str) -> bool {
        let (Some(text), Ok(live)) = (read_ours(), self.live()) else { return false };
        self.adapt_alone(&text).is_ok_and(|ours| {
            config::names(&ours).iter().any(|name| name == host) && !config::covered(&live, &ours).contains(host)
        })
    }

    /// Finds a host of ours that the operator's file also has, and where.
    fn shared(&self, whole: &Value, ours: &Value) -> Option<(String, String)> {
        let mut covered = config::covered(whole, ours).into_iter().peekable();
        covered.peek()?;
        let theirs = self.theirs();
        covered.find_map(|host| Some((theirs.site(&host)?, host))).map(|(place, host)| (host, place))
    }

    /// Refuses a load that would change what Caddy serves besides our sites: the operator's file was edited but not
    /// loaded, or the live configuration was loaded from elsewhere. That is the operator's decision.
    fn leaves_theirs(&self, live: &Value, meant: &Value, order: &RoutesOrder) -> Result<(), PortError> {
        match self.adapt_files() {
            Ok(files) if files == *live => return Ok(()),
            Ok(_) => {}
            Err(refused) => self.clash(&refused).map_or(Ok(()), Err)?,
        }
        let before = read_ours().map(|text| self.adapt_alone(&text)).transpose()?.unwrap_or_default();
        let after = self.adapt_alone(&order.text)?;
        let changes = config::foreign_changes(live, meant, [&before, &after]);
        if changes.is_empty() {
            return Ok(());
        }
        Err(PortError::transient(
            PENDING,
            format!(
                "Caddy serves {} in another way than {CADDYFILE} says, which was edited and is not loaded; \
                 `systemctl reload caddy` loads it, and the new routes follow",
                changes.join(", ")
            ),
        ))
    }

    /// Explains why no route can be loaded if the operator's file does not import ours.
    fn apart(&self, live: Option<&Value>) -> Option<String> {
        let main = match fs::read_to_string(CADDYFILE) {
            Ok(main) if joined::is_joined(&main, OUR_CADDYFILE) || main.starts_with(OURS) => return None,
            Ok(main) => main,
            Err(_) => return Some(format!("there is no {CADDYFILE} to read")),
        };
        let names = live.map(config::names).unwrap_or_default();
        let serves = match (joined::is_untouched(&main), names.as_slice()) {
            (false, [_, ..]) => format!("Caddy serves {}, and ", sites(&names, "of its own")),
            _ => String::new(),
        };
        Some(format!("{serves}{CADDYFILE} does not import {OUR_CADDYFILE}: nothing changed"))
    }
}

impl Caddy {
    /// Whether Caddy answers on its admin endpoint.
    pub fn answers(&self) -> bool {
        self.live().is_ok()
    }

    /// Finds conflicts between the operator's Caddyfile, ours, and what Caddy serves: each with its fix.
    pub fn troubles(&self) -> Vec<(String, String)> {
        // A Caddy that does not answer is a finding of its own; its file is checked all the same.
        let live = self.live().ok();
        if let Some(why) = self.apart(live.as_ref()) {
            let refused = join::dry_run(&self.socket).err().map(|error| error.message);
            return vec![(
                why,
                refused.unwrap_or_else(|| "`zexio init --yes` joins them without a restart".to_owned()),
            )];
        }
        if let Some(obstacle) = join::admin_off(&self.theirs()) {
            return vec![obstacle];
        }
        let Some(live) = live else { return Vec::new() };
        let mut found = Vec::new();
        match self.adapt_files() {
            Err(error) if error.reason == REFUSED => {
                let what = self.clash(&error).map_or_else(|| invalid(&error.message), |clash| clash.message);
                found.push((
                    format!("{what}; Caddy does not come up again with it"),
                    "correct it, then `systemctl reload caddy`".to_owned(),
                ));
            }
            Ok(meant) if meant != live => found.push((
                format!("Caddy does not serve what {CADDYFILE} says: it was edited and is not loaded"),
                "systemctl reload caddy".to_owned(),
            )),
            _ => {}
        }
        found.extend(copies().into_iter().filter_map(|copy| self.lost_since(&copy, &live)));
        found
    }

    /// Names what a copy from before zexio served and Caddy does not serve now.
    fn lost_since(&self, copy: &str, live: &Value) -> Option<(String, String)> {
        if joined::is_untouched(&fs::read_to_string(copy).ok()?) {
            return None;
        }
        let before = self.adapt(&format!("import {copy}\n")).ok()?;
        let lost = config::lost(&before, live);
        (!lost.is_empty()).then(|| {
            (
                format!("{} was served before zexio came, and is not now", lost.join(", ")),
                format!("put it back from {copy} into {CADDYFILE} and `systemctl reload caddy`, or remove {copy}"),
            )
        })
    }
}

/// The copies of the operator's Caddyfile from before zexio.
fn copies() -> Vec<String> {
    let entries = fs::read_dir("/etc/caddy").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("Caddyfile.before-zexio")).map(|name| format!("/etc/caddy/{name}")).collect()
}

/// Formats the number of sites, their owner and the first few names.
fn sites(names: &[String], whose: &str) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = if names.len() > 5 { ", …" } else { "" };
    let plural = if names.len() == 1 { "site" } else { "sites" };
    format!("{} {plural} {whose} ({shown}{more})", names.len())
}

/// Where the last template that Caddy accepted is kept.
pub fn kept_template(path: &Path) -> PathBuf {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    path.with_file_name(format!(".{name}.good"))
}

fn read_main() -> Result<String, PortError> {
    let read = fs::read_to_string(CADDYFILE);
    read.map_err(|e| PortError::transient(PENDING, format!("could not read {CADDYFILE}: {e}; `zexio init` makes one")))
}

fn read_ours() -> Option<String> {
    fs::read_to_string(OUR_CADDYFILE).ok().filter(|text| text.starts_with(OURS))
}

/// Temporary files for Caddy to read, removed on drop. They contain the operator's file, so they get the same mode.
struct Draft(Vec<&'static str>);

impl Draft {
    fn write(files: &[(&'static str, &str)]) -> Result<Self, PortError> {
        let draft = Self(files.iter().map(|(path, _)| *path).collect());
        let like = fs::metadata(CADDYFILE);
        for (path, text) in files {
            write_like(Path::new(path), text, like.as_ref().ok())?;
        }
        Ok(draft)
    }
}

/// Writes a file with the owner and mode of another; world-readable if there is no other.
fn write_like(path: &Path, text: &str, like: Option<&fs::Metadata>) -> Result<(), PortError> {
    match like {
        Some(like) => files::replace_like(path, text.as_bytes(), like)
            .map_err(|e| super::disk_error(&format!("write {}", path.display()), &e)),
        None => disk::replace(path, text.as_bytes(), 0o644),
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Replaces draft paths in a message by the files they stand for.
fn without_drafts(said: &str) -> String {
    let said = DRAFTS.iter().fold(said.to_owned(), |said, (draft, real)| said.replace(draft, real));
    let start = ["caddyfile adapter: ", "caddyfile: "].into_iter().find_map(|end| Some(said.find(end)? + end.len()));
    said[start.unwrap_or(0)..].to_owned()
}

/// Extracts the line and file that are not valid: `FILE:LINE: cause` or `FILE:LINE - cause` in Caddy's words.
fn invalid(said: &str) -> String {
    let said = without_drafts(said);
    let found = said.split_whitespace().filter(|word| word.starts_with('/')).find_map(|word| {
        let (file, line) = word.split_once(':')?;
        let line = line.trim_end_matches(':');
        let is_number = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
        let cause = said.split_once(word)?.1.trim_start_matches([':', ' ', '-']);
        is_number.then(|| (file.to_owned(), line.to_owned(), cause.to_owned()))
    });
    match found {
        Some((file, line, cause)) => format!("{file} line {line} is not valid: {cause}"),
        None => format!("{CADDYFILE} is not valid: {said}"),
    }
}

impl Routes for Caddy {
    fn observe(&self) -> Result<ProxySeen, PortError> {
        let (text, process, main) = (read_ours(), admin::listener_of(&self.socket), stamp(Path::new(CADDYFILE)));
        let well = self.well.take().filter(|well| {
            well.read.elapsed() < REREAD
                && Some(well.process) == process
                && Some(&well.text) == text.as_ref()
                && well.main == main
        });
        if well.is_some() {
            self.well.replace(well);
            return Ok(ProxySeen { up: true, runs: true, text, live: true, ..ProxySeen::default() });
        }
        let live = self.live().ok();
        let apart = self.apart(live.as_ref()).map(|why| match join::obstacle(&self.theirs()) {
            Some((what, mend)) => format!("{why}; {what}; {mend}"),
            None => format!("{why}; `zexio init --yes` joins them without a restart"),
        });
        let Some(live) = live else { return Ok(ProxySeen { text, apart, ..ProxySeen::default() }) };
        let whole = || apart.is_none() && self.adapt_files().is_ok_and(|meant| meant == live);
        let is_served = |ours: &Value| {
            config::differing_routes(&live, ours).is_empty() || self.shared(&live, ours).is_none() && whole()
        };
        let live = text.as_ref().is_some_and(|text| self.adapt_alone(text).is_ok_and(|ours| is_served(&ours)));
        if let (true, None, Some(process), Some(text)) = (live, &apart, process, text.clone()) {
            self.well.replace(Some(Well { process, read: Instant::now(), text, main }));
        }
        Ok(ProxySeen { up: true, runs: true, text, live, apart, ..ProxySeen::default() })
    }

    fn certificates(&self, hosts: &BTreeSet<Hostname>) -> BTreeMap<Hostname, CertificateSeen> {
        if hosts.is_empty() { BTreeMap::new() } else { self.certificates.borrow_mut().look(hosts) }
    }

    fn refusal(&self, order: &RoutesOrder) -> Result<Option<String>, PortError> {
        match self.adapt_with(&order.text).and_then(|meant| self.checked(meant, order)) {
            Ok(_) => Ok(None),
            Err(error) if error.reason == REFUSED => Ok(Some(error.message)),
            Err(error) => Err(error),
        }
    }

    fn differing(&self, order: &RoutesOrder) -> BTreeSet<Hostname> {
        let hosts = || order.sites.iter().map(|site| &site.host);
        let Ok(live) = self.live() else { return hosts().cloned().collect() };
        let together = self.adapt_with(&order.text).map(|meant| sites::differing(hosts(), &meant, &live));
        match together {
            Ok(differing) if differing.is_empty() || self.adapt_files().is_ok_and(|files| files == live) => differing,
            // The operator's file is not valid or not loaded: compare our own routes alone.
            _ => match self.adapt_alone(&order.text) {
                Ok(ours) => {
                    let (differing, there) = (config::differing_routes(&live, &ours), config::names(&ours));
                    let is_served = |host: &str| there.iter().any(|name| name == host) && !differing.contains(host);
                    hosts().filter(|host| !is_served(host.as_str())).cloned().collect()
                }
                Err(_) => hosts().cloned().collect(),
            },
        }
    }

    fn surroundings(&self, ours: &str) -> String {
        self.theirs().fingerprint(ours)
    }

    fn template(&self, in_any_case: bool) -> Option<Result<String, String>> {
        let (path, known) = self.template.as_ref()?;
        let now = stamp(path);
        let changed = known.replace(now) != now;
        let read = || fs::read_to_string(path).map_err(|e| format!("could not read {}: {e}", path.display()));
        (changed || in_any_case).then(read)
    }

    fn keep_template(&self, text: &str) {
        let Some((path, _)) = &self.template else { return };
        let kept = kept_template(path);
        if fs::read_to_string(&kept).is_ok_and(|known| known == text) {
            return;
        }
        // Without the copy, a start with a broken template waits for the operator; nothing else is lost.
        let _ = disk::replace(&kept, text.as_bytes(), 0o644);
    }

    fn load(&self, order: &RoutesOrder) -> Result<(), PortError> {
        let meant = self.checked(self.adapt_with(&order.text)?, order)?;
        let live = self.live()?;
        if live != meant {
            self.leaves_theirs(&live, &meant, order)?;
            self.client.load(&self.admin(), &meant).map_err(|error| match error.reason {
                REFUSED => PortError::transient(
                    REFUSED,
                    format!("Caddy could not load the new routes: {}; it serves on as before", error.message),
                ),
                _ => error,
            })?;
        }
        // Only a configuration that Caddy accepted is written: Caddy must be able to start with it.
        disk::replace(Path::new(OUR_CADDYFILE), order.text.as_bytes(), 0o644)
    }
}

/// The error for a site that Caddy serves as ours and that an edit of the operator's, not loaded yet, also has.
fn added(site: &str, place: &str) -> PortError {
    let message = format!(
        "{site} was added in {place}, and zexio serves it by {OUR_CADDYFILE}: take it out of one of both, and the new routes \
         follow; Caddy serves on as before"
    );
    PortError::transient(PENDING, message)
}

fn down(message: String) -> PortError {
    PortError::transient(Reason::ProxyDown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_is_not_valid_is_named() {
        let first = "adapting config using caddyfile adapter: /etc/caddy/Caddyfile:12: unrecognized directive: foo";
        assert_eq!(invalid(first), "/etc/caddy/Caddyfile line 12 is not valid: unrecognized directive: foo");
        let second = "adapting config using caddyfile adapter: /etc/caddy/sites/a:3 - Error during parsing: x";
        assert_eq!(invalid(second), "/etc/caddy/sites/a line 3 is not valid: Error during parsing: x");
        assert_eq!(invalid("what"), "/etc/caddy/Caddyfile is not valid: what");
        let draft = "adapting config using caddyfile adapter: /etc/caddy/.zexio-draft:1: x";
        assert_eq!(invalid(draft), "/etc/caddy/Caddyfile line 1 is not valid: x");
    }
}
