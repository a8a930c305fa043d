//! The spec language: what a project may ask for. Its values are checked one by one as they are read; what must fit
//! together is checked in `fit`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::names::{ArtifactName, EnvName, Hostname, ProcessName, ProjectId, ReleaseNo, RoutePath, SecretName, Sha256};
use super::quantity::{Bytes, CpuShare, Span, Timestamp};
use super::services::Service;

/// A project's spec as it came in, with the env values in clear.
pub type Document = SpecOf<Plain>;
/// A project's spec as everything after the door sees it: env values are named by their version in the store.
pub type Spec = SpecOf<Sealed>;

/// A project's spec. `E` is what stands for an env value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(description = "What a project should be on its server.")] // whoever writes one sees no `E`
pub struct SpecOf<E> {
    /// The version of the spec language.
    pub zexio: Language,
    /// Whose spec: the name of the project on the server. Another name is another project.
    pub project: ProjectId,
    /// What to run: an archive (tar, tar.gz, tar.zst, tar.xz, zip) or one executable, which is installed as `app`.
    pub artifact: Artifact,
    /// Variables of every process. What must stay secret stands under `secrets`.
    #[serde(default = "BTreeMap::<EnvName, E>::new", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = super::schema::reserved_variables()))]
    pub env: BTreeMap<EnvName, E>,
    /// Stored secrets that become variables of every process; their values come by `zexio secret set`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// A command to run once per release, before any of its processes starts; if it fails, the old release goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseCommand>,
    /// What runs, by name: commands, commands by a calendar, and static sites.
    #[schemars(extend("minProperties" = 1))]
    pub processes: BTreeMap<ProcessName, Process>,
    /// How a new release takes over.
    #[serde(default)]
    pub deploy: Deploy,
    /// What each process may use at most.
    #[serde(default)]
    pub limits: Limits,
    /// How closed each process is.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// Which CI providers may bump the artifact.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Host services that must be there first.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<Service>,
    /// How many releases are kept, besides the serving one and the last good one.
    #[serde(default = "default_keep")]
    pub keep: Keep,
    /// Whether the agent only watches the project.
    #[serde(default)]
    pub suspend: Suspend,
}

impl<E> SpecOf<E> {
    /// Returns the spec with every env value replaced.
    ///
    /// # Errors
    /// The first that `seal` gives.
    pub fn try_map_env<F, X>(self, mut seal: impl FnMut(&EnvName, E) -> Result<F, X>) -> Result<SpecOf<F>, X> {
        let env = self
            .env
            .into_iter()
            .map(|(name, value)| seal(&name, value).map(|v| (name, v)))
            .collect::<Result<_, X>>()?;
        Ok(SpecOf {
            env,
            zexio: self.zexio,
            project: self.project,
            artifact: self.artifact,
            secrets: self.secrets,
            release: self.release,
            processes: self.processes,
            deploy: self.deploy,
            limits: self.limits,
            sandbox: self.sandbox,
            hooks: self.hooks,
            needs: self.needs,
            keep: self.keep,
            suspend: self.suspend,
        })
    }
}

/// An env value in clear. It cannot be shown or written, only opened.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Plain(Zeroizing<String>);

impl Plain {
    /// Longest value: the kernel refuses to start a program with a longer one (128 KiB with its name).
    pub const LONGEST: usize = 120 * 1024;

    /// Checks and keeps a value.
    ///
    /// # Errors
    /// A value with a NUL byte or longer than `LONGEST` cannot reach a process.
    pub fn parse(raw: String) -> Result<Self, String> {
        let value = Zeroizing::new(raw);
        match value.len() {
            _ if value.contains('\0') => Err("the value holds a NUL byte, which no variable can".into()),
            n if n > Self::LONGEST => {
                Err(format!("the value has {n} bytes; {} is the most a variable can have", Self::LONGEST))
            }
            _ => Ok(Self(value)),
        }
    }

    /// Returns the value.
    pub fn open(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Plain {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        Self::parse(raw)
    }
}

/// An env value in the store, by its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The version: 1, 2, 3 … per project and name.
    pub sealed: u32,
}

