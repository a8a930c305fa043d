//! What clients reach: Caddy, the ports, the names of public hosts.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::machine::boot;
use super::{Finding, advice, ok, wrong};
use crate::host::artifacts::address::flaw_of_prefix;
use crate::host::artifacts::address::is_global;
use crate::host::artifacts::meaning::{WITHOUT_PROXY, proxy_variables};
use crate::host::caddy::{self, CADDYFILE, Caddy, OUR_CADDYFILE, Version};
use crate::host::packaged;
use crate::host::probe::listener::{self, Listener};
use crate::host::probe::prober;
use crate::host::systemd::Systemd;
use crate::model::layout::SLICE;
use crate::model::names::ProjectId;
use crate::model::observed::OpenPort;
use crate::render::{self, caddyfile::OURS};
use crate::settings::{PortRange, Settings};

/// Total time for names to resolve.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Examines what clients reach.
pub fn findings(settings: &Settings, projects: &[Value]) -> Vec<Finding> {
    let mut found =
        vec![version(&Version::installed(), packaged::mended_caddy()), boot("caddy.service", &Systemd::default())];
    found.push(admin(Path::new(&settings.caddy.admin)));
    found.extend(caddyfile(settings));
    let behind = settings.caddy.port_behind();
    found.extend([80, 443].map(|port| front(port, listener::on_port(port, caddy::CGROUP), behind)));
    found.extend(behind.map(|port| rear(port, listener::on_port(port, caddy::CGROUP))));
    found.extend(proxies(&settings.caddy.trusted_proxies));
    found.extend(settings.artifacts.allow.iter().filter_map(|prefix| allowed(prefix)));
    found.extend(outgoing(proxy_variables(agents_environment().chain(own_environment()))));
    found.push(range(&settings.ports));
    found.extend(prober::open_ports().iter().map(|(project, open)| past_caddy(project, open)));
    let local = addresses();
    let resolved = resolve(public_hosts(projects));
    found.extend(resolved.iter().map(|(host, found)| judge_name(host, found.as_deref(), &local)));
    found
}

fn version(version: &Version, mended: Option<String>) -> Finding {
    let mend = "install Caddy 2.11.9 or newer: https://caddyserver.com/docs/install";
    if !version.is_known() {
        wrong("caddy", "it is not installed as /usr/bin/caddy, or does not say its version", mend)
    } else if !version.is_enough() {
        wrong("caddy", format!("{version} is too old; the agent needs 2.6.2"), mend)
    } else if !version.is_outdated() {
        ok("caddy", version.to_string())
    } else if let Some(package) = mended {
        ok("caddy", format!("{version}, with the fixes of its package {package}"))
    } else {
        advice("caddy", format!("{version}: {}", caddy::OUTDATED), mend)
    }
}

fn admin(socket: &Path) -> Finding {
    match UnixStream::connect(socket) {
        Ok(_) => ok("caddy", format!("it answers on {}", socket.display())),
        Err(cause) => {
            let message = format!("could not reach its admin socket {}: {cause}", socket.display());
            wrong("caddy", message, "start caddy.service where it is down; else `zexio init`")
        }
    }
}

fn caddyfile(settings: &Settings) -> Vec<Finding> {
    let mend = "correct the template; `make install` puts a new one beside an edited one";
    let rendered = crate::template::proxy(settings).and_then(|proxy| render::caddyfile::text(&proxy, &[]));
    let empty = match rendered {
        Ok(text) => text,
        Err(cause) => return vec![wrong("caddyfile", cause, mend)],
    };
    match fs::read_to_string(OUR_CADDYFILE) {
        Ok(text) if text.starts_with(OURS) => {}
        Ok(_) => {
            return vec![wrong(
                "caddyfile",
                format!("{OUR_CADDYFILE} is not zexio's"),
                "move it away, then `zexio init`",
            )];
        }
        Err(cause) => {
            return vec![wrong("caddyfile", format!("could not read {OUR_CADDYFILE}: {cause}"), "zexio init")];
        }
    }
    let Ok(caddy) = Caddy::new(Path::new(&settings.caddy.admin)) else { return Vec::new() };
    let mut troubles = caddy.troubles();
    troubles
        .extend(caddy.refuses(&empty).map(|why| (format!("Caddy does not take the template: {why}"), mend.to_owned())));
    if troubles.is_empty() {
        let serves = if caddy.answers() { ", and Caddy serves both" } else { "" };
        return vec![ok("caddyfile", format!("{CADDYFILE} imports {OUR_CADDYFILE}{serves}"))];
    }
    troubles.into_iter().map(|(what, mend)| wrong("caddyfile", what, mend)).collect()
}

