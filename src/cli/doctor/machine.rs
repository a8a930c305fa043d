//! The machine itself: systemd, cgroups, the clock, the disks.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::{Finding, advice, ok, wrong};
use crate::cli::show::size;
use crate::host::systemd::{ClockSeen, Systemd};
use crate::host::users;
use crate::model::layout::LAUNCHER;
use crate::settings::Settings;

/// The oldest systemd that knows every setting in our units.
const OLDEST_SYSTEMD: u32 = 250;
/// The cgroup controllers that account and limit apps.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Examines the machine.
pub fn findings(settings: &Settings) -> Vec<Finding> {
    let systemd = Systemd::default();
    let mut found = vec![version(systemd.version().map_err(|e| e.message)), cgroups(&controllers())];
    found.push(clock(systemd.clock().map_err(|e| e.message)));
    found.push(unpacker());
    found.push(launcher(Path::new(LAUNCHER).is_file()));
    found.push(boot("zexio-agent.service", &systemd));
    let disks = [settings.root.root().to_path_buf(), PathBuf::from("/etc/zexio")];
    found.extend(disks.iter().filter(|path| path.exists()).map(|path| disk(path)));
    found
}

fn version(asked: Result<String, String>) -> Finding {
    let mend = "the agent needs systemd 250 or newer as process 1: Debian 12, Ubuntu 24.04, RHEL 9 have it";
    match asked {
        Err(cause) => wrong("systemd", cause, mend),
        Ok(version) => match number(&version) {
            Some(number) if number >= OLDEST_SYSTEMD => ok("systemd", version),
            _ => wrong("systemd", format!("{version} is too old"), mend),
        },
    }
}

/// Parses `252.39-1~deb12u2`, `v255`.
fn number(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The machine's cgroup controllers, and their version.
fn controllers() -> (u8, Vec<String>) {
    match fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        Ok(text) => (2, text.split_whitespace().map(str::to_owned).collect()),
        Err(_) => {
            let there = |name: &&str| Path::new("/sys/fs/cgroup").join(name).is_dir();
            (1, CONTROLLERS.into_iter().filter(there).map(str::to_owned).collect())
        }
    }
}

fn cgroups((version, there): &(u8, Vec<String>)) -> Finding {
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !there.iter().any(|found| found == name)).collect();
    match missing.is_empty() {
        true => ok("cgroups", format!("version {version}, with {}", CONTROLLERS.join(", "))),
        false => advice(
            "cgroups",
            format!("version {version}, without {}: limits of these are not held", missing.join(", ")),
            "boot with systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory on the kernel's command line",
        ),
    }
}

fn clock(asked: Result<ClockSeen, String>) -> Finding {
    let install = "install and enable a time service: systemd-timesyncd or chrony";
    let harm = "signatures and certificates fail when the clock is minutes off";
    let seen = match asked {
        Ok(seen) => seen,
        Err(cause) => return advice("clock", cause, install),
    };
    match (seen.synchronised, seen.service) {
        (true, _) => ok("clock", "it is synchronised"),
        (false, Some(unit)) => {
            let name = unit.trim_end_matches(".service");
            let said = format!("{name} runs and has not synchronised yet; {harm}");
            advice(
                "clock",
                said,
                format!("nothing if it just started; else `journalctl -u {name}` says which server it asks"),
            )
        }
        (false, None) if seen.enabled || seen.installed => {
            let said = format!("a time service is installed and does not run; {harm}");
            advice("clock", said, "timedatectl set-ntp true")
        }
        (false, None) => advice("clock", format!("no time service keeps it right; {harm}"), install),
    }
}

fn unpacker() -> Finding {
    match users::find(users::UNPACKER) {
        Ok(Some(_)) => ok("unpacker", format!("user {} is there", users::UNPACKER)),
        Ok(None) => wrong("unpacker", format!("there is no user {}", users::UNPACKER), "zexio init"),
        Err(error) => wrong("unpacker", error.message, "zexio init"),
    }
}

fn launcher(there: bool) -> Finding {
    match there {
        true => ok("launcher", format!("{LAUNCHER} is there; apps are started with it")),
        false => wrong("launcher", format!("{LAUNCHER} is missing, and apps are started with it"), "make install"),
    }
}

/// Tells whether a service starts at boot.
pub fn boot(unit: &str, systemd: &Systemd) -> Finding {
    judge_boot(unit, systemd.unit_words(unit).map_err(|e| e.message))
}

fn judge_boot(unit: &str, words: Result<(String, String), String>) -> Finding {
    let check = "services";
    match words.as_ref().map(|(active, file)| (active.as_str(), file.as_str())) {
        Ok(("active" | "reloading", "enabled" | "static" | "enabled-runtime" | "generated")) => {
            ok(check, format!("{unit} is active and enabled"))
        }
        Ok(("active" | "reloading", _)) => {
            let mend = format!("systemctl enable {unit}");
            advice(check, format!("{unit} is active, but will not come back after a boot"), mend)
        }
        Ok((active, file)) if file.starts_with("masked") => {
            let mend = format!("systemctl unmask {unit} && systemctl enable --now {unit}");
            wrong(check, format!("{unit} is {active}, and masked: nothing can start it"), mend)
        }
        Ok((_, "")) => wrong(check, format!("{unit} is not installed"), "install it, then `zexio init`"),
        Ok((active, _)) => wrong(check, format!("{unit} is {active}"), format!("systemctl enable --now {unit}")),
        Err(cause) => wrong(check, cause.clone(), "systemd has to run, and its D-Bus: systemctl start dbus"),
    }
}