/// The version of the spec language. There is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Language;

impl TryFrom<u64> for Language {
    type Error = String;
    fn try_from(raw: u64) -> Result<Self, String> {
        if raw == 1 { Ok(Self) } else { Err(format!("spec language {raw} is unknown; this agent speaks 1")) }
    }
}

impl From<Language> for u64 {
    fn from(_: Language) -> u64 {
        1
    }
}

/// What to run: exactly one of `url`, `file`, `release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["url"] }, { "required": ["file"] }, { "required": ["release"] }]))]
pub struct Artifact {
    /// Where to fetch it from: an http or https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// An artifact already on the server, by its sha256 or its file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ArtifactName>,
    /// An earlier release of this project, whole: artifact, env, secrets and processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseNo>,
    /// What the artifact's bytes must hash to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// A label for people, such as the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Label>,
    /// Who may move url, sha256 and version.
    #[serde(default)]
    pub updates: Updates,
}

/// Who may move an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Updates {
    /// Only the spec.
    #[default]
    Fixed,
    /// A webhook too.
    Webhook,
}

/// A label for people: a version, printable, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let fits = (1..=64).contains(&raw.chars().count()) && !raw.chars().any(char::is_control);
        if fits { Ok(Self(raw)) } else { Err("a version is 1 to 64 printable characters".into()) }
    }
}

impl From<Label> for String {
    fn from(label: Label) -> String {
        label.0
    }
}

/// A stored secret and the variable it becomes: `NAME`, or `VARIABLE:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretUse {
    /// The variable.
    pub variable: EnvName,
    /// The stored secret.
    pub name: SecretName,
}

impl TryFrom<String> for SecretUse {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let (variable, name) = raw.split_once(':').unwrap_or((&raw, &raw));
        let variable = EnvName::parse(variable).map_err(|e| e.to_string())?;
        let name = SecretName::parse(name).map_err(|e| e.to_string())?;
        Ok(Self { variable, name })
    }
}

impl From<SecretUse> for String {
    fn from(used: SecretUse) -> String {
        if used.variable.as_str() == used.name.as_str() {
            used.name.into()
        } else {
            format!("{}:{}", used.variable, used.name)
        }
    }
}

/// A command to run once per release, before it gets traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseCommand {
    /// The command.
    pub run: Command,
    /// How long it may take.
    #[serde(default = "ReleaseCommand::default_timeout")]
    pub timeout: Span,
}

impl ReleaseCommand {
    fn default_timeout() -> Span {
        Span::seconds(300)
    }
}

/// One process: a command that runs, one that runs by a calendar, or a directory that Caddy serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["run"] }, { "required": ["static", "routes"] }]))]
pub struct Process {
    /// Its command, run in the artifact's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Command>,
    /// When it counts as ready. A process with routes and without this is ready when its port takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Which requests it gets. A process with routes listens on `$HOST:$PORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// How many run side by side.
    #[serde(default)]
    pub instances: Instances,
    /// When it runs, instead of all the time: by systemd's calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Calendar>,
    /// A directory of the artifact that Caddy serves, instead of a command.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub static_site: Option<SiteDirectory>,
    /// Whether a static site's unknown paths get its index, for an app that routes in the browser.
    #[serde(default, skip_serializing_if = "is_false")]
    pub spa: bool,
}

impl Process {
    /// Tells whether it listens on ports of its own: it has routes, or a readiness check that needs one.
    pub fn is_web(&self) -> bool {
        let probed = self.ready.as_ref().is_some_and(|ready| ready.http.is_some() || ready.tcp);
        self.static_site.is_none() && (!self.routes.is_empty() || probed)
    }
}

/// When a process runs: a calendar expression of systemd. It reaches a timer's file, so it holds nothing but the
/// characters of such an expression; whether systemd understands it is asked before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Calendar(String);

impl Calendar {
    /// Returns the expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Calendar {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" *:,./~-_+".contains(&b);
        let fits = (1..=100).contains(&raw.len()) && raw.bytes().all(plain) && raw.trim() == raw;
        if fits {
            Ok(Self(raw))
        } else {
            Err(format!("{raw:?} is not a calendar expression like daily or *-*-* 03:00"))
        }
    }
}

