//! Checks systemd's calendar expressions without systemd: whether it would read one, and whether the time ever comes.
//!
//! A spec is checked where it is written, even on a machine without systemd. Other notations, above all cron's five
//! fields, are answered with the systemd equivalent.

mod expression;
mod foreign;

use expression::{Day, Expression, YEARS, ZONES, is_zone};
use foreign::Meaning;

const LONGEST: usize = 100;

/// Checks an expression; the error says what is wrong and what would be right.
///
/// # Errors
/// systemd would not read it, or the time never comes.
pub fn check(raw: &str) -> Result<(), String> {
    match Expression::parse(raw) {
        None => Err(advice(raw)),
        Some(expression) if !expression.comes_from(Day { year: YEARS.0, month: 1, day: 1 }) => {
            Err(format!("{raw:?} never comes: the calendar has no such day"))
        }
        Some(_) => Ok(()),
    }
}

/// Returns whether the expression matches a time after this one, in milliseconds since 1970. It may have passed within
/// the last day: when a day ends depends on the server's time zone.
pub fn comes_after(raw: &str, millis: u64) -> bool {
    let yesterday = Day::of_number((millis / 86_400_000).saturating_sub(1));
    Expression::parse(raw).is_none_or(|expression| expression.comes_from(yesterday))
}

/// Returns what to write instead of a text that is no calendar expression.
pub fn advice(raw: &str) -> String {
    if raw.len() > LONGEST {
        return format!("a calendar expression has at most {LONGEST} characters");
    }
    let of_cron = foreign::of_cron(raw);
    let is_cron = of_cron.is_some();
    match of_cron.or_else(|| foreign::of_words(raw)) {
        Some(Meaning::Without(why)) => return format!("{raw:?} is not a calendar expression of systemd: {why}"),
        Some(Meaning::Lines(lines, note)) => {
            let note = note.map_or_else(String::new, |note| format!("; {note}"));
            return match lines.as_slice() {
                [line] if is_cron => format!("{raw:?} is cron's way; systemd's is {line:?}{note}"),
                [line] => format!("{raw:?} is not a calendar expression of systemd; write {line:?}{note}"),
                lines => format!(
                    "{raw:?} is cron's way, and means either day; systemd's is two processes with {}{note}",
                    lines.iter().map(|line| format!("{line:?}")).collect::<Vec<_>>().join(" and ")
                ),
            };
        }
        None => {}
    }
    if let Some((zone, near)) = wrong_zone(raw) {
        let hint =
            near.map_or("one looks like Europe/Berlin, or UTC".to_owned(), |near| format!("did you mean {near}?"));
        return format!("{zone:?} is not a time zone; {hint}");
    }
    format!(
        "{raw:?} is not a calendar expression of systemd like daily, *-*-* 03:00, Mon..Fri *-*-* 09:00 or *:0/15; \
         `systemd-analyze calendar` explains each"
    )
}

/// Returns the last word of an expression that would be valid without it, if it could be meant as a time zone.
fn wrong_zone(raw: &str) -> Option<(&str, Option<&'static str>)> {
    let (text, zone) = raw.rsplit_once(' ')?;
    let is_word = zone.starts_with(|c: char| c.is_ascii_alphabetic());
    Expression::parse(text).filter(|_| is_word && !is_zone(zone))?;
    let near =
        ZONES.lines().map(|known| (strsim::damerau_levenshtein(&known.to_lowercase(), &zone.to_lowercase()), known));
    let nearest = near.min().filter(|(distance, _)| *distance <= 2 && zone.len() > 4);
    Some((zone, nearest.map(|(_, known)| known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_reads_is_taken() {
        for raw in [
            "daily",
            "Hourly",
            "weekly UTC",
            "yearly Europe/Berlin",
            "Mon *-*-* 03:00",
            "mon..fri 9:00",
            "Sat,Sun 12:00",
            "*-*-* 03:00",
            "*:0/15",
            "*:*:0/5",
            "*-*-1/2 12:00",
            "*-*~1",
            "*-02~01 00:00",
            "*-*-* 02:30:15.25",
            "00:00",
            "2099-12-01 03:00 UTC",
            "*-02-29",
            "Mon..Fri *-*-* 09,17:00/30:00 America/New_York",
            "Fri *-*-13",
            "99-1-1",
            "*-*-* *:*:*",
            "*-*~07/1",
            "Mon-Fri",
            "Mon,",
            "*-*-8..14/2 10:00:00..30/10",
        ] {
            assert_eq!(check(raw), Ok(()), "{raw}");
        }
    }

    #[test]
    fn what_systemd_does_not_read_or_what_never_comes_is_refused() {
        for raw in [
            "",
            "03",
            "25:00",
            "*-13-01",
            "*-*-32",
            "Fri..Mon",
            "Monn",
            "every day at noon",
            "*-*-* 03:00 PM",
            "5..4:00",
            "*:0/60",
            "*:0/0",
            "1900-01-01",
            "*-*~31",
            "daily 03:00",
            "03:00 *-*-*",
            "*-*-*-*",
            "12:00:60",
            "- 03:00",
        ] {
            assert!(check(raw).is_err(), "{raw}");
        }
        for raw in ["*-02-30", "*-04,06,09,11-31", "Mon 2026-12-01", "2025-02-29", "2025..2027-02-29", "*-02~29"] {
            assert!(check(raw).is_err_and(|why| why.contains("never comes") || raw.contains('~')), "{raw}");
        }
    }

    #[test]
    fn a_day_that_is_over_does_not_come_again() {
        let now = 1_795_000_000_000; // 2026-11-18
        for (raw, comes) in [
            ("2026-11-19", true),
            ("2026-11-18 00:00", true),
            ("2026-11-17", true),
            ("2026-11-16", false),
            ("2020-*-*", false),
            ("2020..2030-01-01", true),
            ("Thu 2026-*-*", true),
            ("2026-01..10-* 03:00", false),
            ("daily", true),
        ] {
            assert_eq!(comes_after(raw, now), comes, "{raw}");
        }
    }

    #[test]
    fn a_zone_that_is_not_one_is_named() {
        for (raw, said) in [
            ("*-*-* 03:00 Europe/Berln", "\"Europe/Berln\" is not a time zone; did you mean Europe/Berlin?"),
            ("*-*-* 03:00 CEST", "\"CEST\" is not a time zone; one looks like Europe/Berlin"),
            ("now and then", "`systemd-analyze calendar` explains each"),
        ] {
            let found = check(raw).unwrap_err();
            assert!(found.contains(said), "{raw}: {found}");
        }
    }
}
