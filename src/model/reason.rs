//! Every reason that a condition, an event, a backoff or an error can have: its name on the wire, its meaning and its
//! fix. `docs/operations.md`, the API's description and `zexio why` are made from this one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! reasons {
    ($($group:literal { $($name:ident: $means:literal => $mend:literal,)+ })+) => {
        /// Why something is in its state, was done, or could not be done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $means] $name,)+)+
        }

        impl Reason {
            /// All reasons, in groups with a heading.
            pub const GROUPS: &[(&str, &[Self])] = &[$(($group, &[$(Self::$name),+])),+];

            /// Returns its name on the wire.
            pub fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)+)+ }
            }

            /// Returns whether the serving release fails with it: visitors or jobs feel it now, whatever else a project
            /// waits for.
            pub fn is_outage(self) -> bool {
                matches!(self, Self::ProcessDown | Self::OutOfMemory | Self::RouteFailing)
            }

            /// Returns what it means.
            pub fn meaning(self) -> &'static str {
                match self { $($(Self::$name => $means,)+)+ }
            }

            /// Returns what fixes it; "Nothing." if nothing is wrong.
            pub fn mending(self) -> &'static str {
                match self { $($(Self::$name => $mend,)+)+ }
            }
        }
    };
}

reasons! {
    "On its way: nothing to do but wait." {
        Pending: "No pass has observed it yet, or no spec was accepted."
            => "It continues by itself within seconds.",
        Fetching: "The artifact is coming; the message says how much of it is there. Or a webhook named it and the \
            server does not have it yet (403, 404): then it is tried again for 30 minutes, and the message says \
            until when."
            => "Wait; `zexio sync PROJECT` tries at once.",
        Unpacking: "The artifact is being checked and unpacked."
            => "Wait.",
        Queued: "Starts of other projects go first: a few at a time are done sooner than all at once."
            => "Wait; the message says how many are before it.",
        Trial: "The new release runs, and has to prove itself before it gets traffic."
            => "Wait; the message says what is not ready.",
        Serving: "All is well."
            => "Nothing.",
        Draining: "The old release finishes its requests."
            => "Wait; `deploy.drain` says how long at most.",
        Deleting: "Routes, processes and files are being removed."
            => "Wait.",
        Suspended: "The agent watches and changes nothing; the message says by whom, why and until when."
            => "`zexio resume PROJECT`, or take `suspend` out of the spec, or wait.",
    }
    "The release: the last good one serves on." {
        HealthCheckFailed: "A process ended too often, or was not ready within `ready.within`."
            => "`zexio logs PROJECT --release N`; mend the app, deploy again.",
        ReleaseCommandFailed: "The release command ended badly or took longer than its timeout."
            => "`zexio logs PROJECT --process release`; mend it, deploy again. It runs again with the next release.",
        ScheduleRefused: "systemd does not understand a `schedule`, one of a spec written before schedules were \
            checked."
            => "`systemd-analyze calendar 'EXPRESSION'` says what is wrong with it.",
        RouteCheck: "A release just got the traffic, and Caddy is asked for its routes once."
            => "It continues by itself within seconds.",
        VerifyFailed: "The release had the traffic, and `deploy.verify` got no good answer through Caddy in time. \
            The traffic went back."
            => "The message has the answer; `zexio why PROJECT` has all of them. Mend the app or the path, deploy \
                again.",
        RouteFailing: "Caddy gets no answer from the app of a route, so visitors see a 502. It is asked again every \
            few seconds; `--wait` ends if it stays so for 15 s."
            => "The message says what the app does instead: `h2c: true` for gRPC, or mend the app; roll back if the \
                release is bad.",
        DeadlineExceeded: "The rollout took longer than `deploy.deadline`."
            => "The message says what it waited for. Mend that, or allow more time.",
        OutOfMemory: "The kernel killed a process of the serving release for want of memory; the message has its \
            limit. Where cgroups are of version 1 the machine does not say so, and it is a `ProcessDown` by signal \
            9."
            => "A higher `limits.memory`, or an app that uses less. `zexio why PROJECT` still shows it when the \
                process is back.",
        ProcessDown: "A process of the serving release does not run; systemd starts it again and again. One that \
            ended three times in a row counts as up once it has run three times as long as before, 30 s to 10 min."
            => "`zexio logs PROJECT`; roll back if the release is bad.",
        JobFailed: "A run of a process with a `schedule` ended badly; the event has how. The project stays Ready, \
            and its message, `zexio status` and `zexio why` say it until a run succeeds."
            => "`zexio logs PROJECT --process web`; it runs again by its schedule.",
        ReleaseUnknown: "`artifact.release` or a rollback names a release that is not kept or was never healthy."
            => "Take one that `zexio history PROJECT` shows as good.",
        Replaced: "In the history: a newer release took over."
            => "Nothing.",
        Superseded: "In the history: another release was asked for before this one was done."
            => "Nothing.",
    }
    "The artifact: what may pass is tried again, after 5 s at first and every 5 min at last." {
        ArtifactFailed: "It could not be fetched or unpacked; the message has the cause."
            => "Mend the server or the artifact, then `zexio sync PROJECT`, or deliver the webhook again. An \
                archive holds files, directories and links within itself or to `/usr/bin`, nothing else. Also: a \
                program or directory that a process names is not in it; the message says what is.",
        HashMismatch: "Its bytes do not hash to `artifact.sha256`."
            => "Write down the right hash, or find out who changed the artifact.",
        ArtifactTooLarge: "It has more than `artifacts.max_bytes` bytes."
            => "Make it smaller, or raise the limit in `agent.yaml`.",
        ArtifactTooSlow: "Less than 10 KiB/s came over a minute, or nothing for a while."
            => "It is tried again. Look at the server that has it.",
        UrlForbidden: "The URL is not one that may be fetched: plain HTTP, user info, or outside of `artifacts.allow`."
            => "Use an `https` URL, or allow its prefix in `agent.yaml`.",
        AddressForbidden: "The URL leads to a private address."
            => "Allow its prefix with `artifacts.allow` in `agent.yaml`, if it is meant.",
        Interrupted: "The fetch was cancelled, since the release is no longer wanted."
            => "Nothing.",
        ReleaseExists: "Something else is in the place of the release's directory."
            => "Look into `/zexio/apps/PROJECT/releases`; move away what is not a release.",
        HelperFailed: "The unprivileged unpack helper could not be run."
            => "`zexio init` makes its user. The message has the cause.",
    }
    "What is wanted: nothing is changed until it is clear." {
        SpecInvalid: "The file in the watched directory cannot be used; the last good spec holds."
            => "The message names the line. Try with `zexio validate FILE`.",
        PruneRefused: "The project's file is gone, but so are others, or the whole directory, or with it a file \
            came that cannot be read and may be it under a new name: nothing is removed."
            => "Restore the files or mend the one that the message names, or confirm with `zexio sync --prune`.",
        Conflict: "A host of this project belongs to another one, or another file claims the project, which a file \
            or the API has; the first keeps it and goes on."
            => "Take the host away from one of them, or remove the file that the message names.",
        SecretMissing: "A secret that the spec names has no value."
            => "`zexio secret set PROJECT NAME`",
        PortsExhausted: "No port is free in the agent's range."
            => "Widen `ports` in `agent.yaml`.",
    }
    "Host services: of each service, in `zexio service list`." {
        NotInstalled: "It is not installed, and not asked for."
            => "`zexio service install SERVICE`, if it is wanted.",
        Unmanaged: "It is installed, but was not asked for through zexio: it is left alone."
            => "Nothing.",
        Installing: "The package manager is at work; the message says how far."
            => "Wait.",
        Removing: "The package manager is at work."
            => "Wait.",
        Installed: "It is installed as asked for."
            => "Nothing.",
        Starting: "Its daemon is starting."
            => "Wait.",
        Running: "Its daemon runs, now and after a boot."
            => "Nothing.",
        VersionUnavailable: "The package manager does not offer this version; the message says which it does."
            => "Ask for one of those, or add a package source that has it. It is looked for again every 10 min.",
        PackagesFailed: "The package manager ended badly; the message, `evidence` and the event have its words."
            => "Mend what it names: the network, a lock, a broken package. It is tried again.",
        ServiceDown: "Its daemon does not stay up; it is started again and again."
            => "`journalctl -u UNIT`; the message names the unit.",
        NoPackageManager: "There is neither apt-get nor dnf."
            => "Install the service by hand: it need not be zexio's.",
        DependencyMissing: "Of a project: the service that it `needs` does not run. The rollout waits; what serves \
            goes on."
            => "`zexio service install SERVICE`, or see why it fails there.",
    }
    "The machine: it is tried again until it works." {
        RoutePending: "The app runs, and Caddy does not have its routes yet: it does not answer, its Caddyfile does \
            not import zexio's, or was edited and is not loaded. A project's own hosts count, not those of others."
            => "Passes by itself once Caddy answers: `systemctl status caddy`. Else `zexio init`, or `systemctl \
                reload caddy`, as the message says. Where your edit has a host that zexio serves, the message names \
                file and line: the host is served on by zexio, and new routes follow once it is gone from one of \
                both.",
        RouteRefused: "Caddy did not take the routes, or would not do what they say; it serves on as before. Hosts \
            that it refuses alone are named and left out, the project's others hold."
            => "The message has Caddy's words, and the file and line where your Caddyfile, or a file that it \
                imports, is at fault; with the next change of it, of the template or of the spec the host is \
                offered again, by `zexio sync`, and after ten minutes. Else look at `/etc/zexio/Caddyfile.tmpl`.",
        ProxyDown: "Caddy does not run, or does not answer on its admin socket."
            => "`systemctl status caddy`; after an installation by hand, `zexio init`.",
        Unknown: "systemd could not be asked; what is shown may be old."
            => "`systemctl status dbus`; the agent asks again.",
        Systemd: "systemd refused a request."
            => "The message has its words.",
        UnitTampered: "systemd reads the unit differently from how it was written: there is a drop-in for it."
            => "`systemctl cat UNIT`; remove what is not zexio's, and apply the spec again.",
        CredentialFailed: "The command and its variables could not be sealed for the app's unit."
            => "The message has the cause; it is tried again by itself.",
        UserFailed: "The app's user could not be made or removed."
            => "The message has `useradd`'s words.",
        DiskFull: "No room, or no inodes. The agent leaves 256 MiB free for what runs, so a small artifact is \
            refused as well."
            => "Make room: a smaller `keep`, old artifacts in `/zexio/artifacts`. It is tried again by itself.",
        DiskFailed: "A file or directory could not be written."
            => "The message says which and why.",
        ReadOnly: "The database's file system is read-only."
            => "Mend the disk and mount it for writing; the apps keep running.",
        Database: "SQLite refused, or holds something that does not read back. If that is one project's, this \
            project alone is Stalled: its processes run on, nothing of it is changed, and what is stored is not \
            overwritten. While it is the progress of a project with routes, Caddy keeps the routes that it has."
            => "The message has its words. Run the agent that wrote it, or restore `/zexio/zexio.db` from a backup. \
                A spec that could not be read is replaced by a whole one (`zexio apply`); progress that could not \
                be read goes with `zexio delete`.",
        KeyUnavailable: "A stored value cannot be opened with this master key."
            => "Put the right `/etc/zexio/master.key` back, or store the values again.",
        JournalFailed: "The log could not be read."
            => "`systemctl status systemd-journald`",
        Internal: "The agent contradicts itself."
            => "Report it, with the agent's log.",
    }
    "Events only: what was asked for, and by whom. Nothing to mend." {
        SpecWritten: "A key or a file wrote a spec that differs from the last."
            => "Nothing.",
        ArtifactMoved: "A webhook, or a key that may deploy, asked for another version."
            => "Nothing.",
        RollbackRequested: "A key asked to go back to an earlier release."
            => "Nothing.",
        DeleteRequested: "A key asked for the removal, or the project's file is gone."
            => "Put it again once it is gone; while it is suspended, at once.",
        ServiceRequested: "A key or a file asked for a host service, or for its removal."
            => "Nothing.",
        SecretStored: "A key stored a secret's value; the message has its name and version, never the value."
            => "Nothing.",
        SecretRemoved: "A key removed a secret."
            => "`zexio secret set PROJECT NAME`, if a spec still names it.",
        OwnerChanged: "The project's file has a new name."
            => "Nothing.",
        SuspendRequested: "A key suspended the project."
            => "`zexio resume PROJECT`",
        ResumeRequested: "A key resumed the project."
            => "Nothing.",
        SyncRequested: "A key asked for another try, since the artifact could not be fetched."
            => "Nothing.",
    }
    "Events only: what was decided and done, with the reason of the step." {
        Promoted: "A release has the traffic."
            => "Nothing.",
        Unchanged: "Another address or version was asked for, and the bytes there are those of the serving release: \
            no release is made."
            => "Nothing.",
        Resumed: "The suspension is over, and the agent acts again."
            => "Nothing.",
        ProjectNew: "The project had no user or directory."
            => "Nothing.",
        ReleaseMissing: "A release is wanted that was not on disk."
            => "Nothing. Often: something removes releases from disk.",
        ServiceMissing: "The package manager was set to work for a host service."
            => "Nothing.",
        ServiceUnwanted: "The package manager was set to remove a host service."
            => "Nothing.",
        ServiceGone: "Nothing is left of what was installed of a host service."
            => "Nothing.",
        CandidateWanted: "A release was brought up to be tried."
            => "Nothing.",
        CandidateHealthy: "A release was healthy for long enough and gets the traffic."
            => "Nothing.",
        ServingDamaged: "Something of the serving release was gone or changed, and was put right."
            => "Find out who changed it; `zexio suspend PROJECT` first, to work on it by hand.",
        UnitChanged: "A unit's file was not what systemd had read."
            => "As `ServingDamaged`.",
        Recreate: "With `strategy: recreate`, the process of the old release stopped first."
            => "Nothing.",
        Drained: "The old release had its time to finish."
            => "Nothing.",
        NotWanted: "It belonged to no release that should run."
            => "Nothing.",
        StopForced: "A process was still there when the time of its stop was over, and was killed; the message \
            names it. Its work may be lost."
            => "A longer `stop.within`, or a program that ends on its `stop.signal`.",
        Retention: "Nothing that is kept needed it."
            => "Nothing; `keep` says how many releases stay.",
        ProjectDeleted: "The project is being removed."
            => "Nothing.",
        RoutesDiffer: "Caddy was given the routes that are wanted."
            => "Nothing. Often: another configuration is loaded into Caddy.",
    }
    "Another version of zexio." {
        Unlisted: "A newer or older agent gave a reason that this version of zexio does not have."
            => "The message says it; run the same version here and there.",
    }
}