/// Judges which process has a public port. `behind`: Caddy's address, if another web server stands in front.
fn front(port: u16, listener: Listener, behind: Option<u16>) -> Finding {
    match (listener, behind) {
        (Listener::Stranger(who), Some(_)) => ok("ports", format!("{who} listens on {port}, in front of Caddy")),
        (Listener::Nobody, Some(_)) => {
            let mend = "start the web server that stands in front, or take `behind` out of /etc/zexio/agent.yaml";
            advice("ports", format!("no program listens on {port}, and Caddy stands behind another one"), mend)
        }
        (listener, _) => caddys(port, listener),
    }
}

/// Judges the port on which Caddy takes the requests of the web server in front.
fn rear(port: u16, listener: Listener) -> Finding {
    match listener {
        Listener::Nobody => ok("ports", format!("{port} is free; Caddy takes it for the first route")),
        listener => caddys(port, listener),
    }
}

fn caddys(port: u16, listener: Listener) -> Finding {
    match listener {
        Listener::Ours => ok("ports", format!("Caddy listens on {port}")),
        Listener::Elsewhere(at) => ok("ports", format!("Caddy listens on {at}")),
        Listener::Nobody => ok("ports", format!("{port} is free; Caddy takes it for the first route that needs it")),
        Listener::Stranger(who) => {
            let mend = "stop it, or let it pass requests on to Caddy: `caddy: { behind: nginx }` in \
                        /etc/zexio/agent.yaml (docs/operations.md, \"Beside nginx or Apache\")";
            wrong("ports", format!("{who} listens on {port}"), mend)
        }
    }
}

fn proxies(trusted: &[String]) -> Option<Finding> {
    let all = || trusted.join(", ");
    if trusted.iter().any(|range| range.ends_with("/0")) {
        let message = format!("X-Forwarded-* headers are kept from {}: any client can say who it is", all());
        return Some(advice(
            "proxies",
            message,
            "name the proxies alone in `caddy.trusted_proxies` of /etc/zexio/agent.yaml",
        ));
    }
    (!trusted.is_empty())
        .then(|| ok("proxies", format!("X-Forwarded-* headers are kept from {}, and from no other", all())))
}

/// The names of the variables that the agent runs with; none if this may not be read.
fn agents_environment() -> impl Iterator<Item = String> {
    let pid = Systemd::default().main_pid("zexio-agent.service").unwrap_or_default();
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let names = text.split(|byte| *byte == 0).filter_map(|pair| pair.split(|byte| *byte == b'=').next());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>().into_iter()
}

/// A proxy of the shell (/etc/environment) shows how this network is left, though the agent does not have it.
fn own_environment() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

fn outgoing(mut variables: Vec<String>) -> Option<Finding> {
    variables.sort();
    variables.dedup();
    let names = variables.join(", ");
    let message = format!("{names} in the environment is not used: artifacts are fetched directly, without a proxy");
    (!variables.is_empty()).then(|| advice("artifacts", message, WITHOUT_PROXY))
}

/// A prefix of artifacts that admits nothing.
fn allowed(prefix: &str) -> Option<Finding> {
    let remedy = "correct `artifacts.allow` of /etc/zexio/agent.yaml, and run `systemctl restart zexio-agent`";
    flaw_of_prefix(prefix).map(|flaw| wrong("artifacts", format!("artifacts.allow: {flaw}"), remedy))
}

fn past_caddy(project: &ProjectId, open: &BTreeSet<OpenPort>) -> Finding {
    let open: Vec<String> = open.iter().map(ToString::to_string).collect();
    let message = format!("{project} listens on {}, which is reached past Caddy", open.join(" and "));
    advice(
        "ports",
        message,
        "let the app bind to $HOST; what is meant for others needs nothing but a firewall that agrees",
    )
}

fn range(ports: &PortRange) -> Finding {
    let PortRange { from, to } = *ports;
    let strangers = listener::strangers(from..=to, SLICE);
    let reserved = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let local = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    judge_range(ports, &strangers, &local, reserved.trim())
}