impl From<Calendar> for String {
    fn from(calendar: Calendar) -> String {
        calendar.0
    }
}

/// A directory beneath the bundle: `public`, `dist/site`, or `.` for all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteDirectory(String);

impl SiteDirectory {
    /// Returns the path, relative to the bundle.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SiteDirectory {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let path = raw.trim_start_matches("./").trim_end_matches('/');
        let beneath = path.split('/').all(|part| !part.is_empty() && part != ".." && (part != "." || path == "."));
        let fits = raw.len() <= 200 && raw.bytes().all(plain) && !raw.starts_with('/') && beneath;
        if fits {
            Ok(Self(path.to_owned()))
        } else {
            Err(format!("{raw:?} is not a directory beneath the bundle like public"))
        }
    }
}

impl From<SiteDirectory> for String {
    fn from(directory: SiteDirectory) -> String {
        directory.0
    }
}

/// How many instances of a process run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Instances(u32);

impl Default for Instances {
    fn default() -> Self {
        Self(1)
    }
}

impl Instances {
    /// Returns the number.
    pub fn count(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Instances {
    type Error = String;
    fn try_from(raw: u32) -> Result<Self, String> {
        if (1..=64).contains(&raw) { Ok(Self(raw)) } else { Err(format!("{raw} instances: between 1 and 64")) }
    }
}

impl From<Instances> for u32 {
    fn from(instances: Instances) -> u32 {
        instances.0
    }
}

/// A command: a list of words, or one string split as a shell splits words. No shell runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    /// Returns the words; there is at least one.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Checks the words.
    ///
    /// # Errors
    /// The program must be a name, an absolute path, or a path beneath the bundle.
    pub fn of_words(words: Vec<String>) -> Result<Self, String> {
        let Some(program) = words.first() else { return Err("the command is empty".into()) };
        if program.is_empty() || program.starts_with(['+', '-', '!', '@', ':', '|']) {
            return Err(format!(
                "{program:?} is not a program: a name, an absolute path, or a path beneath the bundle like ./app"
            ));
        }
        if !program.starts_with('/') && program.split('/').any(|part| part == "..") {
            return Err(format!("{program:?} leads out of the bundle"));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err("a word holds a NUL byte, which no argument can".into());
        }
        Ok(Self(words))
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a string or a list of words")
            }
            fn visit_str<E: de::Error>(self, raw: &str) -> Result<Command, E> {
                let words = shlex::split(raw).ok_or_else(|| E::custom("the command has a quote that does not end"))?;
                Command::of_words(words).map_err(E::custom)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Command, A::Error> {
                let words = Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                Command::of_words(words).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// When a process counts as ready: exactly one of `http`, `tcp`, `notify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["http"] },
    { "required": ["tcp"], "properties": { "tcp": { "const": true } } },
    { "required": ["notify"], "properties": { "notify": { "const": true } } },
]))]
pub struct Ready {
    /// A path that answers 2xx or 3xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ProbePath>,
    /// The port takes connections.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tcp: bool,
    /// The process tells systemd itself (sd_notify).
    #[serde(default, skip_serializing_if = "is_false")]
    pub notify: bool,
    /// How long it may take from its start.
    #[serde(default = "Ready::default_within")]
    pub within: Span,
    /// How long one probe may take.
    #[serde(default = "Ready::default_timeout")]
    pub timeout: Span,
    /// How long between two probes.
    #[serde(default = "Ready::default_interval")]
    pub interval: Span,
}

impl Ready {
    fn default_within() -> Span {
        Span::seconds(60)
    }
    fn default_timeout() -> Span {
        Span::seconds(2)
    }
    fn default_interval() -> Span {
        Span(250)
    }
    /// Returns the check of a web process that names none.
    pub fn default_tcp() -> Self {
        Self {
            http: None,
            tcp: true,
            notify: false,
            within: Self::default_within(),
            timeout: Self::default_timeout(),
            interval: Self::default_interval(),
        }
    }
}

