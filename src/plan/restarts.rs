//! Whether a process stays up, or ends again soon after each restart.

use crate::model::desired::{Workload, WorkloadKind};
use crate::model::names::UnitId;
use crate::model::observed::{ActiveState, Exit, UnitSeen};
use crate::model::quantity::{Bytes, Span, Timestamp};
use crate::model::reason::Reason;
use crate::model::spec::Command;
use crate::model::status::{Ending, ProcessStatus, ShortRuns, Status};

/// A process is stable, and its earlier runs no longer count, once it has run this many times as long as they did.
const TIMES_AS_LONG: u64 = 3;
/// It takes at least this long: a process that exits at once may be waiting for another to come back.
const SHORTEST_STABLE: Span = Span::seconds(30);
/// A run of at least this length is never a short one.
const LONGEST_SHORT: Span = Span::seconds(600);
/// This many short runs in a row are a crash loop: a process that runs does not count as up.
const CRASH_LOOP: u32 = 3;

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
    if is_active && seen.since.is_some_and(|since| now >= since.after(stable_after(&old.short_runs))) {
        return ShortRuns::default();
    }
    let ended = old.state == ActiveState::Active && (!is_active || seen.restarts > old.restarts);
    let run = old.since.filter(|_| ended).map(|since| seen.since.unwrap_or(now).since(since));
    // systemd forgets how a process ended as soon as the next one starts.
    let last = if is_active { None } else { ending(seen, limit) };
    ShortRuns {
        times: old.short_runs.times + seen.restarts.saturating_sub(old.restarts),
        longest: run.filter(|run| *run < LONGEST_SHORT).unwrap_or_default().max(old.short_runs.longest),
        last: last.or_else(|| old.short_runs.last.clone()),
    }
}

/// Returns when a process of the serving release leaves its crash loop, if it runs until then.
pub fn stable_at(status: &Status) -> Option<Timestamp> {
    let serves = |process: &&ProcessStatus| Some(process.release) == status.serving;
    let runs = status.processes.iter().filter(serves).filter(|process| process.state == ActiveState::Active);
    let short = runs.filter(|process| process.short_runs.times >= CRASH_LOOP);
    short.filter_map(|process| Some(process.since?.after(stable_after(&process.short_runs)))).min()
}

fn stable_after(runs: &ShortRuns) -> Span {
    Span(runs.longest.0.saturating_mul(TIMES_AS_LONG)).clamp(SHORTEST_STABLE, LONGEST_SHORT)
}

fn ending(seen: &UnitSeen, limit: Option<Bytes>) -> Option<Ending> {
    let how = seen.ending(limit)?;
    Some(Ending { how, success: seen.exit == Some(Exit::Status(0)), out_of_memory: seen.is_out_of_memory() })
}

/// Describes a process in a crash loop, although it may run at this moment.
pub fn crash_loop(runs: &ShortRuns, workload: Option<&Workload>) -> Option<(Reason, String)> {
    let ShortRuns { times, last, .. } = runs;
    let last = last.as_ref().filter(|_| *times >= CRASH_LOOP)?;
    let reason = if last.out_of_memory { Reason::OutOfMemory } else { Reason::ProcessDown };
    let hint =
        workload.filter(|_| last.success).map_or(String::new(), |workload| format!("; {}", after_success(workload)));
    Some((
        reason,
        format!(
            "{} again and again, {times} times in a row, and counts as up once it has run for {}; systemd restarts it \
             each time{hint}",
            last.how,
            stable_after(runs)
        ),
    ))
}