/// How many ports with another program are listed.
const SHOWN: usize = 5;

fn judge_range(ports: &PortRange, strangers: &[(u16, String)], local: &str, reserved: &str) -> Finding {
    let PortRange { from, to } = *ports;
    let mut ends = local.split_whitespace().filter_map(|end| end.parse::<u16>().ok());
    let overlaps = ends.next().zip(ends.next()).is_some_and(|(first, last)| first <= to && from <= last);
    let mut sorted: Vec<&(u16, String)> = strangers.iter().collect();
    sorted.sort();
    let mut who: Vec<String> = sorted.iter().take(SHOWN).map(|(port, who)| format!("{who} on {port}")).collect();
    if sorted.len() > SHOWN {
        who.push(format!("and on {} more", sorted.len() - SHOWN));
    }
    if !who.is_empty() {
        let message = format!(
            "ports {from} to {to} are for apps, and others listen there, so no app gets these: {}",
            who.join(", ")
        );
        advice("ports", message, "move them, or set another range: `ports: {from: …, to: …}` in /etc/zexio/agent.yaml")
    } else if overlaps && reserved.is_empty() {
        let message = format!("ports {from} to {to} are for apps, and outgoing connections may take them too");
        advice(
            "ports",
            message,
            format!("sysctl -w net.ipv4.ip_local_reserved_ports={from}-{to}, and in /etc/sysctl.d"),
        )
    } else {
        ok("ports", format!("{from} to {to} are free for apps"))
    }
}

/// The hosts that need a public certificate, and so a public name.
fn public_hosts(projects: &[Value]) -> BTreeSet<String> {
    let routes = projects.iter().filter_map(|project| project.pointer("/spec/processes")?.as_object());
    let routes =
        routes.flat_map(|processes| processes.values()).filter_map(|process| process.get("routes")?.as_array());
    let is_public = |route: &&Value| matches!(route.get("tls").and_then(Value::as_str), None | Some("auto"));
    let hosts = routes.flatten().filter(is_public).filter_map(|route| route.get("host")?.as_str());
    hosts.filter(|host| !host.starts_with('*')).map(str::to_owned).collect()
}

/// A name's addresses, or why it did not resolve.
type Resolved = Result<Vec<IpAddr>, String>;

/// Resolves all at once: a name server that does not answer costs its timeout only once.
fn resolve(hosts: BTreeSet<String>) -> Vec<(String, Resolved)> {
    let (tell, told) = mpsc::channel();
    for host in hosts.clone() {
        let tell = tell.clone();
        std::thread::spawn(move || {
            let found = (host.as_str(), 443).to_socket_addrs();
            let found =
                found.map(|all| all.map(|address| address.ip()).collect()).map_err(|e: io::Error| e.to_string());
            let _ = tell.send((host, found));
        });
    }
    drop(tell);
    let until = Instant::now() + TIMEOUT;
    let mut all: std::collections::BTreeMap<String, Resolved> =
        hosts.into_iter().map(|host| (host, Err("the name server does not answer".to_owned()))).collect();
    while let Ok((host, found)) = told.recv_timeout(until.saturating_duration_since(Instant::now())) {
        all.insert(host, found);
    }
    all.into_iter().collect()
}

fn addresses() -> BTreeSet<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    all.filter_map(|address| {
        let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    })
    .collect()
}