fn disk(path: &Path) -> Finding {
    match statvfs(path) {
        Ok(disk) => {
            let unit = disk.fragment_size();
            let room = Room {
                bytes: disk.blocks().saturating_mul(unit),
                free: disk.blocks_available().saturating_mul(unit),
                inodes: disk.files(),
                inodes_free: disk.files_available(),
            };
            judge_disk(path, &room)
        }
        Err(cause) => wrong("disk", format!("could not look at {}: {cause}", path.display()), "zexio init"),
    }
}

/// The free space of a file system.
struct Room {
    bytes: u64,
    free: u64,
    inodes: u64,
    inodes_free: u64,
}

/// Below this an artifact of usual size does not fit: the agent keeps as much free itself.
const TIGHT: u64 = 256 << 20;

fn judge_disk(path: &Path, room: &Room) -> Finding {
    let Room { bytes, free, inodes, inodes_free } = *room;
    let percent = |free: u64, of: u64| free.saturating_mul(100).checked_div(of).unwrap_or(100);
    let inode_part = percent(inodes_free, inodes);
    let said = format!("{}: {} of {} free, {inode_part} % of the inodes", path.display(), size(free), size(bytes));
    let mend = "remove what is not needed: `journalctl --vacuum-size=200M`, a lower `keep` in specs, old files";
    if free < TIGHT || (inodes > 0 && inodes_free < 1000) {
        wrong("disk", said, mend)
    } else if percent(free, bytes) < 10 || inode_part < 10 {
        advice("disk", said, mend)
    } else {
        ok("disk", said)
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_systemd_is_new_enough_or_named() {
        for (asked, state) in [("252.39-1~deb12u2", State::Ok), ("v255", State::Ok), ("249.11", State::Wrong)] {
            assert_eq!(version(Ok(asked.to_owned())).state, state, "{asked}");
        }
        assert_eq!(version(Err("no bus".to_owned())).state, State::Wrong);
    }

    #[test]
    fn a_clock_is_right_or_it_is_said_who_is_to_set_it() {
        let seen = |synchronised, enabled, installed, service| {
            clock(Ok(ClockSeen { synchronised, enabled, installed, service }))
        };
        assert_eq!(seen(true, false, false, None).state, State::Ok);
        let waiting = seen(false, true, true, Some("systemd-timesyncd.service"));
        assert_eq!(waiting.state, State::Advice);
        assert!(waiting.message.starts_with("systemd-timesyncd runs and has not synchronised yet"));
        assert_eq!(seen(false, false, true, None).mend.unwrap(), "timedatectl set-ntp true");
        assert!(seen(false, false, false, None).mend.unwrap().starts_with("install"));
    }

    #[test]
    fn a_missing_controller_is_named() {
        let of = |names: &[&str]| cgroups(&(1, names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(of(&["memory", "pids", "cpu", "io"]).state, State::Ok);
        assert!(of(&["cpu", "pids"]).message.contains("without memory:"));
    }

    #[test]
    fn a_full_disk_is_wrong_and_one_that_fills_is_to_be_watched() {
        let of = |free: u64, inodes_free: u64| {
            let room = Room { bytes: 100 << 30, free, inodes: 100_000, inodes_free };
            judge_disk(Path::new("/zexio"), &room).state
        };
        assert_eq!(of(50 << 30, 90_000), State::Ok);
        assert_eq!(of(5 << 30, 90_000), State::Advice);
        assert_eq!(of(50 << 30, 9_000), State::Advice);
        assert_eq!(of(100 << 20, 90_000), State::Wrong);
        assert_eq!(of(50 << 30, 10), State::Wrong);
        // btrfs does not count inodes.
        let room = Room { bytes: 100 << 30, free: 50 << 30, inodes: 0, inodes_free: 0 };
        assert_eq!(judge_disk(Path::new("/zexio"), &room).state, State::Ok);
    }

    #[test]
    fn a_service_is_up_and_comes_back_or_it_is_said_how() {
        let of = |active: &str, file: &str| judge_boot("caddy.service", Ok((active.to_owned(), file.to_owned())));
        assert_eq!(of("active", "enabled").state, State::Ok);
        assert_eq!(of("active", "disabled").mend.unwrap(), "systemctl enable caddy.service");
        assert_eq!(of("failed", "enabled").mend.unwrap(), "systemctl enable --now caddy.service");
        assert!(of("inactive", "masked-runtime").mend.unwrap().starts_with("systemctl unmask caddy.service"));
        assert!(of("inactive", "").message.contains("not installed"));
    }
}
