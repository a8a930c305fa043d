//! Downloads from servers that lie, stall and disconnect.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use super::*;
use crate::model::reason::Reason;
use crate::port::Retry;

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// Answers consecutive connections with the given bytes, then exits.
fn server(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            skip_request(&stream, answer.starts_with("HTTP/"));
            // A client that has read enough hangs up.
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    base
}

/// Reads up to the empty line; of anything but HTTP, a part.
fn skip_request(mut stream: &std::net::TcpStream, is_http: bool) {
    if !is_http {
        let _ = stream.read(&mut [0; 4096]);
        return;
    }
    let mut lines = BufReader::new(stream).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
}

fn ok(body: &str) -> String {
    answer("200 OK", &format!("content-length: {}\r\n", body.len()), body)
}

struct Case {
    dir: tempfile::TempDir,
    rules: FetchRules,
    stop: AtomicBool,
}

impl Case {
    fn new() -> Self {
        let rules = FetchRules { allow: Vec::new(), max_bytes: 1000 };
        Self { dir: tempfile::tempdir().unwrap(), rules, stop: AtomicBool::new(false) }
    }

    fn fetch(&self, url: &str, want: Option<&str>) -> Result<Fetched, PortError> {
        let want = want.map(|want| Sha256::parse(want).unwrap());
        fetch(url, want.as_ref(), &self.rules, self.dir.path(), &|_, _| {}, &self.stop)
    }

    /// Fetches, and checks that the failure left no file and leaked no secret.
    fn fail(&self, url: &str) -> PortError {
        let error = self.fetch(&format!("{url}/a.tar?token=SECRET"), Some(&HELLO.replace('2', "3"))).unwrap_err();
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 0, "{error}");
        assert!(!error.message.contains("SECRET"), "{error}");
        error
    }
}

#[test]
fn a_good_artifact_lies_complete_in_the_directory() {
    let case = Case::new();
    let last = Cell::new((0, None));
    let url = server(vec![ok("hello")]);
    let want = Sha256::parse(HELLO).unwrap();
    let told = |bytes, of| last.set((bytes, of));
    let fetched = fetch(&url, Some(&want), &case.rules, case.dir.path(), &told, &case.stop).unwrap();
    assert_eq!((fetched.sha256, fetched.bytes, last.get()), (want.clone(), 5, (5, Some(5))));
    assert_eq!(fs::read(&fetched.path).unwrap(), b"hello");
    assert_eq!(hash_file(&fetched.path).unwrap(), (want, 5));
    assert_eq!(fetched.path.parent(), Some(case.dir.path()));
}

