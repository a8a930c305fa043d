//! What a host name and the path of a route look like, and why a text is neither: what to write instead.

use url::Host;

pub(super) fn is_route_path(raw: &str) -> bool {
    let body = raw.strip_suffix('*').unwrap_or(raw);
    raw.len() <= 200
        && body.starts_with('/')
        && !body.contains("//")
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~/-".contains(&b))
}

pub(super) fn is_hostname(raw: &str) -> bool {
    raw.len() <= 253
        && raw.contains('.')
        && raw.split('.').all(is_label)
        && !raw.split('.').next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Explains what is wrong with a host, and shows the right form if there is one. None: nothing special is known.
pub(super) fn why_no_host(raw: &str) -> Option<String> {
    if raw.is_empty() {
        return Some("it is empty; one looks like shop.example.com".to_owned());
    }
    if raw.contains([',', ';']) || raw.split_whitespace().nth(1).is_some() {
        return Some("one host per route; each further one gets a route of its own".to_owned());
    }
    if raw.contains(['{', '}', '<', '>', '%', '$', '(', ')', '"', '\'', '`', '\\']) {
        return Some("nothing is filled in in a host; write the name itself, like shop.example.com".to_owned());
    }
    let mut notes = Vec::new();
    let bare = without_surroundings(raw, &mut notes);
    if let Some(whole) = whole_reason(bare) {
        return Some(whole);
    }
    if bare.chars().any(char::is_uppercase) {
        notes.push("in lower case".to_owned());
    }
    if !bare.is_ascii() {
        notes.push("in ASCII, as it is registered (punycode)".to_owned());
    }
    let name = ascii(bare);
    if name.contains('_') {
        notes.push("without underscores (no certificate is issued for them)".to_owned());
    }
    let fixed = name.replace('_', "-");
    match is_hostname(&fixed) && !notes.is_empty() {
        true => Some(format!("write it {}: {fixed}", notes.join(", "))),
        false => broken_part(&name),
    }
}

/// Takes off what surrounds a host in a URL, and notes what it was.
fn without_surroundings<'a>(raw: &'a str, notes: &mut Vec<String>) -> &'a str {
    let mut bare = raw.trim();
    if bare != raw {
        notes.push("without white space".to_owned());
    }
    if let Some((scheme, rest)) = bare.split_once("://") {
        notes.push(format!("without {scheme}:// (`tls` decides it)"));
        bare = rest;
    }
    if let Some(at) = bare.find(['/', '?', '#']) {
        let (host, path) = bare.split_at(at);
        if path != "/" {
            notes.push("without a path (its key is path, like /api/*)".to_owned());
        } else {
            notes.push("without a slash".to_owned());
        }
        bare = host;
    }
    if let Some((_, host)) = bare.rsplit_once('@') {
        notes.push("without a user".to_owned());
        bare = host;
    }
    let port = bare.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    if let Some((host, port)) = port.filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())) {
        let why = if port.is_empty() { "a colon" } else { "a port (Caddy serves on 80 and 443)" };
        notes.push(format!("without {why}"));
        bare = host;
    }
    let dotless = bare.trim_end_matches('.');
    if dotless != bare && !dotless.is_empty() {
        notes.push("without a dot at the end".to_owned());
    }
    dotless
}

const EXAMPLE: &str = "like shop.example.com";

/// Offers a name, or an example if that is no host itself.
fn offered(name: &str) -> String {
    if is_hostname(name) { format!("like {name}") } else { EXAMPLE.to_owned() }
}

/// What no other spelling mends.
fn whole_reason(bare: &str) -> Option<String> {
    let name = match bare.strip_prefix("*.") {
        _ if bare.is_empty() => return Some(format!("there is no host in it; one looks {EXAMPLE}")),
        Some(zone) => {
            let example = offered(&format!("www.{}", ascii(zone)));
            return Some(format!("wildcards are not accepted; write each host in a route of its own, {example}"));
        }
        None if bare.contains('*') => {
            return Some(format!("wildcards are not accepted; write each host in a route of its own, {EXAMPLE}"));
        }
        None => bare,
    };
    let bracketed = format!("[{}]", name.trim_matches(['[', ']']));
    let is_address =
        matches!(Host::parse(name), Ok(Host::Ipv4(_))) || matches!(Host::parse(&bracketed), Ok(Host::Ipv6(_)));
    if is_address {
        return Some(format!(
            "it is an IP address, and routes go by name: give the server a DNS name, {EXAMPLE}, and write that"
        ));
    }
    if !name.contains(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']) {
        let example = offered(&format!("{}.example.com", ascii(name)));
        return Some(format!("it has one part alone; write the whole name, {example}"));
    }
    None
}

