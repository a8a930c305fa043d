//! What a Caddy configuration serves, read from its JSON: by host, and by owner.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::plan::RoutesOrder;
use crate::render::caddyfile::Site;

/// Caddy's admin address unless its Caddyfile says otherwise.
pub const DEFAULT_ADMIN: &str = "localhost:2019";

/// Where requests arrive: the listener's addresses and the host; an empty host matches every host that has no site.
pub type Place = (String, String);

/// The routes of each place, in the order in which they are tried.
pub type Served = BTreeMap<Place, Vec<Value>>;

/// Returns the routes per place. Two configurations that serve the same at a place have equal routes there, whatever
/// else they serve.
pub fn served(config: &Value) -> Served {
    let mut found = Served::new();
    for server in config.pointer("/apps/http/servers").and_then(Value::as_object).into_iter().flatten().map(|(_, s)| s)
    {
        let listen = texts(server.get("listen")).collect::<Vec<_>>().join(" ");
        for route in server.get("routes").and_then(Value::as_array).into_iter().flatten() {
            add_route(route, &listen, &mut found);
        }
    }
    found
}

fn add_route(route: &Value, listen: &str, found: &mut Served) {
    let matchers: Vec<Value> = route.get("match").and_then(Value::as_array).cloned().unwrap_or_default();
    let matchers = if matchers.is_empty() { vec![Value::Null] } else { matchers };
    for mut matcher in matchers {
        let hosts: Vec<String> = texts(matcher.get("host")).map(str::to_owned).collect();
        let hosts = if hosts.is_empty() { vec![String::new()] } else { hosts };
        matcher.as_object_mut().map(|matcher| matcher.remove("host"));
        let matcher = if matcher.as_object().is_some_and(serde_json::Map::is_empty) { Value::Null } else { matcher };
        for host in hosts {
            let mut alone = route.clone();
            alone["match"] = matcher.clone();
            without_groups(&mut alone);
            found.entry((listen.to_owned(), host)).or_default().push(alone);
        }
    }
}

/// Groups are numbered across the whole configuration, so the number depends on how many come before.
fn without_groups(value: &mut Value) {
    match value {
        Value::Object(table) => {
            table.remove("group");
            table.values_mut().for_each(without_groups);
        }
        Value::Array(items) => items.iter_mut().for_each(without_groups),
        _ => {}
    }
}

/// Returns the address of the admin endpoint, as the configuration writes it.
pub fn admin_address(config: &Value) -> &str {
    config.pointer("/admin/listen").and_then(Value::as_str).unwrap_or(DEFAULT_ADMIN)
}

/// Replaces draft paths by the files they stand for, and sorts what has no order: Caddy hides the files that it was
/// configured from, under the names they had.
pub fn settled(mut value: Value, drafts: &[(&str, &str)]) -> Value {
    settle(&mut value, drafts);
    value
}