/// Returns what to change about a process that must keep running and ends with status 0.
pub fn after_success(workload: &Workload) -> String {
    let keeps = match workload.kind {
        WorkloadKind::Web => "a web process must keep running and listen on $PORT: start its server in the foreground",
        _ => "a worker must keep running: let it wait for work in a loop, in the foreground",
    };
    let how = workload.run.as_ref().and_then(foreground).unwrap_or("not as a daemon");
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
    KNOWN.iter().find_map(|(name, flags, fix)| {
        let at = words.iter().position(|word| is(word, name))?;
        let asks = flags.is_empty() || words[at + 1..].iter().any(|word| flags.contains(word));
        asks.then_some(*fix)
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
        let mut observe = |seen: UnitSeen, now: u64| {
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
            observe(up.clone(), now);
            now += run;
            observe(up.clone(), now);
            if restarts < times {
                let state = ActiveState::Activating;
                observe(UnitSeen { state, exit: Some(Exit::Status(0)), since: Some(Timestamp(now * 1000)), ..up }, now);
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
            assert_eq!(stable_after(&follow(run, 4)), Span::seconds(waits), "{run}");
        }
        assert_eq!(crash_loop(&follow(2, 2), None), None);
        let (reason, said) = crash_loop(&follow(2, 24), None).unwrap();
        assert_eq!(reason, Reason::ProcessDown);
        assert!(
            said.starts_with(
                "exited with status 0 again and again, 24 times in a row, and counts as up once it has run for 30s"
            ),
            "{said}"
        );
    }

    #[test]
    fn a_run_ends_by_a_restart_or_a_state_and_the_longest_short_one_counts() {
        let up = |since: u64, restarts| UnitSeen {
            state: ActiveState::Active,
            since: Some(Timestamp(since * 1000)),
            restarts,
            ..UnitSeen::default()
        };
        let down = |since: u64, restarts| UnitSeen {
            state: ActiveState::Activating,
            exit: Some(Exit::Status(3)),
            ..up(since, restarts)
        };
        let longest = |seconds, times| ShortRuns { times, longest: Span::seconds(seconds), last: None };
        // The state before, the one now, and the time: how long the longest run was, how often it was restarted.
        for (old, new, now, runs) in [
            (up(100, 0), up(120, 1), 121, (20, 1)),
            (up(100, 0), up(100, 0), 121, (0, 0)),
            (up(100, 1), up(120, 1), 121, (0, 0)),
            (up(100, 2), up(120, 1), 121, (0, 0)),
            (up(100, 0), down(107, 0), 108, (7, 0)),
            (down(100, 0), down(107, 1), 108, (0, 1)),
            (down(100, 0), up(107, 1), 108, (0, 1)),
            (up(100, 0), down(699, 0), 700, (599, 0)),
            (up(100, 0), down(700, 0), 700, (0, 0)),
        ] {
            let before = status(&old, longest(0, 0));
            let found = count(Some(&before), &unit(), &new, None, Timestamp(now * 1000));
            assert_eq!((found.longest, found.times), (Span::seconds(runs.0), runs.1), "{old:?} {new:?}");
            assert_eq!(found.last.is_some(), new.state == ActiveState::Activating);
        }
        // The longest is kept, and ends with a run that lasts.
        let before = status(&up(100, 3), longest(50, 3));
        let at = |now: u64| count(Some(&before), &unit(), &up(100, 3), None, Timestamp(now));
        assert_eq!((at(249_999).times, at(249_999).longest), (3, Span::seconds(50)));
        assert_eq!(at(250_000), ShortRuns::default());
        let ended = |exit| ending(&UnitSeen { exit: Some(Exit::Status(exit)), ..down(1, 1) }, None).unwrap().success;
        assert_eq!((ended(0), ended(3)), (true, false));
    }

    #[test]
    fn a_crash_loop_ends_when_its_process_has_run_three_times_as_long() {
        let up = UnitSeen { state: ActiveState::Active, since: Some(Timestamp(1_000_000)), ..UnitSeen::default() };
        let runs = |times| ShortRuns { times, longest: Span::seconds(20), last: None };
        let at = |seen: &UnitSeen, times, serving| {
            let mut status = status(seen, runs(times));
            status.serving = serving;
            stable_at(&status)
        };
        let release = |number| Some(crate::model::names::ReleaseNo(number));
        assert_eq!(at(&up, 3, release(1)), Some(Timestamp(1_060_000)));
        assert_eq!(at(&up, 2, release(1)), None, "no crash loop");
        assert_eq!(at(&up, 3, release(2)), None, "another release");
        assert_eq!(at(&UnitSeen { state: ActiveState::Activating, ..up }, 3, release(1)), None, "it does not run");
    }

    #[test]
    fn a_process_that_exits_with_status_0_gets_advice() {
        for (run, fix) in [
            ("./worker --once", "not as a daemon"),
            ("nginx -c x.conf", "nginx -g 'daemon off;'"),
            ("/usr/sbin/php-fpm8.2", "php-fpm -F"),
            ("npx pm2 start app.js", "node itself instead of pm2"),
            ("bundle exec puma -d", "without --daemon"),
            ("bundle exec puma", "not as a daemon"),
            ("./x -d puma", "not as a daemon"),
            ("forever start app.js", "node itself instead of forever start"),
            ("start forever app.js", "not as a daemon"),
            ("gunicorn app:app --daemon", "without --daemon"),
            ("sh -c 'exec setsid ./a'", "without setsid"),
        ] {
            let workload_of = |kind| Workload {
                kind,
                run: Some(Command::of_text(run).unwrap()),
                ready: None,
                h2c: false,
                stop: Default::default(),
                instances: 1,
            };
            let (web, worker) =
                (after_success(&workload_of(WorkloadKind::Web)), after_success(&workload_of(WorkloadKind::Worker)));
            assert!(web.starts_with("a web process must keep running and listen on $PORT"), "{web}");
            assert!(worker.starts_with("a worker must keep running: let it wait"), "{worker}");
            for said in [web, worker] {
                assert!(said.contains(fix) && said.contains("schedule") && said.ends_with("release.run"), "{said}");
            }
        }
    }
}
