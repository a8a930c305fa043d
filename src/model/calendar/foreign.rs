//! Other notations for times, above all cron's in its many forms, and what to write for them in systemd's.

use std::collections::BTreeSet;

use super::expression::{DAYS, Expression, YEARS, is_zone};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const CRON_DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a text of another notation means in systemd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The expressions that match together at the same times, and what may surprise.
    Lines(Vec<String>, Option<String>),
    /// Why it cannot be translated, and what comes near.
    Without(String),
}

impl Meaning {
    fn line(line: impl Into<String>) -> Self {
        Self::Lines(vec![line.into()], None)
    }

    fn because(why: impl Into<String>) -> Option<Self> {
        Some(Self::Without(why.into()))
    }
}

/// The day of the week that is number 1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstDay {
    /// As in cron; 0 and 7 are Sunday.
    Monday,
    /// As Quartz and AWS count.
    Sunday,
}

/// Translates cron: five fields, with seconds before or a year behind, a line of a crontab, `@daily`, `cron(…)`.
pub(super) fn of_cron(raw: &str) -> Option<Meaning> {
    let (text, zone) = without_zone(raw.trim());
    let (text, is_aws) = match call("cron", text) {
        Some(inside) => (inside, true),
        None => (text, false),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    if let [word] = words.as_slice() {
        return of_nickname(word.strip_prefix('@')?, zone);
    }
    let is_field = |word: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "*?,-/#".contains(c);
        word.chars().all(plain) && word.starts_with(|c: char| c.is_ascii_digit() || "*?".contains(c))
            || word.starts_with(['L', 'l']) && word.chars().all(|c| c.is_ascii_digit() || "LlWw-".contains(c))
            || named(word, &MONTHS)
            || named(word, &CRON_DAYS)
    };
    let count = words.iter().take_while(|word| is_field(word)).count();
    if words.first().is_some_and(|word| word.starts_with('H')) && words.len() == 5 {
        return Meaning::because(
            "H is Jenkins's: it chooses a time by the job's name; write a fixed one, like *-*-* 03:17",
        );
    }
    let has_mark = |at: usize| words.get(at).is_some_and(|word| word.contains(['?', '#', 'L', 'W']));
    let (second, rest, year, first) = match (words.len(), count) {
        (5, 5) => ("0", &words[..], "*", FirstDay::Monday),
        (6, 6) if is_aws || is_year(words[5]) || has_mark(2) || has_mark(4) => {
            ("0", &words[..5], words[5], FirstDay::Sunday)
        }
        (6, 6) if has_mark(3) || has_mark(5) => (words[0], &words[1..], "*", FirstDay::Sunday),
        (6, 6) => (words[0], &words[1..], "*", FirstDay::Monday),
        (7, 7) => (words[0], &words[1..6], words[6], FirstDay::Sunday),
        // A line of a crontab: the command follows, and before it perhaps a user.
        (6.., 5) => ("0", &words[..5], "*", FirstDay::Monday),
        _ => return None,
    };
    let [minute, hour, day, month, weekday] = rest else { return None };
    let mut meaning = of_fields([second, minute, hour, day, month, weekday, year], first)?;
    if let Meaning::Lines(lines, note) = &mut meaning {
        if let Some(zone) = zone {
            lines.iter_mut().for_each(|line| line.push_str(&format!(" {zone}")));
        }
        if words.len() > count {
            *note = Some("the command goes into run".to_owned());
        }
        if !lines.iter().all(|line| Expression::parse(line).is_some()) {
            return None;
        }
    }
    Some(meaning)
}

fn of_nickname(name: &str, zone: Option<&str>) -> Option<Meaning> {
    let line = match name.to_ascii_lowercase().as_str() {
        "hourly" => "hourly",
        "daily" | "midnight" => "daily",
        "weekly" => "weekly",
        "monthly" => "monthly",
        "yearly" | "annually" => "yearly",
        "reboot" => {
            return Meaning::because(
                "a schedule has no moment for the server's start; a process without schedule is started then, and runs on",
            );
        }
        _ => return None,
    };
    Some(Meaning::line(zone.map_or_else(|| line.to_owned(), |zone| format!("{line} {zone}"))))
}

