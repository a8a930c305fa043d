//! The command line: which verbs there are and what each takes.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::model::names::{KeyId, ProcessName, ProjectId, SecretName};
use crate::model::pattern::Pattern;
use crate::model::quantity::Span;
use crate::model::services::Service;
use crate::model::spec::Label;

/// Makes a server match a written desired state.
#[derive(Debug, Parser)]
#[command(name = "zexio", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Args {
    /// The agent's address, like https://agent.example.com; the local socket if not given
    #[arg(long, global = true, env = "ZEXIO_AGENT", value_name = "URL")]
    pub agent: Option<String>,
    /// The API key to sign with; its file's name is the key's id [default: /etc/zexio/keys/admin]
    #[arg(long, global = true, env = "ZEXIO_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How answers are shown
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For both
    Yaml,
}

/// How long to wait; "--wait" alone means five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Wait {
    /// Wait for the end of the rollout; exit status 3 if it ended other than Ready
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "5m",
          value_parser = Span::parse)]
    pub wait: Option<Span>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Prepare this machine: directories, keys, users, Caddy
    Init {
        /// Add zexio's two lines to a Caddyfile with sites of its own without asking; they stay as they are
        #[arg(long, short)]
        yes: bool,
        /// Restart Caddy where its routes cannot be loaded in another way (`admin off`)
        #[arg(long)]
        restart_caddy: bool,
    },
    /// Run the agent (systemd does this)
    Agent,
    /// Start an app (its unit does this)
    #[command(hide = true)]
    Launch {
        /// It tells systemd when it is ready
        #[arg(long)]
        notify: bool,
    },
    /// Open the launch blob of a unit that starts (it does this)
    #[command(hide = true)]
    HandOver {
        /// The full name of the unit, as in zexio-shop-web-r7.service
        unit: String,
        /// Units without this flag go first when many start at once
        #[arg(long)]
        later: bool,
    },
    /// Wait until nothing else of an app's unit runs (its unit does this)
    #[command(hide = true)]
    WaitForRest,
    /// Unpack an artifact (the agent does this)
    #[command(hide = true)]
    Unpack {
        /// Handed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Install or remove a host service's packages (the agent does this)
    #[command(hide = true)]
    Provision {
        /// What to do
        task: Task,
        /// For which service
        service: Service,
        /// Which version to install
        #[arg(long)]
        version: Option<String>,
        /// Which major to remove
        #[arg(long)]
        major: Vec<u32>,
        /// Remove its data too
        #[arg(long)]
        purge: bool,
    },
    /// Check spec files without an agent
    Validate {
        /// Files, and directories of them
        #[arg(required_unless_present = "more", value_name = "FILE|DIR")]
        files: Vec<PathBuf>,
        /// The same, as `plan` and `apply` take it
        #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-")]
        more: Vec<PathBuf>,
    },
    /// Print the JSON Schema of the spec language, for editors
    Schema,
    /// Show what would be done; exit status 2 if there is anything
    Plan {
        /// Only this project
        #[arg(conflicts_with = "file")]
        project: Option<ProjectId>,
        /// As if this spec were applied
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Write a project's desired state
    Apply {
        /// A spec, a directory of specs, or - for standard input
        #[arg(short, long, value_name = "FILE|DIR|-")]
        file: PathBuf,
        /// Show what would be done and write nothing
        #[arg(long, conflicts_with = "wait")]
        dry_run: bool,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// Show what is wanted and what is there
    Get {
        /// Only this project
        project: Option<ProjectId>,
    },
    /// Show what is there
    Status {
        /// Only this project
        project: Option<ProjectId>,
        /// Show it again every two seconds
        #[arg(long)]
        watch: bool,
    },
    /// Say in a paragraph why a project is as it is
    Why {
        /// The project
        project: ProjectId,
    },
    /// Show a project's log, or the agent's own
    Logs {
        /// The project
        #[arg(required_unless_present = "system")]
        project: Option<ProjectId>,
        /// The agent's own log
        #[arg(long, conflicts_with_all = ["project", "process", "release"])]
        system: bool,
        /// Go on as new lines come
        #[arg(short, long)]
        follow: bool,
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: u32,
        /// Only this process
        #[arg(long)]
        process: Option<ProcessName>,
        /// Only this release
        #[arg(long)]
        release: Option<u32>,
        /// Since this moment, or this long ago: 2026-12-01T08:00:00Z, 10m
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only lines in which this regular expression occurs
        #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse)]
        grep: Option<Pattern>,
    },
    /// Show what the server has and uses: processors, memory, disks
    Stats {
        /// Go on, once a second
        #[arg(long)]
        watch: bool,
        /// Print the agent's metrics as Prometheus reads them, or replace FILE with them in one step
        #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "watch")]
        prometheus: Option<Option<PathBuf>>,
    },
    /// Show what was decided, done and seen
    Events {
        /// Only of this project
        project: Option<ProjectId>,
        /// Go on as new events come
        #[arg(short, long)]
        follow: bool,
        /// How many of the newest
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: u32,
        /// Since this moment, or this long ago: 2026-12-01T08:00:00Z, 10m
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only with this reason
        #[arg(long)]
        reason: Option<String>,
    },
    /// Show a project's releases
    History {
        /// The project
        project: ProjectId,
    },
    /// Send a file or a directory and move a project to it
    Deploy {
        /// The project
        project: ProjectId,
        /// An archive, an executable, or a directory, which is packed on the way
        #[arg(value_name = "PATH|DIR")]
        path: PathBuf,
        /// A label for people
        #[arg(long, value_name = "LABEL", value_parser = |raw: &str| Label::try_from(raw.to_owned()))]
        version: Option<Label>,
        #[command(flatten)]
        /// Whether to wait for the end of the rollout
        wait: Wait,
    },
    /// Go back to an earlier release
    Rollback {
        /// The project
        project: ProjectId,
        /// To this release; the last good one before, if not given
        #[arg(long, value_name = "N")]
        to: Option<u32>,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove a project: routes, processes, releases, secrets and data
    Delete {
        /// The project
        project: ProjectId,
        /// Leave the app's data
        #[arg(long)]
        keep_data: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// Store, list and remove a project's secrets
    #[command(subcommand)]
    Secret(Secret),
    /// Make, list, rotate and revoke the API keys of this machine
    #[command(subcommand)]
    Key(Key),
    /// List, install and remove host services
    #[command(subcommand, about = format!("List, install and remove host services: {}", Service::names()))]
    Service(ServiceVerb),
    /// Watch a project and change nothing of it, whatever its spec says
    Suspend {
        /// The project
        project: ProjectId,
        /// Why, for whoever finds it so
        #[arg(long)]
        reason: Option<String>,
        /// Until when, or for how long: 2026-12-01T08:00:00Z, 2h; until it is resumed, if not given
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Let a suspended project go on
    Resume {
        /// The project
        project: ProjectId,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// Ask for a pass now
    Sync {
        /// Only this project
        project: Option<ProjectId>,
        /// Confirm the removals that were held back
        #[arg(long)]
        prune: bool,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// Check this machine, and say how to mend what is wrong
    Doctor,
    /// Print the X-Signature of a request, for curl
    Sign {
        /// The method
        method: String,
        /// The URL; http://localhost/v1/... for the socket
        url: String,
        /// The file that will be the body
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
        /// The body's type
        #[arg(long, value_name = "TYPE", default_value = "")]
        content_type: String,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory (`make install` does this)
    #[command(hide = true)]
    Man {
        /// The directory
        directory: PathBuf,
    },
    /// Print the version
    Version,
}

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Store a value: from a prompt, from standard input, or from a file; one newline at its end is dropped
    Set {
        /// The project
        project: ProjectId,
        /// The secret's name
        name: SecretName,
        /// Read the value from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// List names and versions; values are never shown
    List {
        /// The project
        project: ProjectId,
    },
    /// Remove a secret
    Rm {
        /// The project
        project: ProjectId,
        /// The secret's name
        name: SecretName,
    },
}

/// What the package manager can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// Install
    Install,
    /// Remove
    Remove,
}

/// What can be done with host services.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// List them: what is wanted, what is there
    List,
    /// Ask for one
    Install {
        /// The service
        #[arg(help = format!("One of {}", Service::names()))]
        service: Service,
        /// A major, or lts: of nodejs the newest even one, of the others the distribution's own
        #[arg(long, value_name = "V")]
        version: Option<String>,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
    /// Ask for one to be gone; its data stays
    Remove {
        /// The service
        #[arg(help = format!("One of {}", Service::names()))]
        service: Service,
        /// Remove its data too
        #[arg(long)]
        purge: bool,
        /// How long to wait.
        #[command(flatten)]
        wait: Wait,
    },
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key and print it, this once
    Add {
        /// The key's id
        kid: KeyId,
        /// What it may do: admin, read or deploy:<project>
        #[arg(long, value_parser = crate::keys::Scope::parse)]
        scope: crate::keys::Scope,
    },
    /// List the keys and what each may do
    List,
    /// Give a key new bytes and print them, this once; the old ones are refused at once
    Rotate {
        /// The key's id
        kid: KeyId,
    },
    /// Revoke a key, at once
    Revoke {
        /// The key's id
        kid: KeyId,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::try_parse_from(line.split(' ')).map_err(|e| e.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_verb_of_the_contract_is_read() {
        for line in [
            "zexio init",
            "zexio agent",
            "zexio launch",
            "zexio wait-for-rest",
            "zexio unpack --from 3 -x",
            "zexio validate a.yaml b.yaml",
            "zexio plan",
            "zexio plan shop",
            "zexio plan -f shop.yaml",
            "zexio apply -f -",
            "zexio apply -f shop.yaml --wait",
            "zexio apply -f shop.yaml --wait=30s -o json",
            "zexio apply -f specs --dry-run",
            "zexio get",
            "zexio get shop -o yaml",
            "zexio status shop --watch",
            "zexio why shop",
            "zexio logs shop -f -n 5 --process web --release 3 --since 10m",
            "zexio events",
            "zexio events shop -f -n 5 --since 10m --reason Serving -o json",
            "zexio suspend shop --reason night --until 2h",
            "zexio resume shop",
            "zexio logs shop --grep (?i)error",
            "zexio logs --system -f --since 1h",
            "zexio stats",
            "zexio stats --watch -o json",
            "zexio stats --prometheus",
            "zexio stats --prometheus=/var/lib/prometheus/node-exporter/zexio.prom",
            "zexio history shop",
            "zexio deploy shop ./dist",
            "zexio deploy shop dist.tar.gz --version 1.8.2 --wait=10m -o json",
            "zexio rollback shop --to 3 --wait",
            "zexio doctor -o json",
            "zexio completions bash",
            "zexio man /usr/share/man/man1",
            "zexio key rotate ci",
            "zexio delete shop --keep-data --wait --yes",
            "zexio secret set shop TOKEN --file t",
            "zexio secret list shop",
            "zexio secret rm shop TOKEN",
            "zexio key add ci --scope deploy:shop",
            "zexio key list",
            "zexio key revoke ci",
            "zexio service list -o json",
            "zexio service install postgresql --version 15 --wait=10m",
            "zexio service remove redis --purge --wait",
            "zexio provision remove postgresql --major=15 --purge",
            "zexio sync --prune",
            "zexio sync shop",
            "zexio sign PUT http://localhost/v1/projects/shop --body s.json --content-type application/json",
            "zexio version",
            "zexio status --agent https://a.example.com --key ./ci",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "zexio get ../etc",
            "zexio apply",
            "zexio apply -f x --dry-run --wait",
            "zexio apply -f x --wait=soon",
            "zexio plan shop -f x",
            "zexio secret set shop TOKEN value",
            "zexio deploy shop",
            "zexio completions tcsh",
            "zexio key add ci --scope root",
            "zexio key add ../ci --scope admin",
            "zexio status -o xml",
            "zexio logs",
            "zexio logs shop --system",
            "zexio logs --system --process web",
            "zexio logs shop --grep a(",
            "zexio stats --watch --prometheus",
            "zexio validate",
            "zexio service install mysql",
            "zexio provision install mysql",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn wait_alone_means_five_minutes_and_takes_no_other_argument() {
        let wait = |line: &str| match parse(line).unwrap().verb {
            Verb::Rollback { wait, .. } => wait.wait,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("zexio rollback shop"), None);
        assert_eq!(wait("zexio rollback --wait shop"), Some(Span::seconds(300)));
        assert_eq!(wait("zexio rollback shop --wait=90s"), Some(Span::seconds(90)));
    }
}
