//! Whether a process stays up, or ends again soon after each restart.

use crate::model::desired::{Kind, Work};
use crate::model::names::UnitId;
use crate::model::observed::{ActiveState, Exit, UnitSeen};
use crate::model::quantity::{Bytes, Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::spec::Command;
use crate::model::status::{Ending, ProcessStatus, ShortRuns, Status};

/// A process that ran this many times as long as its runs before is up for good, and what ended before counts no more.
const TIMES_AS_LONG: u64 = 3;
/// It takes at least as long, since a process that falls at once may be waiting for another to come back.
const SHORTEST: Span = Span::seconds(30);
/// A run of at least this length is never a short one.
const LONGEST: Span = Span::seconds(600);
/// After this many short runs in a row a process that runs is not counted as up.
const OFTEN: u32 = 3;

/// Counts the short runs of a unit; `before` is the previous status.
pub fn count(
    before: Option<&Status>,
    unit: &UnitId,
    seen: &UnitSeen,
    limit: Option<Bytes>,
    now: Timestamp,
) -> ShortRuns {
    let name = unit.name();
    let Some(old) = before.and_then(|status| status.processes.iter().find(|process| process.unit == name)) else {
        return ShortRuns::default();
    };
    let is_active = seen.state == ActiveState::Active;
    if is_active && seen.since.is_some_and(|since| now >= since.after(up_for_good(&old.short_runs))) {
        return ShortRuns::default();
    }
    let has_ended = old.state == ActiveState::Active && (!is_active || seen.restarts > old.restarts);
    let run = old.since.filter(|_| has_ended).map(|since| seen.since.unwrap_or(now).since(since));
    // systemd forgets how a process ended as soon as the next one starts.
    let last = if is_active { None } else { ending(seen, limit) };
    ShortRuns {
        times: old.short_runs.times + seen.restarts.saturating_sub(old.restarts),
        longest: run.filter(|run| *run < LONGEST).unwrap_or_default().max(old.short_runs.longest),
        last: last.or_else(|| old.short_runs.last.clone()),
    }
}

/// Returns when a process of the serving release that ended again and again counts as up, if it runs until then.
pub fn steady_at(status: &Status) -> Option<Timestamp> {
    let serves = |process: &&ProcessStatus| Some(process.release) == status.serving;
    let runs = status.processes.iter().filter(serves).filter(|process| process.state == ActiveState::Active);
    let short = runs.filter(|process| process.short_runs.times >= OFTEN);
    short.filter_map(|process| Some(process.since?.after(up_for_good(&process.short_runs)))).min()
}

fn up_for_good(runs: &ShortRuns) -> Span {
    Span(runs.longest.0.saturating_mul(TIMES_AS_LONG)).clamp(SHORTEST, LONGEST)
}

fn ending(seen: &UnitSeen, limit: Option<Bytes>) -> Option<Ending> {
    let how = seen.ending(limit)?;
    Some(Ending { how, success: seen.exit == Some(Exit::Status(0)), out_of_memory: seen.is_out_of_memory() })
}

/// Describes a process that ends again and again, although it may run at this moment.
pub fn unsteady(runs: &ShortRuns, work: Option<&Work>) -> Option<(Reason, String)> {
    let ShortRuns { times, last, .. } = runs;
    let last = last.as_ref().filter(|_| *times >= OFTEN)?;
    let reason = if last.out_of_memory { Reason::OutOfMemory } else { Reason::ProcessDown };
    let hint = work.filter(|_| last.success).map_or(String::new(), |work| format!("; {}", after_success(work)));
    Some((
        reason,
        format!(
            "{} again and again, {times} times in a row, and counts as up once it has run for {}; systemd restarts it \
             each time{hint}",
            last.how,
            up_for_good(runs)
        ),
    ))
}

/// Returns what to change about a process that must keep running and ends with status 0.
pub fn after_success(work: &Work) -> String {
    let keeps = match work.kind {
        Kind::Web => "a web process must keep running and listen on $PORT: start its server in the foreground",
        _ => "a worker must keep running: let it wait for work in a loop, in the foreground",
    };
    let how = work.run.as_ref().and_then(foreground).unwrap_or("not as a daemon");
    format!(
        "{keeps} ({how}); what runs at set times and ends has a schedule, and what runs once before each release is \
         release.run"
    )
}

/// Returns how a known program that becomes a daemon is kept in the foreground.
fn foreground(command: &Command) -> Option<&'static str> {
    const KNOWN: [(&str, &[&str], &str); 18] = [
        ("nginx", &[], "nginx -g 'daemon off;'"),
        ("apachectl", &[], "apachectl -D FOREGROUND"),
        ("apache2ctl", &[], "apache2ctl -D FOREGROUND"),
        ("httpd", &[], "httpd -D FOREGROUND"),
        ("php-fpm", &[], "php-fpm -F"),
        ("supervisord", &[], "supervisord -n, or each of its programs as a process of its own"),
        ("pm2", &[], "node itself instead of pm2, or pm2-runtime"),
        ("forever", &["start"], "node itself instead of forever start"),
        ("caddy", &["start"], "caddy run"),
        ("gunicorn", &["-D", "--daemon"], "without --daemon"),
        ("puma", &["-d", "--daemon"], "without --daemon"),
        ("unicorn", &["-D", "--daemonize"], "without --daemonize"),
        ("celery", &["multi", "--detach", "-D"], "celery worker without --detach"),
        ("redis-server", &["--daemonize"], "--daemonize no"),
        ("docker", &["-d", "--detach"], "without -d"),
        ("tmux", &[], "without tmux"),
        ("screen", &[], "without screen"),
        ("setsid", &[], "without setsid"),
    ];
    let is = |word: &str, name: &str| {
        let base = word.rsplit('/').next().unwrap_or(word);
        base == name || name == "php-fpm" && base.starts_with(name)
    };
    // Wrappers like `bundle exec` and `poetry run` stand before the program; a shell has its command in one word.
    let words: Vec<&str> = command.words().iter().flat_map(|word| word.split_whitespace()).collect();
    KNOWN.iter().find_map(|(name, flags, mend)| {
        let at = words.iter().position(|word| is(word, name))?;
        let asks = flags.is_empty() || words[at + 1..].iter().any(|word| flags.contains(word));
        asks.then_some(*mend)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> UnitId {
        UnitId {
            project: "shop".parse().unwrap(),
            process: "batch".parse().unwrap(),
            release: crate::model::names::ReleaseNo(1),
            instance: None,
        }
    }

    /// The status of one process, as `count` reads it.
    fn status(seen: &UnitSeen, runs: ShortRuns) -> Status {
        let process = serde_json::json!({
            "name": "batch", "release": 1, "unit": unit().name(), "state": seen.state, "sub_state": "", "pid": null,
            "memory_bytes": null, "cpu_seconds": null, "restarts": seen.restarts, "since": seen.since,
        });
        let mut status: Status = serde_json::from_value(serde_json::json!({
            "project": "shop", "generation": 1, "observed_generation": 1, "observed_at": Timestamp(0), "owner": "api",
            "state": "running", "conditions": [], "serving": 1, "candidate": null, "last_good": 1, "rejected": [],
            "processes": [process], "routes": [],
        }))
        .unwrap();
        status.processes[0].short_runs = runs;
        status
    }

    /// Follows a process that runs for `run` seconds again and again; returns the count after each restart.
    fn follow(run: u64, times: u32) -> ShortRuns {
        let (mut now, mut runs, mut last) = (1_000, ShortRuns::default(), None);
        let mut look = |seen: UnitSeen, now: u64| {
            runs = count(last.as_ref(), &unit(), &seen, None, Timestamp(now * 1000));
            last = Some(status(&seen, runs.clone()));
        };
        for restarts in 0..=times {
            let up = UnitSeen {
                state: ActiveState::Active,
                since: Some(Timestamp(now * 1000)),
                restarts,
                ..UnitSeen::default()
            };
            look(up.clone(), now);
            now += run;
            look(up.clone(), now);
            if restarts < times {
                let state = ActiveState::Activating;
                look(UnitSeen { state, exit: Some(Exit::Status(0)), since: Some(Timestamp(now * 1000)), ..up }, now);
            }
            now += 2;
        }
        runs
    }

    #[test]
    fn short_runs_in_a_row_are_counted_until_one_lasts() {
        assert_eq!(follow(2, 24).times, 24);
        assert_eq!(follow(300, 5).times, 5);
        assert_eq!(follow(40, 5).times, 5);
        assert_eq!(follow(600, 5), ShortRuns::default(), "each run lasted");
        for (run, waits) in [(1, 30), (20, 60), (40, 120), (300, 600)] {
            assert_eq!(up_for_good(&follow(run, 4)), Span::seconds(waits), "{run}");
        }
        assert_eq!(unsteady(&follow(2, 2), None), None);
        let (reason, said) = unsteady(&follow(2, 24), None).unwrap();
        assert_eq!(reason, Reason::ProcessDown);
        assert!(
            said.starts_with(
                "exited with status 0 again and again, 24 times in a row, and counts as up once it has run for 30s"
            ),
            "{said}"
        );
    }

    #[test]
    fn a_process_that_ends_with_success_is_pointed_to_what_may_end() {
        for (run, mend) in [
            ("./worker --once", "not as a daemon"),
            ("nginx -c x.conf", "nginx -g 'daemon off;'"),
            ("/usr/sbin/php-fpm8.2", "php-fpm -F"),
            ("npx pm2 start app.js", "node itself instead of pm2"),
            ("bundle exec puma -d", "without --daemon"),
            ("bundle exec puma", "not as a daemon"),
            ("gunicorn app:app --daemon", "without --daemon"),
            ("sh -c 'exec setsid ./a'", "without setsid"),
        ] {
            let work = |kind| Work {
                kind,
                run: Some(Command::of_text(run).unwrap()),
                ready: None,
                h2c: false,
                stop: Default::default(),
                instances: 1,
            };
            let (web, worker) = (after_success(&work(Kind::Web)), after_success(&work(Kind::Worker)));
            assert!(web.starts_with("a web process must keep running and listen on $PORT"), "{web}");
            assert!(worker.starts_with("a worker must keep running: let it wait"), "{worker}");
            for said in [web, worker] {
                assert!(said.contains(mend) && said.contains("schedule") && said.ends_with("release.run"), "{said}");
            }
        }
    }
}
