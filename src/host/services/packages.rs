//! The package job of one host service, in a process of its own: the agent starts it in a unit that outlives the agent.
//! Its calls are built in `manager.rs`; it is never interactive.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::model::observed::ServiceSeen;
use crate::model::services::{Service, Version};
use crate::plan::services::{
    AvailablePackage, NO_PACKAGE_MANAGER, PackageJob, Task, VERSION_UNAVAILABLE, choose_package, matching,
};

use super::catalogue::{APT_GET, DNF, Init, Manager, Row, row};
use super::installed::{data_of, installed_now, major_in_name};
use super::manager::{Call, call};

/// Why the job failed.
struct Failed {
    status: i32,
    message: String,
}

impl Failed {
    fn passing(message: impl Into<String>) -> Self {
        Self { status: 1, message: message.into() }
    }
}

/// Runs the job, and reports progress and failure on standard error and to systemd.
pub fn main(order: &PackageJob) -> ExitCode {
    let done = match Manager::here() {
        Some(manager) => manager.work(order),
        None => Err(Failed {
            status: NO_PACKAGE_MANAGER,
            message: format!("there is neither {APT_GET} nor {DNF} here, and zexio knows no other package manager"),
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { status, message }) => {
            tell(&message);
            ExitCode::from(u8::try_from(status).unwrap_or(1))
        }
    }
}

/// Reports progress: systemd keeps the last status text with the unit.
fn tell(what: &str) {
    eprintln!("{what}");
    // Without systemd there is nothing to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(what)]);
}

impl Manager {
    fn work(self, order: &PackageJob) -> Result<(), Failed> {
        match &order.task {
            Task::Install(version) => self.install(order.service, *version),
            Task::Remove { majors, purge } => {
                let majors: Vec<u32> = majors.iter().copied().collect();
                self.remove(order.service, &majors, *purge)
            }
        }
    }

    fn install(self, service: Service, version: Version) -> Result<(), Failed> {
        self.heal();
        let offer = self.find(service, version)?;
        tell(&format!("installing {service} {}", offer.exact));
        let row = row(service, self);
        if let Err(failed) = run_all(&self.install_calls(&row, version, &offer)) {
            // The lists may name files that the mirror has replaced since.
            tell(&format!("{}; tries again with new package lists", failed.message));
            self.update()?;
            let offer = self.find(service, version)?;
            run_all(&self.install_calls(&row, version, &offer))?;
        }
        init_data(&row)?;
        let seen = ServiceSeen { installed: installed_now(service), ..ServiceSeen::default() };
        match matching(service, version, &seen) {
            Some(found) => {
                tell(&format!("{service} {} is installed", found.version));
                Ok(())
            }
            None => Err(Failed::passing(format!(
                "the package manager says it is done, but {service} {} does not answer to --version",
                version.shown(service)
            ))),
        }
    }

    /// Finishes an interrupted run. What cannot be finished is reported by the next steps.
    fn heal(self) {
        for call in self.heal_calls() {
            tell("finishing what an earlier run may have left behind");
            if let Err(failed) = run(&call) {
                eprintln!("{}", failed.message);
            }
        }
    }

    /// Finds the package to install; updates the package lists if the old ones do not have it.
    fn find(self, service: Service, version: Version) -> Result<AvailablePackage, Failed> {
        tell(&format!("looking for {service} {}", version.shown(service)));
        if let Ok(offer) = choose_package(service, version, &self.offers(service, version)?) {
            return Ok(offer.clone());
        }
        let updated = self.update();
        choose_package(service, version, &self.offers(service, version)?).cloned().map_err(|message| match updated {
            Ok(()) => Failed { status: VERSION_UNAVAILABLE, message },
            Err(failed) => failed,
        })
    }

    fn update(self) -> Result<(), Failed> {
        tell("updating the package lists");
        run(&self.update_call())
    }

    fn offers(self, service: Service, version: Version) -> Result<Vec<AvailablePackage>, Failed> {
        let row = row(service, self);
        let listed = self.list_calls(&row, version).iter().map(output).collect::<Result<Vec<String>, Failed>>()?;
        Ok(listed.iter().flat_map(|text| self.read_offers(&row, text)).collect())
    }

    fn remove(self, service: Service, majors: &[u32], purge: bool) -> Result<(), Failed> {
        self.heal();
        tell(&format!("removing {service}"));
        run_all(&self.remove_calls(&row(service, self), majors, purge))?;
        if purge {
            remove_data(service, majors)?;
        }
        let left = installed_now(service).into_keys().find(|major| majors.contains(major));
        left.map_or(Ok(()), |major| {
            Err(Failed::passing(format!("the package manager says it is done, but {service} {major} is still there")))
        })
    }
}

fn init_data(row: &Row) -> Result<(), Failed> {
    match row.init {
        Some(Init { made, program, args }) if !Path::new(made).exists() => run(&call(program, args)),
        Some(_) | None => Ok(()),
    }
}

/// Removes the data that the package manager leaves, of these majors or of all. The directories stay: Debian's
/// /var/lib/redis is created by a package that stays too, and without it redis would not start the next time.
fn remove_data(service: Service, majors: &[u32]) -> Result<(), Failed> {
    let ours = |dir: &Path| majors.is_empty() || major_in_name(dir).is_none_or(|major| majors.contains(&major));
    for dir in data_of(service).iter().filter(|dir| ours(dir)) {
        empty(dir).map_err(|e| Failed::passing(format!("could not remove what is in {}: {e}", dir.display())))?;
    }
    Ok(())
}

fn empty(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // Links are not followed: the type is that of the entry itself.
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

fn run_all(calls: &[Call]) -> Result<(), Failed> {
    calls.iter().try_for_each(run)
}

fn prepared(call: &Call) -> Command {
    let mut command = Command::new(call.program);
    command.args(&call.args).env_clear().stdin(Stdio::null()).envs([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBIAN_PRIORITY", "critical"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        // Which other daemons run with old libraries is left to the operator; we do not restart them.
        ("NEEDRESTART_MODE", "l"),
    ]);
    command
}

/// Runs a program to its end; passes its output to our own, and its progress to systemd.
fn run(call: &Call) -> Result<(), Failed> {
    let failed = |cause: String| Failed::passing(format!("could not {}: {cause}", call.shown()));
    let child = prepared(call).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| failed(e.to_string()))?;
    let (steps, complaints) = (child.stdout.take(), child.stderr.take());
    let said = std::thread::scope(|scope| {
        // Both pipes at once: a program blocks on a full pipe that is not read.
        scope.spawn(|| steps.map(|steps| show_steps(BufReader::new(steps))));
        complaints.map(|complaints| pass_on(BufReader::new(complaints))).unwrap_or_default()
    });
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(if said.is_empty() { status.to_string() } else { said })) }
}