#[test]
fn an_answer_without_a_length_is_taken_until_it_ends() {
    let url = server(vec![answer("200 OK", "", "hello")]);
    assert_eq!(Case::new().fetch(&url, Some(HELLO)).unwrap().bytes, 5);
    let url = server(vec![answer("200 OK", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")]);
    assert_eq!(Case::new().fetch(&url, Some(HELLO)).unwrap().bytes, 5);
}

#[test]
fn each_bad_answer_has_its_reason_and_says_whether_it_may_pass() {
    let chunked = "transfer-encoding: chunked\r\n";
    let big = "x".repeat(1001);
    for (answer, retry, reason, text) in [
        (ok("other"), Retry::Never, Reason::HashMismatch, "want 3cf"),
        (answer("200 OK", "content-length: 9\r\n", "SECRET"), Retry::Later, Reason::ArtifactFailed, "truncated: 6/9"),
        (answer("200 OK", chunked, "9\r\nSECRET"), Retry::Later, Reason::ArtifactFailed, "truncated: 6/"),
        (answer("200 OK", "content-length: 1001\r\n", ""), Retry::Never, Reason::ArtifactTooLarge, "1000 bytes"),
        (answer("200 OK", "", &big), Retry::Never, Reason::ArtifactTooLarge, "1000 bytes"),
        (
            answer("404 SECRET", "", "SECRET"),
            Retry::WhenPresent,
            Reason::ArtifactFailed,
            "127.0.0.1 answered 404: there is no such file, or it is private",
        ),
        (answer("400 x", "", "SECRET"), Retry::Never, Reason::ArtifactFailed, "400"),
        (answer("401 x", "", "SECRET"), Retry::Never, Reason::ArtifactFailed, "401: it asks for a login"),
        (answer("403 x", "", "SECRET"), Retry::WhenPresent, Reason::ArtifactFailed, "403: the file is private"),
        (answer("410 x", "", "SECRET"), Retry::Never, Reason::ArtifactFailed, "410: the file was there"),
        (answer("407 x", "", "SECRET"), Retry::Never, Reason::ArtifactFailed, "407: a proxy on the way asks"),
        (answer("429 x", "", "SECRET"), Retry::Later, Reason::ArtifactFailed, "429: too many requests"),
        (answer("202 x", "", "SECRET"), Retry::WhenPresent, Reason::ArtifactFailed, "202: it is still preparing"),
        (answer("302 x", "", "SECRET"), Retry::Never, Reason::ArtifactFailed, "302: it redirects without"),
        (answer("206 x", "", "SECRET"), Retry::Never, Reason::ArtifactFailed, "206"),
        (answer("304 x", "", ""), Retry::Never, Reason::ArtifactFailed, "304"),
        (answer("408 x", "", "SECRET"), Retry::Later, Reason::ArtifactFailed, "408"),
        (answer("500 x", "", "SECRET"), Retry::Later, Reason::ArtifactFailed, "500"),
        ("SECRET\r\n\r\n".to_owned(), Retry::Later, Reason::ArtifactFailed, "127.0.0.1"),
    ] {
        let error = Case::new().fail(&server(vec![answer.clone()]));
        assert_eq!((error.retry, error.reason), (retry, reason), "{answer}: {error}");
        assert!(error.message.contains(text), "{error}");
    }
}

#[test]
fn a_page_or_an_error_in_the_files_place_is_named_and_never_quoted() {
    let page = "<!doctype html><title>SECRET</title>";
    let login = |location: &str| answer("302 x", &format!("location: {location}\r\n"), "");
    for (answers, reason, text) in [
        (vec![ok(page)], Reason::ArtifactFailed, "the answer is not the file but a web page; the URL leads to a page"),
        (vec![ok("{\"SECRET\": 1}")], Reason::ArtifactFailed, "the answer is not the file but JSON"),
        (
            vec![login("/sign_in?to=SECRET"), ok(page)],
            Reason::ArtifactFailed,
            "the answer, after a redirect to 127.0.0.1 (a login), is not the file but a web page",
        ),
    ] {
        let url = server(answers);
        let mut case = Case::new();
        case.rules.allow = vec![url.clone()];
        let error = case.fetch(&url, None).unwrap_err();
        assert_eq!((error.retry, error.reason), (Retry::Never, reason));
        assert!(error.message.contains(text) && !error.message.contains("SECRET"), "{error}");
        assert_eq!(fs::read_dir(case.dir.path()).unwrap().count(), 0, "{error}");
    }
    let error = Case::new().fail(&server(vec![ok(page)]));
    assert_eq!(error.reason, Reason::HashMismatch);
    assert!(error.message.contains("; the answer is not the file but a web page"), "{error}");
}

#[test]
fn retry_after_is_honoured_up_to_ten_minutes() {
    for (given, want) in [("7", Some(7)), ("86400", Some(600)), ("soon", None), ("-1", None)] {
        let header = format!("retry-after: {given}\r\n");
        for status in ["503 x", "429 x"] {
            let error = Case::new().fail(&server(vec![answer(status, &header, "")]));
            assert_eq!((error.retry, error.retry_after), (Retry::Later, want.map(Duration::from_secs)), "{given}");
        }
    }
}

#[test]
fn a_rate_limit_is_asked_again_when_the_server_says() {
    let date = "date: Fri, 27 Nov 2026 06:00:00 GMT\r\n";
    let epoch = 1_795_759_200;
    for (status, headers, want, text) in [
        ("403 x", "x-ratelimit-remaining: 0\r\n".to_owned(), None, "a rate limit. A host"),
        ("403 x", "retry-after: 30\r\n".to_owned(), Some(30), "takes more in 30 s. A host"),
        (
            "403 x",
            format!("{date}x-ratelimit-remaining: 0\r\nx-ratelimit-reset: {}\r\n", epoch + 90),
            Some(90),
            "in 90 s",
        ),
        (
            "403 x",
            "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1795759290\r\n".to_owned(),
            None,
            "a rate limit. A host",
        ),
        ("429 x", "ratelimit-reset: 45\r\n".to_owned(), Some(45), "in 45 s"),
        ("429 x", "ratelimit-reset: 3600\r\n".to_owned(), Some(600), "in 3600 s"),
        ("429 x", format!("{date}retry-after: Fri, 27 Nov 2026 06:01:00 GMT\r\n"), Some(60), "in 60 s"),
        ("429 x", format!("{date}retry-after: Fri, 27 Nov 2026 05:01:00 GMT\r\n"), Some(0), "in 0 s"),
        ("429 x", format!("x-ratelimit-reset: {}\r\n", u64::MAX), None, "a rate limit. A host"),
        ("503 x", "retry-after: 30\r\nx-ratelimit-remaining: 0\r\n".to_owned(), Some(30), "a rate limit"),
        ("503 x", "retry-after: 30\r\n".to_owned(), Some(30), "it is down"),
    ] {
        let error = Case::new().fail(&server(vec![answer(status, &headers, "SECRET")]));
        let got = (error.retry, error.retry_after);
        assert_eq!(got, (Retry::Later, want.map(Duration::from_secs)), "{status} {headers}: {error}");
        assert!(error.message.contains(text) && !error.message.contains("private"), "{error}");
    }
    let error = Case::new().fail(&server(vec![answer("403 x", "x-ratelimit-remaining: 59\r\n", "")]));
    assert_eq!(error.retry, Retry::WhenPresent, "{error}");
}

#[test]
fn a_redirect_is_checked_like_a_new_url() {
    let to = |location: &str| answer("302 x", &format!("location: {location}\r\n"), "");
    for (location, reason) in [
        ("/next", Reason::AddressForbidden),
        ("http://127.0.0.1:1/SECRET", Reason::AddressForbidden),
        ("https://169.254.169.254/SECRET", Reason::AddressForbidden),
        ("http://example.com/SECRET", Reason::UrlForbidden),
        ("file:///etc/SECRET", Reason::UrlForbidden),
    ] {
        let error = Case::new().fail(&server(vec![to(location)]));
        assert_eq!((error.retry, error.reason), (Retry::Never, reason), "{location}");
        assert!(error.message.contains("a.tar: it redirects to "), "{error}");
    }
}

#[test]
fn five_redirects_are_followed_and_no_more() {
    let to = || answer("302 x", "location: /next#part\r\n", "");
    let run = |redirects: usize| {
        let mut answers: Vec<_> = (0..redirects).map(|_| to()).collect();
        answers.push(ok("hello"));
        let url = server(answers);
        let mut case = Case::new();
        case.rules.allow = vec![url.clone()];
        case.fetch(&url, Some(HELLO))
    };
    assert_eq!(run(5).unwrap().bytes, 5);
    let error = run(6).unwrap_err();
    assert_eq!((error.retry, error.reason), (Retry::Never, Reason::ArtifactFailed));
    assert!(error.message.ends_with("more than 5 redirects"), "{error}");
}

#[test]
fn a_server_that_is_not_there_may_come_back() {
    let error = Case::new().fail(&server(Vec::new()));
    assert_eq!((error.retry, error.reason), (Retry::Later, Reason::ArtifactFailed));
}

#[test]
fn a_handshake_that_fails_may_succeed_later() {
    let url = server(vec!["SECRET, not a handshake".to_owned()]).replace("http:", "https:");
    let mut case = Case::new();
    case.rules.allow = vec![url.clone()];
    let error = case.fail(&url);
    assert_eq!((error.retry, error.reason), (Retry::Later, Reason::ArtifactFailed));
    assert!(error.message.contains("does not speak TLS on this port"), "{error}");
}

#[test]
fn a_download_that_is_called_off_ends_at_once() {
    let case = Case::new();
    case.stop.store(true, Ordering::Relaxed);
    assert_eq!(case.fail(&server(vec![ok("hello")])).reason, Reason::Interrupted);
}

#[test]
fn a_trickle_is_too_slow_only_after_a_whole_window() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut rate = Rate::since(start);
    assert!(rate.fast_enough(at(59), 1));
    assert!(!rate.fast_enough(at(60), 1));
    let mut rate = Rate::since(start);
    assert!(rate.fast_enough(at(60), Rate::LEAST));
    assert!(!rate.fast_enough(at(120), Rate::LEAST - 1));
}

#[test]
fn a_download_leaves_the_reserve_free() {
    assert_eq!(missing_room(RESERVE + 5, 5), None);
    assert_eq!(missing_room(RESERVE + 4, 5), Some(RESERVE + 5));
    assert_eq!(missing_room(0, u64::MAX), Some(u64::MAX));
}

#[test]
fn a_url_arrives_as_it_was_written_after_a_redirect_too() {
    let asked = |path: &str, location: Option<&str>| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let first = location.map(|to| answer("302 x", &format!("location: {to}\r\n"), ""));
        let server = std::thread::spawn(move || {
            let answers = first.into_iter().chain([ok("hello")]);
            let lines = answers.map(|answer| {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let _ = (&stream).write_all(answer.as_bytes());
                line.trim_end().trim_end_matches(" HTTP/1.1").to_owned()
            });
            lines.collect::<Vec<_>>().pop().unwrap()
        });
        let mut case = Case::new();
        case.rules.allow = vec![base.clone()];
        case.fetch(&format!("{base}{path}"), None).unwrap();
        server.join().unwrap()
    };
    for path in ["/x?a='b'&c=%27d", "/x'y/z?sig=a+b%2B%2f&&e=[]{}|^`", "/x?filter=name%20eq%20'shop'?", "/x?", "/x"] {
        assert_eq!(asked(path, None), format!("GET {path}"));
        assert_eq!(asked("/first", Some(path)), format!("GET {path}"));
    }
    assert_eq!(asked("/x?a=\"<'>", None), "GET /x?a=%22%3C'%3E", "what no URL may hold");
}