/// The path of an HTTP probe; the host and port are never the spec's to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProbePath(String);

impl ProbePath {
    /// Returns the path, with its query if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProbePath {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~/-?=&%".contains(&b);
        let fits = raw.starts_with('/') && !raw.starts_with("//") && raw.len() <= 200 && raw.bytes().all(plain);
        if fits { Ok(Self(raw)) } else { Err(format!("{raw:?} is not a path like /up")) }
    }
}

impl From<ProbePath> for String {
    fn from(path: ProbePath) -> String {
        path.0
    }
}

/// Which requests a process gets, or a redirect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The host, as it stands in the browser.
    pub host: Hostname,
    /// A prefix (`/api/*`) or one path; every path where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RoutePath>,
    /// Where the host's certificate comes from.
    #[serde(default)]
    pub tls: Tls,
    /// Headers that every answer gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<HeaderName, HeaderText>,
    /// Answer with a redirect to this site instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Site>,
}

/// The name of a header.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderName(String);

impl TryFrom<String> for HeaderName {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let fits = (1..=64).contains(&raw.len())
            && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !raw.starts_with('-');
        if fits { Ok(Self(raw)) } else { Err(format!("{raw:?} is not a header's name like X-Frame-Options")) }
    }
}

impl From<HeaderName> for String {
    fn from(name: HeaderName) -> String {
        name.0
    }
}

/// The text of a header: printable, and nothing that a Caddyfile would take for more than text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderText(String);

impl TryFrom<String> for HeaderText {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let plain = |b: u8| (b' '..=b'~').contains(&b) && !b"{}\"`\\$".contains(&b);
        let fits = (1..=1000).contains(&raw.len()) && raw.bytes().all(plain);
        if fits {
            Ok(Self(raw))
        } else {
            Err(format!("{raw:?} is not a header's text: printable, without {{ }} \" ` \\ $"))
        }
    }
}

impl From<HeaderText> for String {
    fn from(text: HeaderText) -> String {
        text.0
    }
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// A public certificate, by ACME.
    #[default]
    Auto,
    /// A certificate of Caddy's own authority.
    Internal,
    /// None: plain HTTP.
    Off,
}

/// The site that a redirect leads to: scheme and host, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Site(String);

impl Site {
    /// Returns the site without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Site {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let host =
            raw.strip_prefix("https://").or_else(|| raw.strip_prefix("http://")).map(|rest| rest.trim_end_matches('/'));
        match host.map(Hostname::parse) {
            Some(Ok(_)) => Ok(Self(raw.trim_end_matches('/').to_owned())),
            _ => Err(format!("{raw:?} is not a site like https://shop.example.com (no path)")),
        }
    }
}

impl From<Site> for String {
    fn from(site: Site) -> String {
        site.0
    }
}

/// How a process is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal it gets first.
    pub signal: StopSignal,
    /// How long until it is killed.
    pub within: Span,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: StopSignal::default(), within: Span::seconds(15) }
    }
}

/// The signals that ask a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum StopSignal {
    /// The usual one.
    #[default]
    SIGTERM,
    /// Ctrl-C.
    SIGINT,
    /// Graceful in some servers.
    SIGQUIT,
    /// Graceful in some servers.
    SIGHUP,
    /// Graceful in some servers.
    SIGUSR1,
    /// Graceful in some servers.
    SIGUSR2,
    /// Graceful in some servers.
    SIGWINCH,
}

/// How a new release takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// New beside old, or old first.
    pub strategy: Strategy,
    /// How long it must stay ready before traffic moves.
    pub min_healthy: Span,
    /// How long the old instance keeps its requests after the switch.
    pub drain: Span,
    /// How long the whole rollout may take.
    pub deadline: Span,
    /// What becomes of a release that fails.
    pub on_failure: OnFailure,
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            min_healthy: Span::seconds(2),
            drain: Span::seconds(10),
            deadline: Span::seconds(300),
            on_failure: OnFailure::default(),
        }
    }
}

