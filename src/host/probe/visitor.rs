//! Requests to Caddy by a public name, each repeated as often as its purpose needs, beside the loop. The results are a
//! cache: a new agent asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::host::plain_http;
use crate::model::observed::{Purpose, Visit, Visited};
use crate::model::quantity::Timestamp;
use crate::model::spec::{ProbeRequest, Tls};
use crate::port::Clock;
use crate::trigger::TriggerSender;

use super::language::{self, Language};
use super::visit;

/// The template sets it on errors that Caddy itself generates when the app does not answer.
const MARK: &str = "x-zexio-error";
/// How many requests run in parallel.
const WORKERS: usize = 4;
/// Longer than Caddy tries to reach an app that does not answer.
const CHECK_WITHIN: Duration = Duration::from_secs(8);
/// Bounds of a verification request's timeout, which is the time left. The upper bound is longer than Caddy tries to
/// reach an app that does not answer, so that its 502 is seen.
const VERIFY_WITHIN: (Duration, Duration) = (Duration::from_secs(1), CHECK_WITHIN);
/// The pause between two requests of a verification.
const VERIFY_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two checks of a failing route.
const CHECK_PAUSE: Duration = Duration::from_secs(5);
/// How long Caddy may refuse a visitor while it makes the certificate of a site with `tls: internal`, which it begins when
/// it takes the site.
const CERTIFICATE_WITHIN: Duration = Duration::from_secs(3);
/// The pause between two requests meanwhile.
const CERTIFICATE_PAUSE: Duration = Duration::from_millis(50);
/// How much of a response is read.
const BODY: u64 = 1 << 20;
/// How much of it is looked at.
const HEAD: u64 = 2048;

/// The requested visits and their results.
#[derive(Clone)]
pub struct Visitor {
    clock: Arc<dyn Clock>,
    trigger: TriggerSender,
    visits: Arc<(Mutex<BTreeMap<Visit, Entry>>, Condvar)>,
    started: Arc<Once>,
    /// Caddy's port without TLS, if another web server stands in front of it.
    behind: Option<u16>,
}

#[derive(Default)]
struct Entry {
    /// None once the result is final.
    due: Option<Instant>,
    busy: bool,
    tries: u32,
    found: Option<Visited>,
}

/// The result of one request.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    well: bool,
    unanswered: bool,
    said: String,
}

impl Visitor {
    /// Creates a visitor without visits.
    pub fn new(clock: Arc<dyn Clock>, trigger: TriggerSender, behind: Option<u16>) -> Self {
        Self { clock, trigger, visits: Arc::default(), started: Arc::new(Once::new()), behind }
    }

    /// Replaces the set of visits.
    pub fn visit(&self, wanted: &BTreeSet<Visit>) {
        if !wanted.is_empty() {
            self.started.call_once(|| self.start());
        }
        let mut visits = self.lock();
        visits.retain(|visit, _| wanted.contains(visit));
        for visit in wanted {
            let new = || Entry { due: Some(Instant::now()), ..Entry::default() };
            visits.entry(visit.clone()).or_insert_with(new);
        }
        self.visits.1.notify_all();
    }