/// `CRON_TZ=Europe/Berlin 0 3 * * *`, and the zone at the end.
fn without_zone(text: &str) -> (&str, Option<&str>) {
    for start in ["CRON_TZ=", "TZ="] {
        if let Some((zone, rest)) = text.strip_prefix(start).and_then(|rest| rest.split_once(' ')) {
            return (rest.trim_start(), Some(zone).filter(|zone| is_zone(zone)));
        }
    }
    match text.rsplit_once(' ').filter(|(_, last)| is_zone(last)) {
        Some((rest, zone)) => (rest.trim_end(), Some(zone)),
        None => (text, None),
    }
}

/// What stands within the brackets of `name(…)`.
fn call<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let (start, rest) = text.trim().split_at_checked(name.len())?;
    let inside = rest.trim_start().strip_prefix('(')?.strip_suffix(')')?;
    start.eq_ignore_ascii_case(name).then(|| inside.trim())
}

fn is_year(word: &str) -> bool {
    word.get(..4).is_some_and(|start| start.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a field names months or days: `JAN-MAR`, `MON,WED`, `FRI#3`, `FRIL`.
fn named(word: &str, names: &[&str]) -> bool {
    word.split([',', '-', '/', '#']).next().is_some_and(|first| {
        let first = first.to_ascii_lowercase();
        names.contains(&first.as_str()) || first.strip_suffix('l').is_some_and(|name| names.contains(&name))
    })
}

/// Translates the fields: second, minute, hour, day, month, day of the week, year. If both a day of the month and one of
/// the week are given, cron means either of them: two expressions.
fn of_fields(fields: [&str; 7], first: FirstDay) -> Option<Meaning> {
    let [second, minute, hour, day, month, weekday, year] = fields;
    if day.contains(['W', 'w']) {
        return Meaning::because(
            "W means the working day that is nearest to a date, and systemd's calendar knows none; the first Monday to \
             Friday of a month comes near: Mon *-*-01..07 03:00",
        );
    }
    let second = field(second, 0, 59, &[])?;
    let minute = field(minute, 0, 59, &[])?;
    let hour = field(hour, 0, 23, &[])?;
    let month = field(&month.replace('?', "*"), 1, 12, &MONTHS)?;
    let year = field(year, YEARS.0.into(), YEARS.1.into(), &[])?;
    let time = if second == "00" { format!("{hour}:{minute}") } else { format!("{hour}:{minute}:{second}") };
    let day = match day.strip_prefix(['L', 'l']) {
        Some("") => "~01".to_owned(),
        Some(before) => format!("~{:02}", before.strip_prefix('-')?.parse::<u64>().ok().filter(|n| *n < 28)? + 1),
        None => format!("-{}", field(&day.replace('?', "*"), 1, 31, &[])?),
    };
    let any_day = day == "-*";
    let dated = |day: &str| match (year.as_str(), month.as_str(), day, hour.as_str()) {
        ("*", "*", "-*", "*") => String::new(),
        _ => format!("{year}-{month}{day} "),
    };
    let by_date = format!("{}{time}", dated(&day));
    if let Some((name, days)) = day_of_the_month(weekday, first) {
        return Some(Meaning::line(format!("{name} {year}-{month}{days} {time}")));
    }
    if matches!(weekday, "L" | "l") {
        return Some(Meaning::line(format!("Sat {}{time}", dated("-*"))));
    }
    let weekdays = cron_days(&weekday.replace('?', "*"), first)?;
    let note = (first == FirstDay::Sunday && weekday.bytes().any(|b| b.is_ascii_digit()) && weekdays.is_some())
        .then(|| "its numbers of days as Quartz and AWS count them: 1 is Sunday".to_owned());
    let lines = match weekdays {
        None => vec![by_date],
        Some(names) if any_day => vec![format!("{names} {}{time}", dated("-*"))],
        Some(names) => vec![by_date, format!("{names} {}{time}", dated("-*"))],
    };
    Some(Meaning::Lines(lines, note))
}

/// Reads `FRI#3` and `6L`: the day's name, and the days of the month that it is looked for in.
fn day_of_the_month(weekday: &str, first: FirstDay) -> Option<(String, String)> {
    let (day, days) = match weekday.split_once('#') {
        Some((day, count)) => {
            let count: u64 = count.parse().ok().filter(|count| (1..=5).contains(count))?;
            (day, format!("-{:02}..{:02}", 7 * count - 6, (7 * count).min(31)))
        }
        None => (weekday.strip_suffix(['L', 'l']).filter(|day| !day.is_empty())?, "~07/1".to_owned()),
    };
    let name = cron_days(day, first).flatten().filter(|name| !name.contains(['.', ',']))?;
    Some((name, days))
}

/// Translates one field of cron to systemd.
fn field(raw: &str, from: u64, to: u64, names: &[&str]) -> Option<String> {
    if raw == "*" {
        return Some("*".to_owned());
    }
    let parts: Vec<String> = raw.split(',').map(|part| field_part(part, from, to, names)).collect::<Option<_>>()?;
    Some(match parts.iter().find(|part| *part == "*") {
        Some(all) => all.clone(),
        None => parts.join(","),
    })
}

fn field_part(raw: &str, from: u64, to: u64, names: &[&str]) -> Option<String> {
    let (range, step) = raw.split_once('/').map_or((raw, None), |(range, step)| (range, Some(step)));
    let step: Option<u64> =
        step.map(|step| step.parse().ok().filter(|step| *step > 0)).map_or(Some(None), |s| s.map(Some))?;
    let number = |text: &str| {
        let named = names.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|at| at as u64 + from);
        named.or_else(|| text.parse().ok()).filter(|number| (from..=to).contains(number))
    };
    let padded = |number: u64| format!("{number:02}");
    let begin = |number: u64| if step.is_some() { number.to_string() } else { padded(number) };
    let written = match range.split_once('-') {
        _ if range == "*" && step.is_none_or(|step| step == 1) => return Some("*".to_owned()),
        _ if range == "*" => from.to_string(),
        None => begin(number(range)?),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            match first.cmp(&last) {
                std::cmp::Ordering::Less => format!("{}..{}", padded(first), padded(last)),
                std::cmp::Ordering::Equal => return Some(padded(first)),
                std::cmp::Ordering::Greater => return None,
            }
        }
    };
    // A step that leads past the end occurs once.
    let last = range.split_once('-').map_or(Some(to), |(_, last)| number(last))?;
    let first = range.split('-').next().and_then(number).unwrap_or(from);
    Some(match step {
        Some(step) if first + step > last => padded(first),
        Some(step) => format!("{written}/{step}"),
        None => written,
    })
}

