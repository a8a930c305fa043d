//! What a failed download usually means, and what helps: certificates, connections, answers. Words only.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error as Tls, InvalidMessage, PeerIncompatible};
use url::{Host, Url};

use super::address::Reach;
use crate::model::quantity::Timestamp;

const WITHOUT_LOGIN: &str =
    "use a URL that needs no login, such as a presigned one, or upload the artifact with `zexio deploy`";

/// The environment variables that other programs read their proxy from.
const PROXY_VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

/// What helps where a proxy is the only way out.
pub const WITHOUT_PROXY: &str = "where a proxy is the only way out, serve the artifact inside and name that place in \
                                 `artifacts.allow` of /etc/zexio/agent.yaml, or upload it with `zexio deploy`";

/// Returns which of these variables, in either case, names a proxy.
pub fn proxy_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let is_proxy = |name: &String| PROXY_VARIABLES.contains(&name.to_ascii_uppercase().as_str());
    names.into_iter().filter(is_proxy).collect()
}

/// Explains a request that got no answer. `proxies`: the variables of this process that name a proxy.
pub(super) fn no_answer(url: &Url, reach: Reach, error: &ureq::Error, proxies: &[String]) -> String {
    let at = authority(url);
    if let Some(tls) = tls_error(error) {
        return handshake(url, tls);
    }
    let (said, is_way) = match error {
        ureq::Error::Timeout(ureq::Timeout::Resolve) => (format!("the name server does not answer for {at}"), true),
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            (format!("{at} does not answer: the connection timed out"), true)
        }
        ureq::Error::Timeout(_) => (format!("{at} takes the request and does not answer"), false),
        ureq::Error::HostNotFound => (unresolved(&at, "it has no address"), true),
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => (format!("{at} refused the connection: no server listens there"), true),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                (format!("no way leads to {at}: {error}"), true)
            }
            ErrorKind::TimedOut => (format!("{at} does not answer: the connection timed out"), true),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                (format!("{at} closed the connection without an answer"), false)
            }
            _ if error.to_string().contains("lookup address") => (unresolved(&at, &error.to_string()), true),
            _ => (format!("no answer from {at}: {error}"), false),
        },
        error => (format!("no answer from {at}: {error}"), false),
    };
    match is_way && !is_here(url, reach) {
        true => said + &direct(reach, proxies),
        false => said,
    }
}

fn unresolved(at: &str, cause: &str) -> String {
    format!("the name of {at} does not resolve ({cause}); is it spelled right?")
}

/// Says that the agent connects directly, where that may be the cause.
fn direct(reach: Reach, proxies: &[String]) -> String {
    match (proxies, reach) {
        ([], Reach::Internet) => format!("; the agent connects directly, without a proxy: {WITHOUT_PROXY}"),
        ([], _) => String::new(),
        (set, _) => format!("; the agent connects directly, {} is not used: {WITHOUT_PROXY}", set.join(", ")),
    }
}

/// Returns whether a URL names this machine, which no proxy leads to.
fn is_here(url: &Url, reach: Reach) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    reach == Reach::ThisMachine || loopback
}

/// Returns a URL's host, with its port unless that is the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn tls_error(error: &ureq::Error) -> Option<&Tls> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => inner(error),
        _ => None,
    }
}

fn inner(error: &io::Error) -> Option<&Tls> {
    let mut cause: &(dyn std::error::Error + 'static) = error.get_ref()?;
    loop {
        match cause.downcast_ref::<Tls>() {
            Some(found) => return Some(found),
            None => cause = cause.source()?,
        }
    }
}

/// Explains a TLS handshake that failed.
fn handshake(url: &Url, error: &Tls) -> String {
    let at = authority(url);
    match error {
        Tls::InvalidCertificate(cause) => {
            format!("the certificate of {at} is not accepted: {}", certificate(url, cause))
        }
        Tls::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => format!(
            "{at} does not speak TLS on this port; is it plain http? that is fetched from this machine, and from the \
             places in `artifacts.allow` of /etc/zexio/agent.yaml"
        ),
        Tls::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{at} asks for a client's certificate, and the agent has none; {WITHOUT_LOGIN}")
        }
        Tls::AlertReceived(AlertDescription::UnrecognisedName | AlertDescription::InternalError) => format!(
            "{at} has no certificate for this name ({error}); is the host spelled right, and does that server serve it?"
        ),
        Tls::AlertReceived(AlertDescription::ProtocolVersion)
        | Tls::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => format!("{at} speaks only a TLS older than 1.2; let it speak TLS 1.2 or 1.3"),
        Tls::AlertReceived(AlertDescription::HandshakeFailure) | Tls::PeerIncompatible(_) => format!(
            "{at} and the agent have no way of encryption in common ({error}); let it offer TLS 1.3, or TLS 1.2 with \
             ECDHE and AES-GCM or ChaCha20, and does it serve this name?"
        ),
        Tls::General(cause) if cause.contains("No CA certificates") => {
            "this server has no certificates of authorities \
             to check the artifact's server with; install the package ca-certificates, and the next try reads them"
                .to_owned()
        }
        error => format!("the TLS handshake with {at} failed: {error}"),
    }
}

