//! Joins our Caddyfile to the operator's while Caddy keeps serving: two lines into theirs, one load, no restart. An
//! obstacle is reported, and then nothing is changed.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{Group, User};
use serde_json::Value;

use crate::model::reason::Reason;
use crate::port::{PortError, Units};
use crate::render::caddyfile::OURS;
use crate::render::joined;

use super::super::systemd::{ProxyUnit, Systemd};
use super::admin::{Admin, Client};
use super::theirs::Theirs;
use super::{CADDYFILE, CGROUP, OUR_CADDYFILE, PROGRAM};
use super::{config, disk, invalid, listener, read_ours, sites, without_drafts, write_like};
use listener::Listener;

/// The draft of the operator's file. The agent uses other drafts.
pub const DRAFT: &str = "/etc/caddy/.zexio-init-draft";
/// Creates the admin socket's directory at each boot. It belongs to the line in the Caddyfile, not to a package.
const TMPFILES: &str = "/etc/tmpfiles.d/zexio-caddy.conf";
/// What created it in earlier versions.
const OLD_DROP_IN: &str = "/usr/lib/systemd/system/caddy.service.d/zexio.conf";
/// The operator's global options that apply to our sites too.
const SHARED_OPTIONS: [&str; 7] =
    ["http_port", "https_port", "auto_https", "local_certs", "default_bind", "acme_ca", "cert_issuer"];
/// How long Caddy may take to start.
const TIMEOUT: Duration = Duration::from_secs(15);

const NO_ENDPOINT: &str = "Caddy runs, and does not answer on its admin endpoint; `zexio init --yes --restart-caddy` \
                           restarts it; nothing was changed";

/// What to join, and what is allowed in the process.
pub struct Order<'a> {
    pub socket: &'a Path,
    /// The text for our Caddyfile if there is none yet.
    pub ours: &'a str,
    /// Whether the operator's Caddyfile may be changed without asking.
    pub yes: bool,
    /// Whether Caddy may be restarted if there is no other way.
    pub restart: bool,
    /// Whether another web server owns ports 80 and 443 by design.
    pub behind: bool,
}

/// Asks the operator; None without a terminal.
pub type Ask<'a> = Option<&'a dyn Fn(&str) -> bool>;

/// Joins our Caddyfile to the operator's. Returns what was done or left alone, one line each.
///
/// # Errors
/// The obstacle; Caddy and its file are then unchanged.
pub fn join(order: &Order<'_>, ask: Ask<'_>) -> Result<Vec<String>, PortError> {
    let systemd = Systemd::default();
    let unit = systemd.proxy_unit()?;
    if unit.file.is_empty() || !Path::new(PROGRAM).exists() {
        return Err(against(
            "Caddy is not installed as /usr/bin/caddy with a caddy.service; install it, then `zexio init` again",
        ));
    }
    let mut done = vec![make_socket_directory(order.socket, &unit.user)?];
    done.extend(migrate(order.socket)?);
    if read_ours().is_none() {
        disk::directory(Path::new("/etc/caddy"), 0o755)?;
        disk::replace(Path::new(OUR_CADDYFILE), order.ours.as_bytes(), 0o644)?;
        done.push(format!("wrote {OUR_CADDYFILE}"));
    }
    if fs::exists(OLD_DROP_IN).unwrap_or_default() {
        disk::remove(Path::new(OLD_DROP_IN))?;
        systemd.reload()?;
    }
    Joining { order, ask, systemd, client: Client::new().map_err(|e| against(&e))? }.run(&unit, &mut done)?;
    if !order.behind {
        done.extend([80, 443].into_iter().filter_map(taken));
    }
    Ok(done)
}

/// Describes who owns a port that Caddy needs.
fn taken(port: u16) -> Option<String> {
    match listener::on_port(port, CGROUP) {
        Listener::Stranger(who) => Some(format!(
            "{who} listens on port {port}, which Caddy needs for routes: stop it, or let it pass requests on to Caddy: \
             `caddy: {{ behind: nginx }}` in /etc/zexio/agent.yaml (docs/operations.md, \"Beside nginx or Apache\")"
        )),
        _ => None,
    }
}

fn against(cause: &str) -> PortError {
    PortError::permanent(Reason::RoutePending, cause)
}