/// Translates cron's days of the week to systemd; None if every day is meant.
fn cron_days(raw: &str, first: FirstDay) -> Option<Option<String>> {
    let number = |text: &str| {
        let named = CRON_DAYS.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|at| at as u64);
        named.or_else(|| match first {
            FirstDay::Monday => text.parse().ok().filter(|number| *number <= 7),
            FirstDay::Sunday => {
                text.parse().ok().filter(|number| (1..=7).contains(number)).map(|number: u64| number - 1)
            }
        })
    };
    let mut days = BTreeSet::new();
    for part in raw.split(',') {
        let (range, step) = part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap_or(0)));
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((first, last)) => (number(first)?, number(last)?),
            None if part.contains('/') => (number(range)?, 6),
            None => (number(range)?, number(range)?),
        };
        if step == 0 {
            return None;
        }
        // `FRI-MON` goes over the end of the week.
        let last = if first > last { last + 7 } else { last };
        // systemd's week begins on Monday.
        days.extend((first..=last).step_by(step).map(|day| (day + 6) % 7));
    }
    if days.len() == 7 {
        return Some(None);
    }
    Some(Some(day_names(&days)))
}

/// Names days of the week, counted from Monday: `Mon..Fri`, `Tue,Thu`.
fn day_names(days: &BTreeSet<u64>) -> String {
    let short = |day: u64| &DAYS[day as usize % 7][..3];
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for day in days.iter().copied() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == day => *last = day,
            _ => runs.push((day, day)),
        }
    }
    let names = runs.iter().map(|(first, last)| match last - first {
        0 => short(*first).to_owned(),
        1 => format!("{},{}", short(*first), short(*last)),
        _ => format!("{}..{}", short(*first), short(*last)),
    });
    names.collect::<Vec<_>>().join(",")
}

/// Translates `every 5 minutes`, `rate(1 hour)`, `PT15M`, `Mondays at 9am`, `OnCalendar=…` and the like.
pub(super) fn of_words(raw: &str) -> Option<Meaning> {
    let text = raw.trim();
    if let Some(line) = text.strip_prefix("OnCalendar=").map(str::trim) {
        return Expression::parse(line).map(|_| Meaning::line(line));
    }
    let lower = call("rate", text).unwrap_or(text).to_ascii_lowercase();
    let text = lower.trim_start_matches('@').trim();
    of_interval(text.strip_prefix("every").unwrap_or(text).trim())
        .or_else(|| of_interval(&of_iso(text)?))
        .or_else(|| of_days(text))
}