    /// Returns the results so far.
    pub fn visited(&self) -> BTreeMap<Visit, Visited> {
        let visits = self.lock();
        visits.iter().filter_map(|(visit, entry)| Some((visit.clone(), entry.found.clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Visit, Entry>> {
        self.visits.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        for _ in 0..WORKERS {
            let visitor = self.clone();
            let work = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => visitor.work(&runtime),
                Err(error) => tracing::error!("could not begin to ask Caddy for routes: {error}"),
            };
            if let Err(error) = thread::Builder::new().name("visit".into()).spawn(work) {
                tracing::error!("could not begin to ask Caddy for routes: {error}");
            }
        }
    }

    fn work(&self, runtime: &Runtime) {
        loop {
            let visit = self.next();
            let timeout = timeout(visit.purpose, self.clock.now());
            let answer = ask(&visit, &Entrance::of(visit.tls, self.behind), timeout, runtime);
            self.note(&visit, answer);
        }
    }

    /// Waits for the next visit that is due.
    fn next(&self) -> Visit {
        let mut visits = self.lock();
        loop {
            let idle = visits.iter().filter(|(_, entry)| !entry.busy);
            let next = idle.filter_map(|(visit, entry)| Some((entry.due?, visit.clone()))).min();
            let wait = match next {
                Some((due, visit)) if due <= Instant::now() => {
                    if let Some(entry) = visits.get_mut(&visit) {
                        entry.busy = true;
                    }
                    return visit;
                }
                Some((due, _)) => due.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            visits = self.visits.1.wait_timeout(visits, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn note(&self, visit: &Visit, answer: Answer) {
        let now = self.clock.now();
        let mut visits = self.lock();
        let Some(entry) = visits.get_mut(visit) else { return };
        entry.busy = false;
        entry.tries += 1;
        entry.due = pause(visit.purpose, &answer, entry.tries, now).map(|pause| Instant::now() + pause);
        let mut transcript = entry.found.as_ref().map(|old| old.transcript.clone()).unwrap_or_default();
        let news = entry.found.as_ref().is_none_or(|old| old.last != answer.said);
        if news {
            visit::write_down(&mut transcript, now, &answer.said);
        }
        let Answer { well, unanswered, said } = answer;
        entry.found = Some(Visited { at: now, well, unanswered, last: said, transcript });
        if news || entry.due.is_none() {
            self.trigger.changed();
        }
    }
}

fn timeout(purpose: Purpose, now: Timestamp) -> Duration {
    match purpose {
        Purpose::Check => CHECK_WITHIN,
        Purpose::Verify { until, .. } => until.since(now).as_duration().clamp(VERIFY_WITHIN.0, VERIFY_WITHIN.1),
    }
}

/// Returns when to ask again; None if the result is final.
fn pause(purpose: Purpose, answer: &Answer, tries: u32, now: Timestamp) -> Option<Duration> {
    match purpose {
        Purpose::Verify { until, .. } => (!answer.well && now < until).then_some(VERIFY_PAUSE),
        Purpose::Check => answer.unanswered.then(|| Duration::from_secs(1 << tries.min(4)).min(CHECK_PAUSE)),
    }
}

/// Where Caddy takes the requests to a route.
struct Entrance {
    caddy: SocketAddr,
    /// The scheme used to reach Caddy.
    scheme: &'static str,
    /// The scheme that visitors use.
    public: &'static str,
    /// Whether Caddy needs a public certificate to accept visitors.
    certified: bool,
}

impl Entrance {
    fn of(tls: Tls, behind: Option<u16>) -> Self {
        let (public, port) = if tls == Tls::Off { ("http", 80) } else { ("https", 443) };
        let (scheme, port) = behind.map_or((public, port), |port| ("http", port));
        let caddy = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { caddy, scheme, public, certified: tls == Tls::Auto && behind.is_none() }
    }
}

fn ask(visit: &Visit, entrance: &Entrance, timeout: Duration, runtime: &Runtime) -> Answer {
    let Visit { host, path, process, .. } = visit;
    let Entrance { caddy, scheme, public, certified } = *entrance;
    let shown = format!("GET {public}://{host}{path}");
    if let Err(error) = TcpStream::connect_timeout(&caddy, timeout) {
        let said = format!("{shown} failed: could not connect to Caddy on {caddy}: {error}");
        return Answer { well: false, unanswered: false, said };
    }
    let app = |path: &str| {
        let request = ProbeRequest::to(host.as_str(), path, visit.tls != Tls::Off, visit.h2c);
        Some(visit::get_now(visit.port?, &request, timeout.min(VERIFY_WITHIN.1), runtime, Some(&Language::default())))
    };
    let request = || through_caddy(&format!("{scheme}://{host}{path}"), public, caddy, timeout);
    let patience = if visit.tls == Tls::Internal { timeout.min(CERTIFICATE_WITHIN) } else { Duration::ZERO };
    match until_accepted(request, patience) {
        Ok((status, Caught::Answer(Some(tls)))) => Answer {
            well: false,
            unanswered: true,
            said: format!("{shown} answered {status}; process {process}: {tls}"),
        },
        Ok((status, Caught::Unanswered)) => {
            let why = app(path).and_then(Result::err).map_or(String::new(), |why| format!("; on its port {why}"));
            let said = format!("{shown} answered {status}, since Caddy gets no answer from process {process}{why}");
            Answer { well: false, unanswered: true, said }
        }
        Ok((status, Caught::Answer(None))) => {
            let said = format!("{shown} answered {status}");
            Answer { well: (200..400).contains(&status), unanswered: false, said }
        }
        // A public certificate may take a while, and until then Caddy accepts no visitor: the app itself is asked.
        Err(_) if certified && visit.port.is_some() => {
            let unasked = "Caddy has no certificate yet, so the app was asked itself";
            match app(path) {
                Some(Err(why)) => {
                    Answer { well: false, unanswered: true, said: format!("{shown} failed: {unasked}: {why}") }
                }
                Some(Ok(status)) => {
                    let said = format!("{shown} answered {status}; {unasked}");
                    Answer { well: (200..400).contains(&status), unanswered: false, said }
                }
                None => Answer { well: false, unanswered: false, said: format!("{shown} failed: {unasked}") },
            }
        }
        Err(error) => {
            let cause = match error {
                ureq::Error::Timeout(_) => format!("no answer within {} s", timeout.as_secs()),
                error => error.to_string(),
            };
            let why = app(path).and_then(Result::err).map_or(String::new(), |why| format!("; on its port {why}"));
            Answer { well: false, unanswered: false, said: format!("{shown} failed: {cause}{why}") }
        }
    }
}

/// Who made an answer that came through Caddy.
enum Caught {
    /// Caddy: the app did not answer.
    Unanswered,
    /// The app; and if it was asked without TLS, and wants it, what that means.
    Answer(Option<&'static str>),
}

/// Asks Caddy on this machine, whatever the name resolves to elsewhere; its certificate is not verified, since no other
/// process can listen there. `public`: the scheme that visitors use, which a web server in front of Caddy would
/// forward.
fn through_caddy(url: &str, public: &str, caddy: SocketAddr, timeout: Duration) -> Result<(u16, Caught), ureq::Error> {
    let config = plain_http()
        .tls_config(TlsConfig::builder().disable_verification(true).build())
        .timeout_global(Some(timeout))
        .build();
    let agent = Agent::with_parts(config, DefaultConnector::default(), Here(caddy));
    let answer = agent.get(url).header("connection", "close").header("x-forwarded-proto", public).call()?;
    let (status, marked) = (answer.status().as_u16(), answer.headers().contains_key(MARK));
    // The rest of the body does not matter, but an unread one would show up in the app's log.
    let (mut head, mut body) = (Vec::new(), answer.into_body().into_reader().take(BODY));
    let _ = body.by_ref().take(HEAD).read_to_end(&mut head);
    let _ = std::io::copy(&mut body, &mut std::io::sink());
    let caught = match marked {
        true => Caught::Unanswered,
        false => Caught::Answer(language::wants_tls(&head).filter(|_| status == 400)),
    };
    Ok((status, caught))
}

/// Repeats a request that was refused, for this long.
fn until_accepted<T>(request: impl Fn() -> Result<T, ureq::Error>, patience: Duration) -> Result<T, ureq::Error> {
    let end = Instant::now() + patience;
    loop {
        match request() {
            Err(error) if !matches!(error, ureq::Error::Timeout(_)) && Instant::now() < end => {
                thread::sleep(CERTIFICATE_PAUSE);
            }
            done => return done,
        }
    }
}

/// Resolves every name to one address.
#[derive(Debug)]
struct Here(SocketAddr);

impl Resolver for Here {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;
    use crate::model::names::{ProcessName, ReleaseNo};

    /// Listens on a free port and answers each request with these bytes.
    fn serve(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // A connection that only tests whether the port is open sends nothing.
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer);
                }
            }
        });
        address
    }

    #[test]
    fn before_caddy_has_a_public_certificate_the_app_itself_is_asked() {
        // Caddy's response to a name without a certificate: a fatal alert, internal error.
        let caddy = serve(b"\x15\x03\x03\x00\x02\x02\x50");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let of = |tls: Tls, app: &'static [u8]| {
            let visit = Visit {
                project: "shop".parse().unwrap(),
                release: ReleaseNo(1),
                process: ProcessName::parse("web").unwrap(),
                host: "shop.example.com".parse().unwrap(),
                tls,
                path: "/up".into(),
                port: Some(serve(app).port()),
                h2c: false,
                run: None,
                purpose: Purpose::Check,
            };
            ask(&visit, &Entrance { caddy, ..Entrance::of(tls, None) }, Duration::from_secs(20), &runtime)
        };
        let asked = "Caddy has no certificate yet, so the app was asked itself";
        for (app, well, unanswered, says) in [
            (b"HTTP/1.1 204 No Content\r\n\r\n".as_slice(), true, false, "answered 204"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false, false, "answered 404"),
            (b"\0\0\0\x04\0\0\0\0\0", false, true, "then set h2c: true"),
        ] {
            let answer = of(Tls::Auto, app);
            assert_eq!((answer.well, answer.unanswered), (well, unanswered), "{answer:?}");
            assert!(answer.said.contains(asked) && answer.said.contains(says), "{answer:?}");
        }
        let own = of(Tls::Internal, b"HTTP/1.1 204 No Content\r\n\r\n");
        assert!(!own.well && !own.said.contains(asked), "{own:?}");
        assert!(!Entrance::of(Tls::Auto, Some(7480)).certified, "a web server in front has the certificate");
    }

    #[test]
    fn a_visitor_waits_for_a_certificate_that_caddy_makes_itself() {
        let tries = std::cell::Cell::new(0);
        let refused = |times: u32| {
            tries.set(0);
            move |tries: &std::cell::Cell<u32>| {
                tries.set(tries.get() + 1);
                if tries.get() > times { Ok(tries.get()) } else { Err(ureq::Error::ConnectionFailed) }
            }
        };
        let ask = |times, patience| {
            let request = refused(times);
            until_accepted(|| request(&tries), patience).ok()
        };
        assert_eq!(ask(3, Duration::from_secs(60)), Some(4));
        assert_eq!(ask(u32::MAX, Duration::from_millis(200)), None);
        assert!(tries.get() > 1);
        assert_eq!(ask(1, Duration::ZERO), None, "another kind of site");
    }

    fn answer(well: bool, unanswered: bool) -> Answer {
        Answer { well, unanswered, said: String::new() }
    }

    #[test]
    fn a_verification_asks_until_it_is_well_or_its_time_is_over() {
        let purpose = Purpose::Verify { since: Timestamp(10_000), until: Timestamp(20_000) };
        let again = |well, now| pause(purpose, &answer(well, !well), 3, Timestamp(now));
        assert_eq!(again(false, 19_999), Some(VERIFY_PAUSE));
        assert_eq!((again(false, 20_000), again(true, 11_000)), (None, None));
        for (now, seconds) in [(10_000, 8), (17_000, 3), (19_900, 1), (99_000, 1)] {
            assert_eq!(timeout(purpose, Timestamp(now)), Duration::from_secs(seconds), "at {now}");
        }
    }

    #[test]
    fn a_route_is_checked_once_and_again_only_while_it_fails() {
        let again = |unanswered, tries| pause(Purpose::Check, &answer(false, unanswered), tries, Timestamp(0));
        assert_eq!(again(false, 1), None, "an app that answers 500 answers");
        let pauses: Vec<u64> = (1..40).filter_map(|tries| again(true, tries)).map(|pause| pause.as_secs()).collect();
        assert_eq!((&pauses[..4], pauses.len()), (&[2, 4, 5, 5][..], 39));
    }
}