fn certificate(url: &Url, cause: &CertificateError) -> String {
    let clock = "if it is this server's clock that is wrong, `timedatectl` shows it";
    match cause {
        CertificateError::UnknownIssuer => "no authority that this server trusts signed it (UnknownIssuer). Of your own \
             CA: put the CA's certificate as a .crt file into /usr/local/share/ca-certificates and run \
             `update-ca-certificates` (RHEL, Fedora: /etc/pki/ca-trust/source/anchors, `update-ca-trust`); the next try \
             reads it, no restart. Of a public CA: the artifact's server leaves out the intermediate certificate; let it \
             send the full chain (fullchain.pem)"
            .to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            let (now, end) = (at(time.as_secs()), at(not_after.as_secs()));
            format!("it expired at {end}, and it is {now} here; renew it on that server; {clock}")
        }
        CertificateError::Expired => format!("it expired; renew it on that server; {clock}"),
        CertificateError::NotValidYetContext { time, not_before } => {
            let (now, begin) = (at(time.as_secs()), at(not_before.as_secs()));
            format!("it is valid from {begin} on, and it is {now} here; {clock}")
        }
        CertificateError::NotValidYet => format!("it is not valid yet; {clock}"),
        CertificateError::NotValidForNameContext { presented, .. } => wrong_name(url, presented),
        CertificateError::NotValidForName => wrong_name(url, &[]),
        CertificateError::Revoked => "it was revoked; that server needs a new one".to_owned(),
        CertificateError::BadEncoding => "it is not well formed; that server needs a new one".to_owned(),
        cause => other(&format!("{cause:?}")),
    }
}

fn wrong_name(url: &Url, presented: &[String]) -> String {
    let host = url.host_str().unwrap_or_default();
    if presented.is_empty() {
        return format!(
            "it names no host at all: subjectAltName counts, the common name (CN) does not; that server needs one with \
             {host} in subjectAltName"
        );
    }
    let names: Vec<String> = presented.iter().take(5).map(|name| plain_name(name)).collect();
    let more = presented.len().checked_sub(5).filter(|more| *more > 0);
    let more = more.map_or_else(String::new, |more| format!(" and {more} more"));
    format!(
        "it is for {}{more}, not for {host}; use a name that it is for, or let that server show one for {host}",
        names.join(", ")
    )
}

/// `DnsName("a.com")`: what the library shows of a name.
fn plain_name(shown: &str) -> String {
    let name = shown.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")).unwrap_or(shown);
    name.chars().filter(|c| c.is_ascii_graphic()).take(100).collect()
}

/// The rest has no names of its own in the library.
fn other(cause: &str) -> String {
    if cause.contains("CaUsedAsEndEntity") {
        "it is a CA's own (CA:TRUE, as `openssl req -x509` makes them), which no server may show. Sign one for the server \
         with that CA, or make the self-signed one with -addext basicConstraints=CA:FALSE; then put it into \
         /usr/local/share/ca-certificates as a .crt file and run `update-ca-certificates`"
            .to_owned()
    } else if cause.contains("UnsupportedCertVersion") {
        "it is of version 1, without a subjectAltName; that server needs one of version 3, with its host in \
         subjectAltName"
            .to_owned()
    } else if cause.contains("EkuError") || cause.contains("InvalidPurpose") {
        "it is not for servers; that server needs one with extendedKeyUsage serverAuth".to_owned()
    } else if cause.contains("UnsupportedSignatureAlgorithm") {
        "it is signed in a way that is not accepted any more, such as SHA-1 or RSA below 2048 bits; that server needs a \
         new one"
            .to_owned()
    } else {
        format!("{cause}; `openssl s_client -connect {{HOST}}:443 -servername {{HOST}} -showcerts` shows it")
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1000))
}