impl Reason {
    /// Returns all reasons, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::GROUPS.iter().flat_map(|(_, reasons)| reasons.iter().copied())
    }

    /// Returns the reason of this name, if any.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|reason| reason.name() == name)
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::named(name).ok_or_else(|| format!("there is no reason {name:?}; docs/operations.md lists them all"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

// A row or an answer of another version must be readable, whatever its reason: the message beside it explains it.
impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Ok(Self::named(&name).unwrap_or(Self::Unlisted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_back_by_its_name_and_a_foreign_one_is_unlisted() {
        for reason in Reason::all() {
            let text = serde_json::to_string(&reason).unwrap();
            assert_eq!(text, format!("\"{}\"", reason.name()));
            assert_eq!(serde_json::from_str::<Reason>(&text).unwrap(), reason);
        }
        assert_eq!(serde_json::from_str::<Reason>(r#""OfTomorrow""#).unwrap(), Reason::Unlisted);
    }

    #[test]
    fn each_reason_stands_once_and_says_two_sentences() {
        let mut names: Vec<_> = Reason::all().map(Reason::name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for reason in Reason::all() {
            assert!(!reason.meaning().is_empty() && !reason.mending().is_empty(), "{reason}");
            assert!(!reason.meaning().contains('|') && !reason.mending().contains('|'), "{reason}: a table's cell");
        }
    }
}