fn judge_name(host: &str, resolved: Result<&[IpAddr], &String>, local: &BTreeSet<IpAddr>) -> Finding {
    let list = |all: &mut dyn Iterator<Item = &IpAddr>| all.map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let public = list(&mut local.iter().filter(|ip| is_global(**ip)));
    let here = if public.is_empty() { "this server's public address".to_owned() } else { public.clone() };
    let mend = format!("give {host} an A or AAAA record with {here}");
    match resolved {
        Err(cause) => wrong("names", format!("{host} does not resolve: {cause}"), mend),
        Ok([]) => wrong("names", format!("{host} has no address"), mend),
        Ok(found) if found.iter().all(|ip| local.contains(ip)) => {
            ok("names", format!("{host} resolves to this machine"))
        }
        Ok(found) if public.is_empty() => {
            let message = format!("{host} resolves to {}; this machine has no public address", list(&mut found.iter()));
            ok("names", message + " of its own to compare")
        }
        Ok(found) => {
            let message = format!("{host} resolves to {}, and this machine is {public}", list(&mut found.iter()));
            advice(
                "names",
                message,
                format!(
                    "{mend}, unless a proxy in front of this machine is meant: name that in `caddy.trusted_proxies`"
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    #[test]
    fn a_name_leads_here_or_it_is_said_where_it_leads() {
        let ip = |raw: &str| raw.parse::<IpAddr>().unwrap();
        let local = BTreeSet::from([ip("127.0.0.1"), ip("93.184.216.34")]);
        let of = |found: Result<&[IpAddr], &String>| judge_name("shop.example.com", found, &local);
        assert_eq!(of(Ok(&[ip("93.184.216.34")])).state, State::Ok);
        let elsewhere = of(Ok(&[ip("93.184.216.34"), ip("1.1.1.1")]));
        assert_eq!(elsewhere.state, State::Advice);
        assert!(elsewhere.mend.unwrap().contains("record with 93.184.216.34"), "its own address is what to write");
        assert_eq!(of(Err(&"no such host".to_owned())).state, State::Wrong);
        let behind = BTreeSet::from([ip("10.0.0.5")]);
        assert_eq!(judge_name("shop.example.com", Ok(&[ip("1.1.1.1")]), &behind).state, State::Ok);
    }

    #[test]
    fn only_hosts_that_need_a_public_certificate_need_a_public_name() {
        let projects = json!([{"spec": {"processes": {
            "web": {"routes": [{"host": "a.example.com"}, {"host": "b.example.com", "tls": "internal"}]},
            "docs": {"routes": [{"host": "c.example.com", "tls": "auto"}, {"host": "d.example.com", "tls": "off"}]},
            "jobs": {"run": "x"}}}}, {"spec": null}]);
        let hosts = public_hosts(projects.as_array().unwrap());
        assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["a.example.com", "c.example.com"]);
    }

    #[test]
    fn proxies_that_anybody_may_be_are_advised_against() {
        let of = |ranges: &[&str]| proxies(&ranges.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["10.0.0.0/8"]).map(|found| found.state), Some(State::Ok));
        assert_eq!(of(&["10.0.0.0/8", "::/0"]).map(|found| found.state), Some(State::Advice));
    }

    #[test]
    fn a_proxy_in_the_environment_is_told_to_be_unused() {
        let of = |names: &[&str]| outgoing(names.iter().map(ToString::to_string).collect());
        assert_eq!(of(&[]), None);
        let said = of(&["https_proxy", "HTTPS_PROXY", "https_proxy"]).unwrap();
        assert_eq!(said.state, State::Advice);
        assert!(said.message.starts_with("HTTPS_PROXY, https_proxy in the environment is not used"), "{said:?}");
    }

    #[test]
    fn the_range_of_apps_is_theirs_alone() {
        let ports = PortRange { from: 21_000, to: 29_999 };
        let of = |strangers: &[(u16, String)], local: &str, reserved: &str| {
            judge_range(&ports, strangers, local, reserved).state
        };
        assert_eq!(of(&[], "32768\t60999", ""), State::Ok);
        assert_eq!(of(&[], "1024 65535", ""), State::Advice);
        assert_eq!(of(&[], "1024 65535", "21000-29999"), State::Ok);
        assert_eq!(of(&[(21_500, "process 7 (x)".to_owned())], "32768 60999", ""), State::Advice);
        let many: Vec<(u16, String)> = (0..7).rev().map(|n| (21_000 + n, "process 7 (x)".to_owned())).collect();
        let said = judge_range(&ports, &many, "", "").message;
        assert!(said.contains(": process 7 (x) on 21000, ") && said.ends_with(" on 21004, and on 2 more"), "{said}");
        let nginx = || Listener::Stranger("process 7 (nginx)".to_owned());
        let said = front(443, nginx(), None);
        assert!(said.state == State::Wrong && said.message == "process 7 (nginx) listens on 443", "{said:?}");
        assert!(said.mend.unwrap_or_default().contains("behind: nginx"));
        assert_eq!(front(443, nginx(), Some(7480)).state, State::Ok);
        assert_eq!(front(443, Listener::Nobody, Some(7480)).state, State::Advice);
        assert_eq!(rear(7480, nginx()).state, State::Wrong);
    }
}