/// Names where a redirect leads, and whether that looks like a login. The server chose the path: it is not shown.
pub fn redirected(target: &Url) -> String {
    const LOGINS: [&str; 8] = ["login", "signin", "sign_in", "sign-in", "oauth", "saml", "sso", "authorize"];
    let path = target.path().to_ascii_lowercase();
    let host = target.host_str().unwrap_or("no host");
    let is_login = path.split('/').any(|part| LOGINS.iter().any(|login| part.starts_with(login)))
        || LOGINS.iter().any(|login| host.starts_with(&format!("{login}.")));
    if is_login { format!("{host} (a login)") } else { host.to_owned() }
}

/// Explains what a status usually means and what helps, after "answered STATUS"; empty if there is nothing to add. The
/// agent has no credentials for any server.
pub fn status(status: u16) -> String {
    match status {
        202 => ": it is still preparing the file; name a URL that answers with the file itself".to_owned(),
        _ if (201..=299).contains(&status) => {
            ": that is no download; name the URL that answers 200 with the file".to_owned()
        }
        _ if (300..=399).contains(&status) => {
            ": it redirects without saying where to; name the URL that it means".to_owned()
        }
        400 => {
            ": it does not understand the request; is the URL whole, with its signature and query, and is http meant \
                where https is spoken?"
                .to_owned()
        }
        401 => format!(": it asks for a login, and the agent has none; {WITHOUT_LOGIN}"),
        402 => ": its account is to be paid first, or its quota is used up".to_owned(),
        403 => format!(
            ": the file is private or not there, or a presigned URL is over; the agent has no login, so {WITHOUT_LOGIN}"
        ),
        404 => format!(
            ": there is no such file, or it is private, as a private repository's are, and the agent has no login; \
             {WITHOUT_LOGIN}"
        ),
        405 => ": it takes no GET there; is this the URL to upload to, and not the one to download from?".to_owned(),
        406 | 415 => ": it does not send the file to a plain GET; name a URL for downloads".to_owned(),
        407 => format!(
            ": a proxy on the way asks for a login, and the agent uses no proxy and has no login; {WITHOUT_PROXY}"
        ),
        410 => ": the file was there and was removed for good; name one that is there, or publish it again".to_owned(),
        408 | 425 => ": it gave up waiting; it is asked again".to_owned(),
        414 | 431 => ": the URL is longer than it takes".to_owned(),
        416 => ": it sends only parts of the file; name the URL of the whole file".to_owned(),
        421 => ": it does not serve this host; is the name spelled right?".to_owned(),
        429 => limit(None),
        451 => ": it may not send the file, by law; serve it from another place".to_owned(),
        502..=504 => ": it is down, or what stands behind it".to_owned(),
        511 => format!(": the network asks for a login before it leads out; {WITHOUT_PROXY}"),
        _ if (500..=599).contains(&status) => ": it has a fault of its own".to_owned(),
        _ if (400..=499).contains(&status) => {
            ": it refuses; `curl -I` with the same URL on this server shows more, and a download answers 200".to_owned()
        }
        _ => String::new(),
    }
}

