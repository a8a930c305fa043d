//! What this program takes for a calendar expression is what systemd reads, and what it says of its coming is so.

use std::collections::BTreeSet;
use std::process::Command;

use zexio::model::calendar;

/// A small generator with a seed: the same expressions at each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Numbers around a component's bounds, in all forms.
fn part(chance: &mut Chance, from: u64, to: u64) -> String {
    let number = |chance: &mut Chance| match chance.below(12) {
        0 => to + 1,
        1 => from.saturating_sub(1),
        2 => to,
        _ => from + chance.below(to - from + 1),
    };
    let (a, b, c) = (number(chance), number(chance), chance.below(to - from + 3));
    match chance.below(9) {
        0 | 1 => "*".to_owned(),
        2 => format!("{a}..{b}"),
        3 => format!("{a}/{c}"),
        4 => format!("{a}..{b}/{c}"),
        5 => format!("{a:02},{b}"),
        6 if to == 59 => format!("{a}.{c}"),
        _ => format!("{a:02}"),
    }
}

fn expression(chance: &mut Chance) -> String {
    let mut text = String::new();
    if chance.below(4) == 0 {
        text +=
            chance.one(&["Mon ", "mon..fri ", "Sat,Sun ", "Fri..Mon ", "Tuesday, ", "Mon-Wed,sun ", "Monn ", "Thu"]);
    }
    if chance.below(3) > 0 {
        let year = match chance.below(4) {
            0 => chance.one(&["2026", "99", "20", "2025..2030", "1969", "2199", "2200", "2024/4"]).to_owned(),
            _ => "*".to_owned(),
        };
        let dash = chance.one(&["-", "-", "-", "~"]);
        let (month, day) = (part(chance, 1, 12), part(chance, 1, 31));
        text +=
            &if chance.below(6) == 0 { format!("{month}{dash}{day}") } else { format!("{year}-{month}{dash}{day}") };
    }
    if chance.below(3) > 0 {
        text += chance.one(&[" ", " ", " ", "  ", ""]);
        text += &format!("{}:{}", part(chance, 0, 23), part(chance, 0, 59));
        if chance.below(2) == 0 {
            text += &format!(":{}", part(chance, 0, 59));
        }
    }
    if chance.below(8) == 0 {
        text += chance.one(&[" UTC", " utc", " Europe/Berlin", " Europe/Berln", " +01:00", " CET", " PST8PDT"]);
    }
    text.trim().to_owned()
}

/// Asks systemd of many at once; returns those that it cannot read, and those that never come.
fn by_systemd(expressions: &[&String]) -> (BTreeSet<String>, BTreeSet<String>) {
    let asked = Command::new("systemd-analyze")
        .args(["calendar", "--"])
        .args(expressions)
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .expect("systemd-analyze runs");
    let said = String::from_utf8_lossy(&asked.stderr);
    let unread = said.lines().filter_map(|line| line.strip_prefix("Failed to parse calendar specification '"));
    let unread = unread.filter_map(|rest| Some(rest.rsplit_once("':")?.0.to_owned())).collect();
    let shown = String::from_utf8_lossy(&asked.stdout);
    let (mut never, mut form) = (BTreeSet::new(), String::new());
    for line in shown.lines().map(str::trim) {
        if let Some((_, text)) = line.split_once("Original form: ") {
            form = text.trim().to_owned();
        } else if let Some((_, text)) = line.split_once("Normalized form: ") {
            // Where both are the same, only one is shown.
            if form.is_empty() {
                form = text.trim().to_owned();
            }
        } else if line.starts_with("Next elapse:") {
            if line.ends_with("never") {
                never.insert(form.clone());
            }
            form.clear();
        }
    }
    (unread, never)
}

#[test]
fn a_schedule_is_read_as_systemd_reads_it() {
    let mut chance = Chance(7);
    let made: BTreeSet<String> = (0..6000).map(|_| expression(&mut chance)).filter(|text| !text.is_empty()).collect();
    let made: Vec<&String> = made.iter().collect();
    let (mut read, mut over) = (0, 0);
    for some in made.chunks(200) {
        let (unread, never) = by_systemd(some);
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis() as u64;
        for text in some {
            let is_read = !unread.contains(*text);
            let comes = is_read && !never.contains(*text);
            let judged = calendar::check(text);
            let taken = judged.is_ok() && calendar::comes_after(text, now);
            // One whose last moment is about now is judged by the hour by systemd alone.
            if taken != (judged.is_ok() && calendar::comes_after(text, now + 2 * 86_400_000)) {
                continue;
            }
            assert_eq!(taken, comes, "{text:?}: systemd reads it: {is_read}; {judged:?}");
            if !is_read {
                assert!(judged.is_err_and(|why| !why.contains("never comes")), "{text:?}");
            }
            read += u32::from(is_read);
            over += u32::from(is_read && !comes);
        }
    }
    assert!(read > 1000 && over > 50, "{read} were read, {over} of them never come: the test would prove little");
}