/// `pt15m`, `p1d`, as ISO 8601 writes a duration.
fn of_iso(text: &str) -> Option<String> {
    let text = text.strip_prefix('p')?;
    match text.strip_prefix('t') {
        Some(time) => Some(time.to_owned()),
        None => Some(text.replace('m', " months")),
    }
}

fn of_interval(text: &str) -> Option<Meaning> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let other = unit.trim().strip_prefix("other ");
    let count: u64 = if count.is_empty() { 1 + u64::from(other.is_some()) } else { count.parse().ok()? };
    let whole = |name: &str, within: &str, most: u64, line: fn(u64) -> String| {
        if count == 0 {
            return None;
        }
        if most.is_multiple_of(count) {
            return Some(Meaning::line(line(count)));
        }
        let near = (1..=most).filter(|n| most.is_multiple_of(*n)).min_by_key(|n| n.abs_diff(count)).unwrap_or(most);
        let near = line(near);
        Meaning::because(format!(
            "a calendar has the same times in every {within}, and {count} {name}s do not fit into one evenly; {near:?} comes \
             near"
        ))
    };
    let once = |line: &str| Some(Meaning::line(line));
    match (other.unwrap_or(unit).trim(), count) {
        ("s" | "sec" | "secs" | "second" | "seconds", _) => whole("second", "minute", 60, |n| match n {
            1 => "*:*:*".to_owned(),
            60 => "*:*".to_owned(),
            n => format!("*:*:0/{n}"),
        }),
        ("m" | "min" | "mins" | "minute" | "minutes", 61..) if count.is_multiple_of(60) => {
            of_interval(&format!("{} hours", count / 60))
        }
        ("m" | "min" | "mins" | "minute" | "minutes", _) => whole("minute", "hour", 60, |n| match n {
            1 => "*:*".to_owned(),
            60 => "hourly".to_owned(),
            n => format!("*:0/{n}"),
        }),
        ("h" | "hr" | "hrs" | "hour" | "hours", _) => whole("hour", "day", 24, |n| match n {
            1 => "hourly".to_owned(),
            24 => "daily".to_owned(),
            n => format!("0/{n}:00"),
        }),
        ("d" | "day" | "days", 1) => once("daily"),
        ("d" | "day" | "days", 7) | ("w" | "week" | "weeks", 1) => once("weekly"),
        ("d" | "day" | "days", 2..=15) => {
            Some(Meaning::Lines(vec![format!("*-*-1/{count}")], Some("it starts over with each month".to_owned())))
        }
        ("w" | "week" | "weeks", 2) => Meaning::because(
            "a calendar does not count weeks; twice a month comes near: \"*-*-01,15\", or every week: \"weekly\"",
        ),
        ("month" | "months", 1) => once("monthly"),
        ("month" | "months", 3) | ("quarter", 1) => once("quarterly"),
        ("month" | "months", 6) => once("semiannually"),
        ("month" | "months", 2 | 4) => once(&format!("*-1/{count}-01")),
        ("y" | "year" | "years", 1) | ("month" | "months", 12) => once("yearly"),
        _ => None,
    }
}

/// `daily at 3am`, `every monday at 9:30`, `weekdays 18:00`, `every day at noon`.
fn of_days(text: &str) -> Option<Meaning> {
    let (mut days, mut time, mut is_daily) = (BTreeSet::new(), None, false);
    let separate = text.replace([',', '@'], " ").replace(" am", "am").replace(" pm", "pm");
    for word in separate.split_whitespace() {
        let named = word.get(..3).and_then(|start| DAYS.iter().position(|day| day[..3].eq_ignore_ascii_case(start)));
        match word {
            "every" | "each" | "at" | "on" | "and" | "the" | "in" | "morning" => {}
            "day" | "days" | "daily" | "everyday" => is_daily = true,
            "weekday" | "weekdays" | "workdays" | "workday" => days.extend(0..5),
            "weekend" | "weekends" => days.extend(5..7),
            "noon" | "midday" => time = Some((12, 0)),
            "midnight" => time = Some((0, 0)),
            word => match (clock(word), named) {
                (Some(found), _) if time.is_none() => time = Some(found),
                (None, Some(day)) if is_day(word, day) => drop(days.insert(day as u64)),
                _ => return None,
            },
        }
    }
    let (hour, minute) = match time {
        Some(time) => time,
        None if !days.is_empty() && !is_daily => (0, 0),
        None => return None,
    };
    let names = if days.is_empty() || days.len() == 7 { String::new() } else { format!("{} ", day_names(&days)) };
    Some(Meaning::line(format!("{names}*-*-* {hour:02}:{minute:02}")))
}