/// New beside old, or old first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The new release is proven beside the old one.
    #[default]
    Handover,
    /// The old release stops first: for apps that cannot run twice.
    Recreate,
}

/// What becomes of a release that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is stopped; the old one serves on.
    #[default]
    Rollback,
    /// It is left running, without traffic, to be looked at.
    Hold,
}

/// What each process may use at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory; at least 4M.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor time, in percent of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuShare>,
    /// Threads and processes, at most.
    pub tasks: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, cpu: None, tasks: 512 }
    }
}

/// How closed a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// A read-only system, no devices, no other app's files: all that does not break a usual runtime.
    #[default]
    Standard,
    /// Also no memory that is writable and executable: right for Go and Rust, wrong for Node and other just-in-time compilers.
    Strict,
    /// Only its own user.
    Off,
}

/// Which CI providers may bump the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Any CI that signs with a deploy key. It needs no settings: the key says whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic: Option<GenericHook>,
    /// GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<GithubHook>,
    /// GitLab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitlabHook>,
    /// Standard Webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard: Option<StandardHook>,
}

impl Hooks {
    /// Tells whether none is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Webhooks signed with a deploy key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericHook {}

/// GitHub's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GithubHook {
    /// `owner/name`.
    pub repo: String,
    /// Which event counts.
    pub event: GithubEvent,
    /// The artifact's URL with `{tag}`, `{sha}` or `{run}`.
    pub artifact: String,
    /// The stored secret with which GitHub signs.
    pub secret: SecretName,
}

/// Which of GitHub's events counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GithubEvent {
    /// A published release.
    Release,
    /// A workflow run that succeeded.
    WorkflowRun,
}

/// GitLab's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitlabHook {
    /// `group/name`.
    pub repo: String,
    /// Which event counts.
    pub event: GitlabEvent,
    /// The artifact's URL with `{tag}`, `{sha}` or `{run}`.
    pub artifact: String,
    /// The stored secret.
    pub secret: SecretName,
    /// Signed deliveries, or the plain token of older versions.
    #[serde(default)]
    pub token: GitlabToken,
}

/// Which of GitLab's events counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GitlabEvent {
    /// A release.
    Release,
    /// A pipeline that succeeded.
    Pipeline,
}

/// How GitLab proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GitlabToken {
    /// Standard Webhooks.
    #[default]
    Signed,
    /// `X-Gitlab-Token`.
    Legacy,
}

/// Standard Webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandardHook {
    /// The stored secret.
    pub secret: SecretName,
}

/// How many releases are kept: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Keep(u32);

impl Keep {
    /// Returns the number.
    pub fn count(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u32> for Keep {
    type Error = String;
    fn try_from(raw: u32) -> Result<Self, String> {
        if (1..=100).contains(&raw) { Ok(Self(raw)) } else { Err(format!("keep: {raw} is not between 1 and 100")) }
    }
}

impl From<Keep> for u32 {
    fn from(keep: Keep) -> u32 {
        keep.0
    }
}

fn default_keep() -> Keep {
    Keep(5)
}

/// Whether the agent only watches: `true`, `false`, or why and until when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Suspend {
    /// It converges.
    #[default]
    No,
    /// It watches.
    Yes(Suspension),
}

/// Why a project is suspended, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Suspension {
    /// Why, for whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Suspend {
    /// Returns the suspension that holds at this moment.
    pub fn at(&self, now: Timestamp) -> Option<&Suspension> {
        match self {
            Suspend::Yes(suspension) if suspension.until.is_none_or(|until| now < until) => Some(suspension),
            _ => None,
        }
    }
}

impl Serialize for Suspend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Suspend::No => serializer.serialize_bool(false),
            Suspend::Yes(suspension) => suspension.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Suspend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Suspend;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or {reason, until}")
            }
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Suspend, E> {
                Ok(if on { Suspend::Yes(Suspension::default()) } else { Suspend::No })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Suspend, A::Error> {
                Suspension::deserialize(de::value::MapAccessDeserializer::new(map)).map(Suspend::Yes)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