/// How often progress is reported: each report triggers an observation, and is kept as an event.
const STEP: Duration = Duration::from_secs(1);

/// Passes lines on, and reports one per second.
fn show_steps(lines: impl BufRead) {
    let mut told = None;
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() || told.is_some_and(|told: Instant| told.elapsed() < STEP) {
            eprintln!("{line}");
        } else {
            tell(&line);
            told = Some(Instant::now());
        }
    }
}

/// Passes lines on; returns the error lines, or the last line if none is marked as an error.
fn pass_on(lines: impl BufRead) -> String {
    let (mut complaints, mut last) = (Vec::new(), String::new());
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        eprintln!("{line}");
        complaints.extend(line.strip_prefix("E: ").or_else(|| line.strip_prefix("Error: ")).map(str::to_owned));
        if !line.trim().is_empty() {
            last = line;
        }
    }
    match complaints.as_slice() {
        [] => last,
        [first, rest @ ..] if rest.len() > 1 => format!("{first}; and {} more complaints", rest.len()),
        few => few.join("; "),
    }
}

/// Returns a program's output.
fn output(call: &Call) -> Result<String, Failed> {
    let done = prepared(call).stderr(Stdio::null()).output();
    let done = done.map_err(|e| Failed::passing(format!("could not {}: {e}", call.shown())))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_complains_of_is_what_is_told() {
        let said = "Reading\nE: Could not get lock /var/lib/dpkg/lock\nE: Unable to lock\n";
        assert_eq!(pass_on(said.as_bytes()), "Could not get lock /var/lib/dpkg/lock; Unable to lock");
        assert_eq!(pass_on("one\ntwo\n\n".as_bytes()), "two");
        assert_eq!(pass_on("E: a\nE: b\nE: c\n".as_bytes()), "a; and 2 more complaints");
    }
}