/// Creates the admin socket's directory, now and at each boot. In it only Caddy and root can reach the socket.
fn make_socket_directory(socket: &Path, user: &str) -> Result<String, PortError> {
    let failed = |what: &str, e: &dyn std::fmt::Display| against(&format!("could not {what}: {e}"));
    let directory = socket.parent().filter(|directory| directory.parent().is_some_and(|above| above != Path::new("/")));
    let Some(directory) = directory else {
        return Err(against(&format!(
            "caddy.admin: {} has no directory of its own, like /run/caddy",
            socket.display()
        )));
    };
    let owner = User::from_name(user).map_err(|e| failed("read the users", &e))?;
    let owner = owner.ok_or_else(|| against(&format!("there is no user {user}, which caddy.service runs as")))?;
    let group = Group::from_gid(owner.gid).ok().flatten().map_or_else(|| owner.gid.to_string(), |group| group.name);
    let shown = directory.display();
    let text = format!(
        "# Caddy's admin socket is in here, for root and Caddy alone: see `admin` in {CADDYFILE}.\n\
         d {shown} 0700 {user} {group} -\n"
    );
    disk::directory(Path::new("/etc/tmpfiles.d"), 0o755)?;
    disk::replace(Path::new(TMPFILES), text.as_bytes(), 0o644)?;
    disk::directory(directory, 0o700)?;
    chown(directory, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
        .map_err(|e| failed(&format!("give {shown} to {user}"), &e))?;
    Ok(format!("{shown} is there for Caddy's admin socket, after a boot too ({TMPFILES})"))
}

/// Splits a Caddyfile of an earlier version, which was all ours: its global options become the operator's file, its
/// sites ours. Both mean the same as before, so nothing is loaded.
pub fn migrate(socket: &Path) -> Result<Option<String>, PortError> {
    let Some(old) = fs::read_to_string(CADDYFILE).ok().filter(|text| text.starts_with(OURS)) else { return Ok(None) };
    let (options, sites) = joined::split_global(&old);
    let main = joined::fresh(&admin_text(socket), options, OUR_CADDYFILE);
    disk::replace(Path::new(OUR_CADDYFILE), sites.as_bytes(), 0o644)?;
    write_main(&main)?;
    Ok(Some(format!("moved zexio's sites from {CADDYFILE} to {OUR_CADDYFILE}; {CADDYFILE} is yours and imports them")))
}

fn admin_text(socket: &Path) -> String {
    format!("unix/{}", socket.display())
}

/// Writes the operator's file, through a symlink if it is one, and keeps its owner and mode.
fn write_main(text: &str) -> Result<(), PortError> {
    let path = fs::canonicalize(CADDYFILE).unwrap_or_else(|_| CADDYFILE.into());
    write_like(&path, text, fs::metadata(&path).ok().as_ref())
}

/// Keeps a copy of the operator's file under a free name. An existing identical copy is enough.
fn keep_copy(text: &str) -> Result<Option<PathBuf>, PortError> {
    let names = std::iter::once(String::new()).chain((2..1000).map(|n| format!(".{n}")));
    for name in names {
        let path = PathBuf::from(format!("{CADDYFILE}.before-zexio{name}"));
        match fs::read_to_string(&path) {
            Ok(copy) if copy == text => return Ok(None),
            Ok(_) => {}
            Err(_) => {
                write_like(&path, text, fs::metadata(CADDYFILE).ok().as_ref())?;
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

struct Joining<'a> {
    order: &'a Order<'a>,
    ask: Ask<'a>,
    systemd: Systemd,
    client: Client,
}

/// The operator's file, before and after.
struct Files {
    /// None if there is no file.
    old: Option<String>,
    new: String,
    /// Whether it is still as the distribution shipped it.
    untouched: bool,
    /// What the old file means.
    current: Value,
    /// What the new file means, with ours.
    meant: Value,
}

impl Joining<'_> {
    fn run(&self, unit: &ProxyUnit, done: &mut Vec<String>) -> Result<(), PortError> {
        let runs = is_active(unit);
        let old = match fs::read_to_string(CADDYFILE) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(against(&format!("could not read {CADDYFILE}: {error}; nothing was changed"))),
        };
        let untouched = old.as_ref().is_none_or(|text| joined::is_untouched(text)) && welcome_page_is_untouched();
        let whole = old.as_ref().is_some_and(|text| {
            joined::is_joined(text, OUR_CADDYFILE)
                && joined::option(text, "admin")
                    .is_some_and(|line| line.arguments.first() == Some(&admin_text(self.order.socket)))
        });
        let agreed = untouched || whole || self.order.yes;
        if !agreed && self.ask.is_none() {
            let names = adapt(CADDYFILE, unit.pid).map(|config| config::names(&config)).unwrap_or_default();
            let how = dry_run(self.order.socket).map_or_else(
                |obstacle| obstacle.message,
                |()| {
                    "nothing was changed; `zexio init --yes`, or `zexio init` on a terminal, joins them without a restart"
                        .to_owned()
                },
            );
            done.push(format!("serves {}: {how}", sites(&names, "of its own")));
            return Ok(());
        }
        other_way(&self.systemd, unit, old.is_some()).map_or(Ok(()), |why| Err(stands_against(why)))?;
        if !runs {
            return self.join_stopped(unit, old, untouched, agreed, done);
        }
        let files = self.files(old, untouched, unit.pid)?;
        self.join_running(unit, &files, agreed, done)
    }

    /// Computes the new file and what both mean.
    fn files(&self, old: Option<String>, untouched: bool, pid: u32) -> Result<Files, PortError> {
        let admin = admin_text(self.order.socket);
        let Some(text) = old.clone().filter(|_| !untouched) else {
            let new = joined::fresh(&admin, None, OUR_CADDYFILE);
            let current = old.as_ref().map(|_| adapt(CADDYFILE, pid)).transpose().ok().flatten().unwrap_or_default();
            let meant = adapt_draft(&new, pid).map_err(|said| self.refused(&said, pid))?;
            return Ok(Files { old, new, untouched, current, meant });
        };
        let current =
            adapt(CADDYFILE, pid).map_err(|said| against(&format!("{}; nothing was changed", invalid(&said))))?;
        if Admin::of(&current).is_none() && !self.order.restart {
            let place = theirs(pid).admin_off().unwrap_or_else(|| CADDYFILE.to_owned());
            return Err(stands_against(without_admin(&place)));
        }
        if let Some(line) = joined::pattern_of_ours(&text, OUR_CADDYFILE) {
            return Err(against(&format!(
                "`import {}` in line {} of {CADDYFILE} takes {OUR_CADDYFILE} in as well, and its sites would be there twice: \
                 move your files into a directory of their own, like `import sites/*`; nothing was changed",
                line.arguments.concat(),
                line.number
            )));
        }
        let mut new = joined::with_import(&text, OUR_CADDYFILE);
        let mut meant = adapt_draft(&new, pid);
        if meant.as_ref().map_or(true, |meant| Admin::of(meant) != Some(Admin::Socket(self.order.socket.into()))) {
            new = joined::with_admin(&new, &admin);
            meant = adapt_draft(&new, pid);
        }
        let meant = meant.map_err(|said| self.refused(&said, pid))?;
        let lost = config::lost(&current, &meant);
        if !lost.is_empty() {
            return Err(against(&format!(
                "{} would not be served with zexio's file; nothing was changed",
                lost.join(", ")
            )));
        }
        Ok(Files { old, new, untouched, current, meant })
    }

    fn refused(&self, said: &str, pid: u32) -> PortError {
        let said = without_drafts(said);
        if let Some((_, place)) = theirs(pid).ambiguous_site(&said) {
            return against(&format!(
                "{said}: it is in {place} and in {OUR_CADDYFILE}; one of them has to go; nothing was changed"
            ));
        }
        if said.contains("global") && said.contains("first") {
            return against(&format!(
                "the global options of {CADDYFILE} come from a file that it imports: write `admin {}` into them there, \
                 `systemctl reload caddy`, and `zexio init --yes` again; nothing was changed",
                admin_text(self.order.socket)
            ));
        }
        against(&format!("{}; nothing was changed", invalid(&said)))
    }

    fn join_running(
        &self,
        unit: &ProxyUnit,
        files: &Files,
        agreed: bool,
        done: &mut Vec<String>,
    ) -> Result<(), PortError> {
        let Some((admin, live)) = self.endpoint(&files.current) else {
            if !self.order.restart {
                return Err(against(NO_ENDPOINT));
            }
            self.agree(files, agreed)?;
            self.write(files, done)?;
            return self.restart(files, done);
        };
        if files.old.as_ref() == Some(&files.new) && live == files.meant {
            done.push(format!("{CADDYFILE} and {OUR_CADDYFILE} are joined already"));
            return self.enable(unit);
        }
        self.no_edit_waits(files, &live, unit.pid)?;
        self.agree(files, agreed)?;
        self.client.load(&admin, &files.meant).map_err(|error| {
            against(&format!("Caddy could not load the new routes: {}; nothing was changed", error.message))
        })?;
        let socket = Admin::Socket(self.order.socket.into());
        let back = |cause: String| {
            let _ = self.client.load(&socket, &live).or_else(|_| self.client.load(&admin, &live));
            against(&format!("{cause}; Caddy serves again what it served before"))
        };
        let after = self.wait_for(&socket).map_err(|error| back(error.message))?;
        let lost = config::lost(&live, &after);
        if !lost.is_empty() && !files.untouched {
            return Err(back(format!("{} would not be served with zexio's file", lost.join(", "))));
        }
        self.write(files, done).map_err(|error| back(error.message))?;
        // Read as Caddy's own user, which is how Caddy starts with it.
        if let Err(error) = self.client.adapt(&socket, &format!("import {CADDYFILE}\n")) {
            if let Some(old) = &files.old {
                write_main(old)?;
            }
            return Err(back(invalid(&error.message)));
        }
        done.push("loaded both; Caddy was not restarted".to_owned());
        self.enable(unit)
    }

    /// Refuses to load over live configuration of the operator's that their file does not contain.
    fn no_edit_waits(&self, files: &Files, live: &Value, pid: u32) -> Result<(), PortError> {
        if files.untouched || *live == files.current {
            return Ok(());
        }
        let ours = adapt(OUR_CADDYFILE, pid).unwrap_or_default();
        let mut changes = config::foreign_changes(live, &files.meant, [&ours, &ours]);
        changes.extend(config::lost(live, &files.meant));
        if changes.is_empty() {
            return Ok(());
        }
        changes.sort();
        changes.dedup();
        Err(against(&format!(
            "Caddy serves {} in another way than {CADDYFILE} says: it was edited and is not loaded, or another configuration \
             was; `systemctl reload caddy` loads it, then `zexio init --yes`; nothing was changed",
            changes.join(", ")
        )))
    }

    /// Caddy does not run, so nothing is served. It is first started with its own configuration: with its environment
    /// it can adapt the file.
    fn join_stopped(
        &self,
        unit: &ProxyUnit,
        old: Option<String>,
        untouched: bool,
        agreed: bool,
        done: &mut Vec<String>,
    ) -> Result<(), PortError> {
        if !untouched {
            let files =
                Files { old: old.clone(), new: String::new(), untouched, current: Value::Null, meant: Value::Null };
            self.agree(&files, agreed)?;
            self.systemd.start_proxy()?;
            let unit = self.settled()?;
            if is_active(&unit) {
                other_way(&self.systemd, &unit, true).map_or(Ok(()), |why| Err(stands_against(why)))?;
                let files = self.files(old, untouched, unit.pid)?;
                return self.join_running(&unit, &files, true, done);
            }
            return Err(against(&format!(
                "caddy.service does not start with {CADDYFILE} as it is: `journalctl -u caddy` says why{}; nothing was changed",
                [80, 443].into_iter().filter_map(taken).map(|who| format!("; {who}")).collect::<String>()
            )));
        }
        let files = self.files(old, untouched, 0)?;
        self.write(&files, done)?;
        self.systemd.start_proxy()?;
        self.wait_for(&Admin::Socket(self.order.socket.into()))?;
        done.push("started caddy.service".to_owned());
        self.enable(unit)
    }

    /// Waits until Caddy has started or failed.
    fn settled(&self) -> Result<ProxyUnit, PortError> {
        let began = Instant::now();
        loop {
            let unit = self.systemd.proxy_unit()?;
            if !["activating", "inactive"].contains(&unit.state.as_str()) || began.elapsed() > TIMEOUT {
                return Ok(unit);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn agree(&self, files: &Files, agreed: bool) -> Result<(), PortError> {
        if agreed {
            return Ok(());
        }
        let names = config::names(&files.current);
        let stay = if names.len() == 1 { "It stays as it is" } else { "They stay as they are" };
        let notes: String = self.notes(files).into_iter().map(|note| format!("{note}\n")).collect();
        let question = format!(
            "Caddy serves {}. {stay}; two lines go into {CADDYFILE}:\n\tadmin {}\n\timport {OUR_CADDYFILE}\n{notes}Go on? [Y/n]",
            sites(&names, "here"),
            admin_text(self.order.socket)
        );
        match self.ask.is_some_and(|ask| ask(&question)) {
            true => Ok(()),
            false => Err(against("nothing was changed")),
        }
    }

    /// Names the operator's global options that apply to our sites too.
    fn notes(&self, files: &Files) -> Vec<String> {
        let text = files.old.as_deref().unwrap_or_default();
        let found = SHARED_OPTIONS.iter().filter_map(|name| Some((name, joined::option(text, name)?)));
        found
            .map(|(name, line)| {
                let option = [&[(*name).to_owned()], line.arguments.as_slice()].concat().join(" ");
                format!("`{option}` in line {} of {CADDYFILE} holds for zexio's hosts too", line.number)
            })
            .collect()
    }

    /// Finds where Caddy answers, and what it serves.
    fn endpoint(&self, current: &Value) -> Option<(Admin, Value)> {
        let socket = Admin::Socket(self.order.socket.into());
        let places = [Some(socket), Admin::of(current), Some(Admin::Address(config::DEFAULT_ADMIN.to_owned()))];
        // Only if Caddy listens there: any user of this machine could.
        let is_caddys =
            |admin: &Admin| admin.port().is_none_or(|port| listener::on_port(port, CGROUP) == Listener::Ours);
        let mut places = places.into_iter().flatten().filter(is_caddys);
        places.find_map(|admin| self.client.live(&admin).ok().map(|live| (admin, live)))
    }

    fn wait_for(&self, admin: &Admin) -> Result<Value, PortError> {
        let began = Instant::now();
        loop {
            match self.client.live(admin) {
                Err(_) if began.elapsed() < TIMEOUT => thread::sleep(Duration::from_millis(50)),
                answer => return answer,
            }
        }
    }

    fn write(&self, files: &Files, done: &mut Vec<String>) -> Result<(), PortError> {
        if files.old.as_ref() == Some(&files.new) {
            return Ok(());
        }
        if let Some(old) = &files.old {
            let copy = keep_copy(old)?;
            done.extend(copy.map(|copy| format!("kept a copy of {CADDYFILE} as {}", copy.display())));
        }
        write_main(&files.new)?;
        done.push(match files.untouched {
            true => format!("wrote {CADDYFILE}: it is yours, and sites of your own go there"),
            false => format!(
                "added the lines `admin {}` and `import {OUR_CADDYFILE}` to {CADDYFILE}",
                admin_text(self.order.socket)
            ),
        });
        done.extend(self.notes(files));
        Ok(())
    }

    fn restart(&self, files: &Files, done: &mut Vec<String>) -> Result<(), PortError> {
        self.systemd.restart_proxy()?;
        let after = self.wait_for(&Admin::Socket(self.order.socket.into()));
        let lost = after
            .as_ref()
            .map_or_else(|error| vec![error.message.clone()], |after| config::lost(&files.current, after));
        if lost.is_empty() {
            done.push("restarted caddy.service".to_owned());
            return Ok(());
        }
        if let Some(old) = &files.old {
            write_main(old)?;
        }
        self.systemd.restart_proxy()?;
        Err(against(&format!("{}: {CADDYFILE} is as it was, and Caddy was restarted with it", lost.join(", "))))
    }

    fn enable(&self, unit: &ProxyUnit) -> Result<(), PortError> {
        if unit.file == "disabled" { self.systemd.enable_named("caddy.service") } else { Ok(()) }
    }
}

fn is_active(unit: &ProxyUnit) -> bool {
    ["active", "reloading"].contains(&unit.state.as_str())
}

/// What prevents joining, and what to do about it.
pub type Obstacle = (String, String);

fn stands_against((what, mend): Obstacle) -> PortError {
    against(&format!("{what}; {mend}; nothing was changed"))
}

/// Checks whether `zexio init --yes` would join our Caddyfile to the operator's; changes nothing. A stopped Caddy
/// cannot be checked before it is started.
///
/// # Errors
/// The obstacle.
pub fn dry_run(socket: &Path) -> Result<(), PortError> {
    let systemd = Systemd::default();
    let unit = systemd.proxy_unit()?;
    let order = Order { socket, ours: "", yes: true, restart: false, behind: false };
    let old = fs::read_to_string(CADDYFILE).ok();
    if let Some(obstacle) = other_way(&systemd, &unit, old.is_some()) {
        return Err(stands_against(obstacle));
    }
    if !is_active(&unit) {
        return Ok(());
    }
    let untouched = old.as_ref().is_none_or(|text| joined::is_untouched(text)) && welcome_page_is_untouched();
    let joining = Joining { order: &order, ask: None, systemd, client: Client::new().map_err(|e| against(&e))? };
    let files = joining.files(old, untouched, unit.pid)?;
    match joining.endpoint(&files.current) {
        Some((_, live)) => joining.no_edit_waits(&files, &live, unit.pid),
        None => Err(against(NO_ENDPOINT)),
    }
}

/// Finds an obvious reason for `zexio init` to refuse to join our Caddyfile to the operator's.
pub fn obstacle(theirs: &Theirs) -> Option<Obstacle> {
    let systemd = Systemd::default();
    let unit = systemd.proxy_unit().ok();
    unit.and_then(|unit| other_way(&systemd, &unit, true)).or_else(|| admin_off(theirs))
}

/// Finds where the operator's files switch Caddy's admin endpoint off.
pub fn admin_off(theirs: &Theirs) -> Option<Obstacle> {
    theirs.admin_off().map(|place| without_admin(&place))
}

fn without_admin(place: &str) -> Obstacle {
    let place = if place.starts_with("line") { format!("in {place}") } else { format!("of {place}") };
    (
        format!("`admin off` {place} leaves no way to load routes without a restart"),
        "`zexio init --yes --restart-caddy` replaces it (about 0.1 s without an answer)".to_owned(),
    )
}

/// Detects a Caddy that would not start with the Caddyfile.
fn other_way(systemd: &Systemd, unit: &ProxyUnit, there: bool) -> Option<Obstacle> {
    let mend = format!(
        "write every site that Caddy serves now into {CADDYFILE}, since what stands elsewhere is gone after this; then let caddy.service run `caddy run --config {CADDYFILE}`, then `zexio init --yes`"
    );
    if systemd.unit_words("caddy-api.service").is_ok_and(|(state, _)| state == "active") {
        let what =
            "caddy-api.service runs Caddy without a Caddyfile, and what is loaded into it is not zexio's to change";
        return Some((what.to_owned(), mend));
    }
    if !is_active(unit) {
        return None;
    }
    let command = fs::read(format!("/proc/{}/cmdline", unit.pid)).unwrap_or_default();
    let words: Vec<String> =
        command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let with_file = words.iter().any(|word| word.trim_start_matches("--config=") == CADDYFILE);
    if !with_file || words.iter().any(|word| word == "--resume" || word == "-resume") {
        let what = format!("Caddy runs as `{}`, and does not come back with {CADDYFILE}", words.join(" ").trim());
        return Some((what, mend));
    }
    (!there).then(|| (format!("Caddy runs, and there is no {CADDYFILE} that says what it serves"), mend))
}

/// Reads the operator's files as the running Caddy does.
fn theirs(pid: u32) -> Theirs {
    Theirs::read(Path::new(CADDYFILE), Path::new(OUR_CADDYFILE), i32::try_from(pid).ok().filter(|pid| *pid > 0))
}

/// Whether the directory of the distribution's welcome page holds that page alone: with other files in it, the
/// Caddyfile that the distribution shipped serves a real site.
fn welcome_page_is_untouched() -> bool {
    let only = fs::read_dir("/usr/share/caddy")
        .map(|entries| entries.flatten().all(|entry| entry.file_name() == "index.html"));
    let output = Command::new("/usr/bin/dpkg").args(["--verify", "caddy"]).env_clear().stdin(Stdio::null()).output();
    let changed =
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("/usr/share/caddy/index.html"));
    only.unwrap_or(true) && !changed
}

/// Adapts a file with the installed Caddy, in the environment of the running one.
fn adapt(path: &str, pid: u32) -> Result<Value, String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok().filter(|bytes| !bytes.is_empty());
    let environment = environment.unwrap_or_else(|| b"HOME=/var/lib/caddy\0PATH=/usr/bin:/bin".to_vec());
    let variables = environment.split(|byte| *byte == 0).filter_map(|pair| {
        use std::os::unix::ffi::OsStrExt;
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((
            std::ffi::OsStr::from_bytes(&pair[..at]).to_owned(),
            std::ffi::OsStr::from_bytes(&pair[at + 1..]).to_owned(),
        ))
    });
    let output = Command::new(PROGRAM)
        .args(["adapt", "--adapter", "caddyfile", "--config", path])
        .current_dir("/")
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("could not run {PROGRAM}: {e}"))?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout)
            .map(|config| config::settled(config, &super::DRAFTS))
            .map_err(|e| format!("could not read what Caddy made of {path}: {e}"));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing").to_owned())
}

fn adapt_draft(text: &str, pid: u32) -> Result<Value, String> {
    write_like(Path::new(DRAFT), text, fs::metadata(CADDYFILE).ok().as_ref()).map_err(|error| error.message)?;
    let meant = adapt(DRAFT, pid);
    let _ = fs::remove_file(DRAFT);
    meant
}