/// Explains a refusal because of too many requests. `asked`: how long the server asks to wait.
pub(super) fn limit(asked: Option<Duration>) -> String {
    let when = asked.map(|asked| format!("; the server takes more in {} s", asked.as_secs())).unwrap_or_default();
    format!(
        ": too many requests in a short time, a rate limit{when}. A host with fewer limits, or an upload with \
         `zexio deploy`, avoids that"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(raw: &str) -> Url {
        Url::parse(raw).unwrap()
    }

    fn of(error: impl Into<ureq::Error>) -> String {
        no_answer(&url("https://files.example.com:8443/a.tar"), Reach::Internet, &error.into(), &[])
    }

    fn tls(error: Tls) -> String {
        of(io::Error::new(ErrorKind::InvalidData, error))
    }

    #[test]
    fn each_bad_certificate_is_named_with_what_helps() {
        use CertificateError::*;
        let time = rustls::pki_types::UnixTime::since_unix_epoch;
        let (now, then) = (time(std::time::Duration::from_secs(1_790_000_000)), time(std::time::Duration::ZERO));
        let expected = rustls::pki_types::ServerName::try_from("files.example.com").unwrap();
        let names = |names: &[&str]| NotValidForNameContext {
            expected: expected.clone(),
            presented: names.iter().map(|name| format!("DnsName({name:?})")).collect(),
        };
        let of_library = |text: &'static str| Other(rustls::OtherError(std::sync::Arc::new(io::Error::other(text))));
        for (cause, says) in [
            (UnknownIssuer, "run `update-ca-certificates`"),
            (UnknownIssuer, "intermediate certificate; let it send the full chain"),
            (ExpiredContext { time: now, not_after: then }, "it expired at 1970-01-01T00:00:00.000Z, and it is 2026-"),
            (NotValidYetContext { time: then, not_before: now }, "it is 1970-01-01T00:00:00.000Z here; if it is this"),
            (names(&["a.com", "*.b.com"]), "it is for a.com, *.b.com, not for files.example.com"),
            (names(&["1", "2", "3", "4", "5", "6", "7"]), "1, 2, 3, 4, 5 and 2 more"),
            (names(&[]), "it names no host at all: subjectAltName counts"),
            (of_library("CaUsedAsEndEntity"), "basicConstraints=CA:FALSE"),
            (of_library("UnsupportedCertVersion"), "of version 1"),
            (InvalidPurpose, "extendedKeyUsage serverAuth"),
            (Revoked, "it was revoked"),
            (of_library("PathLenConstraintViolated"), "PathLenConstraintViolated"),
        ] {
            let said = tls(Tls::InvalidCertificate(cause));
            assert!(said.contains("the certificate of files.example.com:8443") && said.contains(says), "{said}");
        }
    }

    #[test]
    fn a_handshake_that_fails_says_what_the_server_speaks() {
        for (error, says) in [
            (Tls::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS on this port"),
            (Tls::AlertReceived(AlertDescription::CertificateRequired), "asks for a client's certificate"),
            (Tls::AlertReceived(AlertDescription::UnrecognisedName), "has no certificate for this name"),
            (Tls::AlertReceived(AlertDescription::ProtocolVersion), "older than 1.2"),
            (Tls::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), "older than 1.2"),
            (Tls::AlertReceived(AlertDescription::HandshakeFailure), "encryption in common"),
            (Tls::General("No CA certificates were loaded from the system".to_owned()), "package ca-certificates"),
        ] {
            assert!(tls(error.clone()).contains(says), "{error}: {}", tls(error.clone()));
            assert!(of(ureq::Error::Rustls(error)).contains(says));
        }
    }

    #[test]
    fn a_place_that_is_not_reached_is_told_with_the_proxy_that_is_not_used() {
        let kind = |kind: ErrorKind| ureq::Error::Io(kind.into());
        let proxies = ["https_proxy".to_owned()];
        for error in [
            kind(ErrorKind::ConnectionRefused),
            kind(ErrorKind::NetworkUnreachable),
            kind(ErrorKind::TimedOut),
            ureq::Error::Timeout(ureq::Timeout::Connect),
            ureq::Error::Timeout(ureq::Timeout::Resolve),
            ureq::Error::HostNotFound,
            ureq::Error::Io(io::Error::other("failed to lookup address information: Name or service not known")),
        ] {
            let said = |raw: &str, reach, proxies: &[String]| no_answer(&url(raw), reach, &error, proxies);
            let public = said("https://a.com/x", Reach::Internet, &[]);
            assert!(public.contains("directly, without a proxy: where a proxy is the only way out"), "{public}");
            let set = said("https://a.com/x", Reach::Internet, &proxies);
            assert!(set.contains("https_proxy is not used: where a proxy is the only way out"), "{set}");
            assert!(said("http://10.0.0.7/x", Reach::Anywhere, &proxies).contains("https_proxy is not used"));
            assert!(!said("http://10.0.0.7/x", Reach::Anywhere, &[]).contains("proxy"));
            assert!(!said("http://localhost/x", Reach::ThisMachine, &proxies).contains("proxy"));
            assert!(!said("http://127.0.0.1:9/x", Reach::Anywhere, &proxies).contains("proxy"));
        }
        assert!(!of(kind(ErrorKind::ConnectionReset)).contains("proxy"));
    }

    #[test]
    fn a_redirect_to_a_login_is_known() {
        for raw in ["https://a.com/users/sign_in?to=x", "https://login.a.com/x", "https://a.com/oauth2/authorize"] {
            assert!(redirected(&url(raw)).ends_with(" (a login)"), "{raw}");
        }
        assert_eq!(redirected(&url("https://cdn.a.com/authors/SECRET.tar")), "cdn.a.com");
    }

    #[test]
    fn only_variables_that_name_a_proxy_count() {
        let names = ["PATH", "https_proxy", "HTTP_PROXY", "NO_PROXY", "all_proxy"].map(str::to_owned);
        assert_eq!(proxy_variables(names), ["https_proxy", "HTTP_PROXY", "all_proxy"]);
    }

    #[test]
    fn each_status_but_200_says_what_to_do() {
        for code in 201..600 {
            assert!(status(code).len() > 20, "{code}");
        }
        assert!(status(407).contains("proxy") && status(410).contains("removed for good"));
    }
}