fn settle(value: &mut Value, drafts: &[(&str, &str)]) {
    match value {
        Value::Object(table) => table.iter_mut().for_each(|(key, value)| {
            settle(value, drafts);
            if let (Value::Array(items), "hide") = (value, key.as_str()) {
                items.sort_by_key(Value::to_string);
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(|value| settle(value, drafts)),
        Value::String(text) => {
            if let Some((_, real)) = drafts.iter().find(|(draft, _)| text == draft) {
                (*real).clone_into(text);
            }
        }
        _ => {}
    }
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns the places of `before` that `after` does not serve at all, and the apps other than HTTP that it lacks.
pub fn lost(before: &Value, after: &Value) -> Vec<String> {
    let there: BTreeSet<Place> = served(after).into_keys().collect();
    let places = served(before).into_keys().filter(|place| !there.contains(place)).map(|place| shown(&place));
    let apps = |config: &Value| config.get("apps").and_then(Value::as_object).cloned().unwrap_or_default();
    let after = apps(after);
    let apps = apps(before).into_iter().map(|(name, _)| name).filter(|name| !after.contains_key(name));
    places.chain(apps.map(|name| format!("Caddy's app {name}"))).collect()
}

/// Formats a place for people: the host, or the port if there is no host.
pub fn shown((listen, host): &Place) -> String {
    if host.is_empty() { listen.clone() } else { host.clone() }
}

/// Returns the names of what is served, without duplicates.
pub fn names(config: &Value) -> Vec<String> {
    served(config).keys().map(shown).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the hosts of our file whose live routes differ from it; other sites are ignored.
pub fn differing_routes(live: &Value, ours: &Value) -> BTreeSet<String> {
    let by_host = |config: &Value| {
        let mut hosts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for ((_, host), routes) in served(config) {
            hosts.entry(host).or_default().extend(routes);
        }
        hosts
    };
    let (live, ours) = (by_host(live), by_host(ours));
    let differs = |(host, routes): &(String, Vec<Value>)| !host.is_empty() && live.get(host) != Some(routes);
    ours.into_iter().filter(differs).map(|(host, _)| host).collect()
}

/// Returns the hosts of our file that the whole configuration serves at no place as that file says. Caddy accepts a
/// host twice if it is spelled in two ways, like `a.com` and `a.com:443`, and merges both into one site, in which the
/// first one answers.
pub fn covered(whole: &Value, ours: &Value) -> BTreeSet<String> {
    let whole = served(whole);
    let is_there = |(place, routes): &(Place, Vec<Value>)| {
        whole.iter().any(|((_, host), found)| *host == place.1 && found == routes)
    };
    let named = served(ours).into_iter().filter(|(place, _)| !place.1.is_empty());
    named.filter(|entry| !is_there(entry)).map(|((_, host), _)| host).collect()
}

/// Returns what a load would change outside our sites: places that are served differently, or no longer. `ours`: what
/// our own file means, before and after.
pub fn foreign_changes(live: &Value, meant: &Value, ours: [&Value; 2]) -> Vec<String> {
    let hosts: BTreeSet<String> = ours
        .iter()
        .flat_map(|config| served(config).into_keys())
        .map(|(_, host)| host)
        .filter(|host| !host.is_empty())
        .collect();
    let places: BTreeSet<Place> = ours.iter().flat_map(|config| served(config).into_keys()).collect();
    let foreign = |config: &Value| {
        let mut all = served(config);
        all.retain(|place, _| !hosts.contains(&place.1) && !places.contains(place));
        all
    };
    let (live, meant) = (foreign(live), foreign(meant));
    let all: BTreeSet<&Place> = live.keys().chain(meant.keys()).collect();
    all.into_iter().filter(|place| live.get(*place) != meant.get(*place)).map(shown).collect()
}

/// Checks the adapted configuration, which catches whatever the template and the earlier checks missed: the admin
/// socket stays where tenants cannot reach it, every desired host is present, and its requests go to its own ports.
pub fn check(meant: &Value, order: &RoutesOrder, socket: &Path) -> Result<(), String> {
    let admin = admin_address(meant);
    if admin.split('|').next() != Some(&format!("unix/{}", socket.display())) {
        return Err(format!(
            "Caddy's admin endpoint would be {admin}, not {0}; write `admin unix/{0}` into the global options of \
             /etc/caddy/Caddyfile, or let `zexio init` do it",
            socket.display()
        ));
    }
    let dials = dials_by_host(meant);
    for site in &order.sites {
        let expected = dials_of(site);
        match dials.get(site.host.as_str()) {
            None => return Err(format!("the template left out {}", site.host)),
            Some(found) if *found != expected => {
                return Err(format!("requests for {} would go to {found:?}, not to {expected:?}", site.host));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Returns the upstream addresses of a site.
fn dials_of(site: &Site) -> BTreeSet<String> {
    site.routes.iter().flat_map(|route| route.a.iter().chain(&route.b)).cloned().collect()
}

/// Returns the upstream addresses that each host may use.
fn dials_by_host(meant: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((_, host), routes) in served(meant) {
        let dials = found.entry(host).or_default();
        routes.iter().for_each(|route| collect_dials(route, dials));
    }
    found
}

fn collect_dials(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => {
            found.extend(table.get("dial").and_then(Value::as_str).map(str::to_owned));
            table.values().for_each(|value| collect_dials(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_dials(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn site(host: &str, to: &str, group: &str) -> Value {
        let handle = json!([{ "handler": "reverse_proxy", "upstreams": [{ "dial": to }] }]);
        let routes = json!([{ "group": group, "handle": handle }]);
        json!({ "match": [{ "host": [host] }], "handle": [{ "handler": "subroute", "routes": routes }], "terminal": true })
    }

    fn config(routes: Vec<Value>) -> Value {
        json!({ "admin": { "listen": "unix//run/caddy/admin.sock" },
                "apps": { "http": { "servers": { "srv0": { "listen": [":443"], "routes": routes } } } } })
    }

    #[test]
    fn our_hosts_are_compared_whatever_stands_around_them() {
        let ours = config(vec![site("a.com", "127.0.0.1:1", "group0")]);
        let among = config(vec![site("b.com", "x:1", "group0"), site("a.com", "127.0.0.1:1", "group1")]);
        let differ = |live: &Value, ours: &Value| differing_routes(live, ours).into_iter().collect::<String>();
        assert_eq!(differ(&among, &ours), "");
        assert_eq!(differ(&config(vec![site("a.com", "127.0.0.1:2", "group0")]), &ours), "a.com");
        assert_eq!(differ(&config(vec![]), &ours), "a.com");
    }

    #[test]
    fn a_host_that_is_there_twice_is_seen_and_one_on_another_port_is_not() {
        let (ours, theirs) = (site("a.com", "127.0.0.1:1", "group0"), site("a.com", "x:1", "group1"));
        let of = |whole: &Value| covered(whole, &config(vec![ours.clone()])).into_iter().collect::<String>();
        assert_eq!(of(&config(vec![site("b.com", "x:1", "group0"), ours.clone()])), "");
        assert_eq!(of(&config(vec![theirs.clone(), ours.clone()])), "a.com");
        assert_eq!(of(&config(vec![theirs.clone()])), "a.com", "what Caddy makes of both");
        let mut elsewhere = config(vec![ours.clone()]);
        elsewhere["apps"]["http"]["servers"]["srv1"] = json!({ "listen": [":8443"], "routes": [theirs] });
        assert_eq!(of(&elsewhere), "");
    }

    #[test]
    fn a_load_that_would_change_what_is_not_ours_is_seen() {
        let old = config(vec![site("a.com", "127.0.0.1:1", "group0")]);
        let new = config(vec![site("a.com", "127.0.0.1:2", "group0"), site("c.com", "127.0.0.1:3", "group1")]);
        let with = |ours: &Value, theirs: Vec<Value>| {
            let mut all = config(theirs);
            let routes = ours["apps"]["http"]["servers"]["srv0"]["routes"].as_array().unwrap().clone();
            all["apps"]["http"]["servers"]["srv0"]["routes"].as_array_mut().unwrap().extend(routes);
            all
        };
        let theirs = || site("b.com", "x:1", "group0");
        let changes = |live: &Value, meant: &Value| foreign_changes(live, meant, [&old, &new]);
        assert_eq!(changes(&with(&old, vec![theirs()]), &with(&new, vec![theirs()])), Vec::<String>::new());
        assert_eq!(changes(&with(&old, vec![theirs()]), &with(&new, vec![])), ["b.com"]);
        let edited = with(&new, vec![site("b.com", "x:2", "group0")]);
        assert_eq!(changes(&with(&old, vec![theirs()]), &edited), ["b.com"]);
        let catch_all = json!({ "handle": [{ "handler": "static_response" }] });
        assert_eq!(changes(&with(&old, vec![]), &with(&new, vec![catch_all])), [":443"]);
    }

    #[test]
    fn the_files_that_caddy_hides_are_the_real_ones_in_any_order() {
        let of = |hidden: [&str; 2]| json!({ "routes": [{ "handler": "file_server", "hide": hidden }] });
        let real = settled(of(["/a/Caddyfile", "/a/b"]), &[]);
        assert_eq!(settled(of(["/a/b", "/a/.draft"]), &[("/a/.draft", "/a/Caddyfile")]), real);
    }

    #[test]
    fn a_place_that_would_go_is_named() {
        let before = config(vec![site("a.com", "x:1", "g"), json!({ "handle": [] })]);
        let mut after = before.clone();
        assert_eq!(lost(&before, &after), Vec::<String>::new());
        after["apps"]["http"]["servers"]["srv0"]["listen"] = json!([":8443"]);
        assert_eq!(lost(&before, &after), [":443", "a.com"]);
        let mut before = before;
        before["apps"]["layer4"] = json!({});
        assert!(lost(&before, &after).contains(&"Caddy's app layer4".to_owned()));
        assert_eq!(names(&after), [":8443", "a.com"]);
    }

    #[test]
    fn what_the_template_got_wrong_is_refused() {
        use crate::model::names::{Hostname, ProcessName, ProjectId};
        use crate::model::spec::Tls;
        use crate::render::caddyfile::SiteRoute;
        let project = ProjectId::parse("a").unwrap();
        let route = SiteRoute {
            name: "a".into(),
            path: None,
            project: project.clone(),
            process: ProcessName::parse("web").unwrap(),
            a: vec!["127.0.0.1:1".into()],
            b: vec!["127.0.0.1:2".into()],
            a_h2c: false,
            b_h2c: false,
            root: None,
            spa: false,
            clean_urls: false,
            headers: BTreeMap::new(),
        };
        let host = Hostname::parse("a.com").unwrap();
        let site_of = Site { project, host, tls: Tls::Internal, redirect: None, routes: vec![route] };
        let order = RoutesOrder { text: String::new(), sites: vec![site_of] };
        let socket = Path::new("/run/caddy/admin.sock");
        let of = |config: &Value| check(config, &order, socket);
        let both = config(vec![site("a.com", "127.0.0.1:1", "g"), site("a.com", "127.0.0.1:2", "g")]);
        assert_eq!(of(&both), Ok(()));
        assert!(of(&config(vec![site("a.com", "127.0.0.1:1", "g")])).unwrap_err().contains("would go to"));
        assert!(of(&config(vec![site("a.com", "127.0.0.1:9", "g")])).unwrap_err().contains("127.0.0.1:9"));
        assert!(of(&config(vec![site("b.com", "127.0.0.1:1", "g")])).unwrap_err().contains("left out a.com"));
        let mut open = both.clone();
        open["admin"]["listen"] = json!("localhost:2019");
        assert!(of(&open).unwrap_err().contains("would be localhost:2019"));
    }
}
