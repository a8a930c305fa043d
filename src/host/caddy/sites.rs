//! What Caddy's JSON configuration says about one host, so that two configurations can be compared host by host.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::names::Hostname;

/// Returns the hosts that the two configurations serve differently.
pub fn differing<'a>(hosts: impl Iterator<Item = &'a Hostname>, meant: &Value, live: &Value) -> BTreeSet<Hostname> {
    let (meant, live) = (by_host(meant), by_host(live));
    let served = |host: &str| meant.get(host).is_some_and(|parts| live.get(host) == Some(parts));
    hosts.filter(|host| !served(host.as_str())).cloned().collect()
}

/// Collects each host's configuration: its routes, each with its server's listen addresses, and its TLS settings. What
/// Caddy numbers across the whole configuration, like server names and route groups, is left out or renumbered: another
/// host's route would change it.
fn by_host(config: &Value) -> BTreeMap<&str, BTreeSet<String>> {
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut add = |host, part: Value| {
        found.entry(host).or_default().insert(part.to_string());
    };
    for server in
        config.pointer("/apps/http/servers").and_then(Value::as_object).into_iter().flat_map(|all| all.values())
    {
        for route in items(server.get("routes")) {
            for host in items(route.get("match")).flat_map(|one| texts(one.get("host"))) {
                add(host, json!({ "listen": server.get("listen"), "route": of_any_host(route) }));
            }
        }
        for policy in items(server.get("tls_connection_policies")) {
            for host in texts(policy.pointer("/match/sni")) {
                add(host, json!({ "connection": without(policy, "match") }));
            }
        }
        for host in texts(server.pointer("/automatic_https/skip")) {
            add(host, json!({ "skip": server.get("listen") }));
        }
    }
    for policy in items(config.pointer("/apps/tls/automation/policies")) {
        for host in texts(policy.get("subjects")) {
            add(host, json!({ "automation": without(policy, "subjects") }));
        }
    }
    found
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    items(value).filter_map(Value::as_str)
}

fn without(value: &Value, key: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().and_then(|table| table.remove(key));
    value
}

/// Copies a route without the hosts that share it, and with its groups numbered from its own first one.
fn of_any_host(route: &Value) -> Value {
    let mut route = counted(route, &mut BTreeMap::new());
    for one in route.get_mut("match").and_then(Value::as_array_mut).into_iter().flatten() {
        one.as_object_mut().and_then(|matchers| matchers.remove("host"));
    }
    route
}

fn counted(value: &Value, groups: &mut BTreeMap<String, usize>) -> Value {
    match value {
        Value::Object(table) => {
            let mut count = |(key, value): (&String, &Value)| match value.as_str().filter(|_| key == "group") {
                Some(group) => {
                    let next = groups.len();
                    (key.clone(), json!(*groups.entry(group.to_owned()).or_insert(next)))
                }
                None => (key.clone(), counted(value, groups)),
            };
            table.iter().map(&mut count).collect()
        }
        Value::Array(items) => items.iter().map(|item| counted(item, groups)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Caddy 2.6.2 generates for two sites, the first with paths; `shift`: as if another site with paths came
    /// before.
    fn config(shift: usize, dial: &str, internal: &[&str]) -> Value {
        let handle = |n: usize, dial: &str| {
            json!({ "group": format!("group{n}"), "handle": [{ "handler": "subroute", "routes": [
                { "handle": [{ "handler": "reverse_proxy", "upstreams": [{ "dial": dial }] }] }] }] })
        };
        let site = |host: &str, routes: Value| json!({ "match": [{ "host": [host] }], "handle": [{ "handler": "subroute", "routes": routes }], "terminal": true });
        json!({ "apps": {
            "http": { "servers": { format!("srv{shift}"): { "listen": [":443"], "routes": [
                site("a.example.com", json!([handle(shift, "127.0.0.1:1"), handle(shift, "127.0.0.1:2")])),
                site("b.example.com", json!([handle(shift + 1, dial)])),
            ] } } },
            "tls": { "automation": { "policies": [{ "subjects": internal, "issuers": [{ "module": "internal" }] }] } },
        } })
    }

    #[test]
    fn each_host_is_compared_by_itself() {
        let hosts: Vec<Hostname> =
            ["a.example.com", "b.example.com", "c.example.com"].map(|host| host.parse().unwrap()).into();
        let live = config(0, "127.0.0.1:3", &["a.example.com"]);
        let differ = |meant: &Value| {
            let found = differing(hosts[..2].iter(), meant, &live);
            found.iter().map(|host| host.as_str()[..1].to_owned()).collect::<String>()
        };
        assert_eq!(differ(&live), "");
        assert_eq!(differ(&config(7, "127.0.0.1:3", &["a.example.com"])), "", "only what is counted differs");
        assert_eq!(differ(&config(0, "127.0.0.1:4", &["a.example.com"])), "b", "its requests would go elsewhere");
        assert_eq!(differ(&config(0, "127.0.0.1:3", &["c.example.com", "a.example.com"])), "", "another host's");
        assert_eq!(differ(&config(0, "127.0.0.1:3", &["a.example.com", "b.example.com"])), "b", "its certificate");
        assert_eq!(differ(&json!({})), "ab");
        assert!(differing(hosts.iter(), &live, &live).contains(&hosts[2]), "what neither has is not served");
    }
}