/// `mon`, `monday`, `mondays`, `tues`, `thurs`.
fn is_day(word: &str, day: usize) -> bool {
    let name = DAYS[day].to_ascii_lowercase();
    name.starts_with(word) || word.strip_suffix('s') == Some(&name)
}

/// `3am`, `3:30pm`, `15:30`, `9h`.
fn clock(word: &str) -> Option<(u64, u64)> {
    let (digits, half) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(digits), _) => (digits, Some(0)),
        (_, Some(digits)) => (digits, Some(12)),
        _ => (word, None),
    };
    let (hour, minute) = match digits.split_once([':', '.']) {
        Some((hour, minute)) => (hour, minute),
        None if half.is_some() => (digits, "0"),
        None => return None,
    };
    let (hour, minute): (u64, u64) = (hour.parse().ok()?, minute.parse().ok()?);
    let hour = match half {
        Some(half) => (1..=12).contains(&hour).then_some(hour % 12 + half)?,
        None => hour,
    };
    (hour < 24 && minute < 60).then_some((hour, minute))
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn lines(meaning: Option<Meaning>) -> Vec<String> {
        match meaning {
            Some(Meaning::Lines(lines, _)) => lines,
            _ => Vec::new(),
        }
    }

    #[test]
    fn cron_is_told_in_systemds_words() {
        for (cron, wanted) in [
            ("0 3 * * *", &["*-*-* 03:00"][..]),
            ("*/5 * * * *", &["*:0/5"]),
            ("* * * * *", &["*:*"]),
            ("0 * * * *", &["*:00"]),
            ("30 9 * * 1-5", &["Mon..Fri *-*-* 09:30"]),
            ("0 0 1 * *", &["*-*-01 00:00"]),
            ("15,45 */2 * * *", &["*-*-* 0/2:15,45"]),
            ("0 22 * * 0", &["Sun *-*-* 22:00"]),
            ("0 22 * * 7", &["Sun *-*-* 22:00"]),
            ("0 4 * * SUN,wed", &["Wed,Sun *-*-* 04:00"]),
            ("0 4 * * fri-mon", &["Mon,Fri..Sun *-*-* 04:00"]),
            ("0 0 1 JAN *", &["*-01-01 00:00"]),
            ("0 0 */2 1-6 *", &["*-01..06-1/2 00:00"]),
            ("10-20/5 8-18 * * *", &["*-*-* 08..18:10..20/5"]),
            ("0 0 13 * 5", &["*-*-13 00:00", "Fri *-*-* 00:00"]),
            ("0 12 ? * MON-FRI", &["Mon..Fri *-*-* 12:00"]),
            ("5 4 * * */2", &["Tue,Thu,Sat,Sun *-*-* 04:05"]),
            ("*/45 * * * *", &["*:0/45"]),
            ("@daily", &["daily"]),
            ("@midnight", &["daily"]),
            // With seconds before it, as Spring and Quartz have them.
            ("0 0 3 * * *", &["*-*-* 03:00"]),
            ("30 0 3 * * *", &["*-*-* 03:00:30"]),
            ("*/10 * * * * *", &["*:*:0/10"]),
            ("* * * * * *", &["*:*:*"]),
            ("0 */5 * * * *", &["*:0/5"]),
            ("0 0 9-17 * * MON-FRI", &["Mon..Fri *-*-* 09..17:00"]),
            ("0 0 3 * * 1", &["Mon *-*-* 03:00"]),
            ("0 0 12 ? * WED", &["Wed *-*-* 12:00"]),
            ("0 15 10 ? * 2-6", &["Mon..Fri *-*-* 10:15"]),
            // With a year behind it, as Quartz and AWS have it.
            ("0 0 3 * * ? *", &["*-*-* 03:00"]),
            ("0 15 10 * * ? 2027", &["2027-*-* 10:15"]),
            ("0 0/5 14,18 * * ?", &["*-*-* 14,18:0/5"]),
            ("0 0 0 ? * 6#3 *", &["Fri *-*-15..21 00:00"]),
            ("0 0 0 ? * FRIL", &["Fri *-*~07/1 00:00"]),
            ("0 0 3 L * ?", &["*-*~01 03:00"]),
            ("0 0 3 L-2 * ?", &["*-*~03 03:00"]),
            ("cron(0 3 * * ? *)", &["*-*-* 03:00"]),
            ("cron(0/15 * * * ? *)", &["*:0/15"]),
            ("cron(0 18 ? * MON-FRI *)", &["Mon..Fri *-*-* 18:00"]),
            ("cron(0 8 1 * ? 2027)", &["2027-*-01 08:00"]),
            ("0 3 * * ? *", &["*-*-* 03:00"]),
            // With a zone, and with what else stands in a crontab.
            ("CRON_TZ=Europe/Berlin 0 3 * * *", &["*-*-* 03:00 Europe/Berlin"]),
            ("0 3 * * * UTC", &["*-*-* 03:00 UTC"]),
            ("0 3 * * * root /usr/bin/backup --all", &["*-*-* 03:00"]),
            ("0 3 * * * www-data php artisan", &["*-*-* 03:00"]),
            ("0 3 * * * /usr/bin/backup", &["*-*-* 03:00"]),
        ] {
            assert_eq!(lines(of_cron(cron)), wanted, "{cron}");
            assert!(check(cron).is_err_and(|why| why.contains("is cron's way") && why.contains(wanted[0])), "{cron}");
            assert!(wanted.iter().all(|line| check(line).is_ok()), "{cron}");
        }
        for cron in
            ["61 * * * *", "* * * *", "a b c d e", "0 0 0 * *", "5-1 * * * *", "* * * * * * * *", "0 99 3 * * *"]
        {
            assert_eq!(of_cron(cron), None, "{cron}");
        }
    }

    #[test]
    fn other_ways_to_say_it_are_told_what_to_write() {
        for (raw, line) in [
            ("every 5 minutes", "*:0/5"),
            ("5m", "*:0/5"),
            ("every hour", "hourly"),
            ("every 2 hours", "0/2:00"),
            ("every 120 minutes", "0/2:00"),
            ("every minute", "*:*"),
            ("every day", "daily"),
            ("every 7 days", "weekly"),
            ("every 2 days", "*-*-1/2"),
            ("every other day", "*-*-1/2"),
            ("every 3 months", "quarterly"),
            ("30s", "*:*:0/30"),
            ("rate(5 minutes)", "*:0/5"),
            ("rate(1 hour)", "hourly"),
            ("rate( 1 day )", "daily"),
            ("@every 1h", "hourly"),
            ("PT15M", "*:0/15"),
            ("P1D", "daily"),
            ("P1M", "monthly"),
            ("3am", "*-*-* 03:00"),
            ("12 pm", "*-*-* 12:00"),
            ("every day at noon", "*-*-* 12:00"),
            ("daily at 3:30pm", "*-*-* 15:30"),
            ("daily 03:00", "*-*-* 03:00"),
            ("every monday at 9:00", "Mon *-*-* 09:00"),
            ("Mondays and Thursdays at 9am", "Mon,Thu *-*-* 09:00"),
            ("weekdays 18:00", "Mon..Fri *-*-* 18:00"),
            ("every tues", "Tue *-*-* 00:00"),
            ("OnCalendar=Mon *-*-* 03:00", "Mon *-*-* 03:00"),
        ] {
            assert_eq!(lines(of_words(raw)), [line], "{raw}");
            assert!(check(raw).is_err_and(|why| why.contains(&format!("write {line:?}"))), "{raw}: {:?}", check(raw));
            assert_eq!(check(line), Ok(()), "{raw}");
        }
        for raw in ["every so often", "now", "every 0 minutes", "tomorrow at 3", "Monn"] {
            assert_eq!(of_words(raw), None, "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_translated_says_why_and_what_comes_near() {
        for (raw, says) in [
            ("every 7 minutes", "7 minutes do not fit into one evenly; \"*:0/6\" comes near"),
            ("rate(90 minutes)", "90 minutes do not fit"),
            ("every 5 hours", "\"0/4:00\" comes near"),
            ("every 2 weeks", "twice a month comes near"),
            ("@reboot", "no moment for the server's start"),
            ("0 0 9 15W * ?", "W means the working day"),
            ("H 3 * * *", "H is Jenkins's"),
        ] {
            assert!(check(raw).is_err_and(|why| why.contains(says)), "{raw}: {:?}", check(raw));
        }
        assert!(check("0 0 3 ? * 2").is_err_and(|why| why.contains("1 is Sunday")));
        assert!(check("0 3 * * * root /bin/x").is_err_and(|why| why.contains("the command goes into run")));
    }
}