/// Returns the lower-case ASCII form of a name, as browsers make it; a name that has none stays as it is.
fn ascii(name: &str) -> String {
    match Host::parse(name) {
        Ok(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
        _ => name.to_lowercase(),
    }
}

/// Names the part that breaks the rules of a name.
fn broken_part(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some(format!("it has {} characters, and at most 253 are allowed", name.len()));
    }
    let parts: Vec<&str> = name.split('.').collect();
    for part in &parts {
        if part.is_empty() {
            return Some("it begins with a dot, or has two in a row".to_owned());
        }
        if part.len() > 63 {
            return Some(format!("its part {part:.20}… has {} characters, and at most 63 are allowed", part.len()));
        }
        if part.starts_with('-') || part.ends_with('-') {
            return Some(format!("its part {part} begins or ends with a hyphen"));
        }
        if let Some(found) = part.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            return Some(format!("{found:?} is not allowed in it; letters, digits and hyphens are"));
        }
    }
    let last = parts.last()?;
    last.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| format!("its last part {last} is a number, and no such domain exists"))
}

/// Explains what is wrong with the path of a route.
pub(super) fn why_no_path(raw: &str) -> Option<String> {
    let body = raw.strip_suffix('*').unwrap_or(raw);
    let instead = |path: &str| if is_route_path(path) { format!("; write {path}") } else { String::new() };
    if raw.contains("://") {
        return Some("it is a whole URL; the host has its own key, host, and the path begins with /".to_owned());
    }
    if raw.contains(['?', '#']) {
        let path = raw.split(['?', '#']).next().unwrap_or_default();
        return Some(format!("routes go by path, without query and fragment{}", instead(path)));
    }
    if raw.contains(['{', '}', '<', '>', '(', '^', '$', '[', '|']) || raw.contains("/:") {
        let start = raw.find(['{', '<', '(', '^', '$', '[', '|', ':']).unwrap_or(0);
        let path = raw[..start].rsplit_once('/').map_or("", |(before, _)| before);
        return Some(format!(
            "it has no parameters and no patterns; * at the end takes all below{}",
            instead(&format!("{path}/*"))
        ));
    }
    if body.contains('*') {
        let path = body.split('*').next().unwrap_or_default();
        return Some(format!("* stands at the end alone{}", instead(&format!("{path}*"))));
    }
    if body.contains("//") {
        return Some("it has two slashes in a row".to_owned());
    }
    if !raw.is_empty() && !body.starts_with('/') {
        return Some(format!("it begins with a slash{}", instead(&format!("/{raw}"))));
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::model::names::{Hostname, RoutePath};

    fn host(raw: &str) -> String {
        Hostname::parse(raw).unwrap_err().to_string()
    }

    #[test]
    fn each_wrong_host_is_told_what_is_wrong_and_what_to_write() {
        for (raw, says) in [
            ("https://shop.example.com", "without https:// (`tls` decides it): shop.example.com"),
            ("HTTP://Shop.Example.com:8080/api", "without HTTP:// (`tls` decides it), without a path"),
            ("shop.example.com/", "without a slash: shop.example.com"),
            ("shop.example.com/api/v1", "without a path (its key is path, like /api/*): shop.example.com"),
            ("shop.example.com:8443", "without a port (Caddy serves on 80 and 443): shop.example.com"),
            ("shop.example.com.", "without a dot at the end: shop.example.com"),
            ("Shop.Example.COM", "in lower case: shop.example.com"),
            ("my_app.example.com", "(no certificate is issued for them): my-app.example.com"),
            ("b\u{fc}cher.example", "in ASCII, as it is registered (punycode): xn--bcher-kva.example"),
            ("B\u{dc}CHER.example", "in lower case, in ASCII, as it is registered (punycode): xn--bcher-kva.example"),
            ("\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", ": xn--r8jz45g.xn--zckzah"),
            ("https://\u{4f8b}\u{3048}\u{3002}jp/", "without a slash, in ASCII"),
            ("user@shop.example.com", "without a user: shop.example.com"),
            (" shop.example.com", "without white space: shop.example.com"),
            (
                "*.example.com",
                "wildcards are not accepted; write each host in a route of its own, like www.example.com",
            ),
            ("*", "wildcards are not accepted"),
            ("a.*.example.com", "wildcards are not accepted"),
            ("203.0.113.7", "it is an IP address, and routes go by name"),
            ("http://203.0.113.7:80", "it is an IP address"),
            ("[2001:db8::1]", "it is an IP address"),
            ("2001:db8::1", "it is an IP address"),
            ("localhost", "it has one part alone; write the whole name, like localhost.example.com"),
            ("http://shop:3000", "it has one part alone"),
            ("", "it is empty"),
            (":80", "there is no host in it"),
            ("a.com, b.com", "one host per route"),
            ("a.com b.com", "one host per route"),
            ("<host>", "nothing is filled in in a host; write the name itself, like shop.example.com"),
            ("*.*.com", "in a route of its own, like shop.example.com"),
            ("*.B\u{fc}cher.example", "like www.xn--bcher-kva.example"),
            ("a_b", "write the whole name, like shop.example.com"),
            ("{$HOST}.example.com", "nothing is filled in in a host"),
            ("a..example.com", "two in a row"),
            (".example.com", "it begins with a dot"),
            ("-a.example.com", "its part -a begins or ends with a hyphen"),
            ("a.example.123", "its last part 123 is a number"),
            ("a!.example.com", "'!' is not allowed in it"),
            (&format!("{}.example.com", "a".repeat(64)), "has 64 characters, and at most 63"),
            (&"a.".repeat(130), "at most 253"),
        ] {
            assert!(host(raw).contains(says), "{raw}: {}", host(raw));
        }
    }

    /// Every text of up to three of these pieces.
    fn texts(pieces: &[&str]) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut longest = all.clone();
        for _ in 0..3 {
            longest =
                longest.iter().flat_map(|text| pieces.iter().map(move |piece| format!("{text}{piece}"))).collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    #[test]
    fn every_host_that_is_offered_is_accepted() {
        let long = "a".repeat(64);
        let pieces = [
            "*",
            ".",
            "<host>",
            "shop",
            "A_b",
            "-",
            "https://",
            ":80",
            "/x",
            "u@",
            "127.0.0.1",
            "com",
            "7",
            "%",
            "!",
            "[",
            "]",
            "\u{fc}",
            "\u{3002}",
            "\u{1f600}",
            " ",
            "_",
            "stra\u{df}e",
            &long,
        ];
        for raw in texts(&pieces) {
            let Err(refused) = Hostname::parse(&raw) else { continue };
            let said = refused.to_string();
            let offers = ["like ", "write it "].iter().filter_map(|word| said.rsplit_once(word)).map(|(_, after)| {
                let offer = after.rsplit_once(": ").map_or(after, |(_, offer)| offer);
                offer.split([',', ' ']).next().unwrap_or_default()
            });
            for offer in offers.filter(|offer| !offer.starts_with('/')) {
                assert!(Hostname::parse(offer).is_ok(), "{raw:?}: {said}");
            }
        }
    }

    #[test]
    fn every_path_that_is_offered_is_accepted() {
        for raw in texts(&[
            "/", "*", "api", "?x", "#", "{id}", ":id", "<", "(", "^", "$", " ", "https://", ".", "\u{fc}", "%20",
        ]) {
            let Err(refused) = RoutePath::parse(&raw) else { continue };
            let said = refused.to_string();
            if let Some((_, offer)) = said.rsplit_once("; write ") {
                assert!(RoutePath::parse(offer).is_ok(), "{raw:?}: {said}");
            }
        }
    }

    #[test]
    fn each_wrong_path_is_told_what_to_write() {
        let path = |raw: &str| RoutePath::parse(raw).unwrap_err().to_string();
        for (raw, says) in [
            ("api", "write /api"),
            ("api/*", "write /api/*"),
            ("/api?x=1", "write /api"),
            ("/users/{id}", "write /users/*"),
            ("/users/:id/edit", "write /users/*"),
            ("^/api/.*$", "no patterns"),
            ("/a*b", "* stands at the end alone; write /a*"),
            ("https://a.com/x", "a whole URL"),
            ("//evil", "two slashes"),
            ("/a b", "letters, digits"),
        ] {
            assert!(path(raw).contains(says), "{raw}: {}", path(raw));
        }
    }
}
