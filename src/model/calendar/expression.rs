//! systemd's calendar expressions, parsed as its own parser (calendarspec.c) does, step by step, and the days that they
//! match.

/// The time zones of the tz database, one per line.
pub(super) const ZONES: &str = include_str!("../zones.txt");
/// The years that systemd knows.
pub(super) const YEARS: (u32, u32) = (1970, 2199);
const ALL_DAYS: u8 = 0b111_1111;
pub(super) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MOST_PARTS: usize = 240;
const SECOND: u64 = 1_000_000;

/// One part of a chain: a number, a range, or a repetition from a number on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    start: u64,
    stop: Option<u64>,
    repeat: u64,
}

/// Numbers that match; None: all do.
type Chain = Option<Vec<Part>>;

/// The days that an expression matches. Every valid time of day occurs on each day.
#[derive(Debug)]
pub(super) struct Expression {
    weekdays: u8,
    year: Chain,
    month: Chain,
    day: Chain,
    end_of_month: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day {
    pub year: u32,
    pub month: u32,
    pub day: u32,
}

impl Expression {
    fn any() -> Self {
        Self { weekdays: ALL_DAYS, year: None, month: None, day: None, end_of_month: false }
    }

    pub(super) fn parse(raw: &str) -> Option<Self> {
        let text = without_zone(raw);
        let one = |number| Some(vec![Part { start: number, stop: None, repeat: 0 }]);
        let of = |months: &[u64]| Some(months.iter().map(|m| Part { start: *m, stop: None, repeat: 0 }).collect());
        match text.to_ascii_lowercase().as_str() {
            "" => return None,
            "minutely" | "hourly" | "daily" => return Some(Self::any()),
            "weekly" => return Some(Self { weekdays: 1, ..Self::any() }),
            "monthly" => return Some(Self { day: one(1), ..Self::any() }),
            "annually" | "yearly" | "anually" => return Some(Self { month: one(1), day: one(1), ..Self::any() }),
            "quarterly" => return Some(Self { month: of(&[1, 4, 7, 10]), day: one(1), ..Self::any() }),
            "biannually" | "bi-annually" | "semiannually" | "semi-annually" => {
                return Some(Self { month: of(&[1, 7]), day: one(1), ..Self::any() });
            }
            _ => {}
        }
        let mut reader = Reader { text: text.as_bytes(), at: 0 };
        let weekdays = reader.weekdays()?;
        let mut found = reader.date()?;
        reader.time()?;
        found.weekdays = weekdays;
        found.year.iter_mut().flatten().for_each(|part| {
            part.start = full_year(part.start);
            part.stop = part.stop.map(full_year);
        });
        let fits = is_valid(&found.year, YEARS.0.into(), YEARS.1.into(), false)
            && is_valid(&found.month, 1, 12, false)
            && is_valid(&found.day, 1, 31, found.end_of_month);
        fits.then_some(found)
    }

    /// Returns whether a day matches, from this one on.
    pub(super) fn comes_from(&self, from: Day) -> bool {
        (from.year..=YEARS.1).filter(|year| matches(&self.year, u64::from(*year))).any(|year| {
            (1..=12).filter(|month| matches(&self.month, u64::from(*month))).any(|month| {
                (1..=days_in(year, month)).any(|day| {
                    let day = Day { year, month, day };
                    day >= from && self.matches_day(day)
                })
            })
        })
    }

    fn matches_day(&self, day: Day) -> bool {
        let number = u64::from(day.day);
        let last = u64::from(days_in(day.year, day.month));
        let matched = match (&self.day, self.end_of_month) {
            (Some(parts), true) => parts.iter().any(|part| {
                // Counted from the last day, a range runs backwards.
                let from_end = |n: u64| last + 1 - n.min(last);
                let (start, stop) = match part.stop {
                    Some(stop) => (from_end(stop), Some(from_end(part.start))),
                    None => (from_end(part.start), None),
                };
                Part { start, stop, repeat: part.repeat }.matches(number)
            }),
            (days, _) => matches(days, number),
        };
        matched && self.weekdays & (1 << day.weekday()) != 0
    }
}

impl Part {
    fn matches(self, number: u64) -> bool {
        let in_range = number >= self.start && self.stop.is_none_or(|stop| number <= stop);
        number == self.start || in_range && self.repeat > 0 && (number - self.start).is_multiple_of(self.repeat)
    }
}

fn matches(chain: &Chain, number: u64) -> bool {
    chain.as_ref().is_none_or(|parts| parts.iter().any(|part| part.matches(number)))
}

/// Checks a chain as systemd does: a repetition has to occur at least once.
fn is_valid(chain: &Chain, from: u64, to: u64, end_of_month: bool) -> bool {
    let mut parts = chain.clone().unwrap_or_default();
    parts.sort();
    parts.dedup();
    parts.iter().enumerate().all(|(at, part)| {
        let Part { start, stop, repeat } = *part;
        // systemd takes off the last three days again for each part that follows another.
        let to = if end_of_month { to.saturating_sub(3 * (at as u64 + 1)) } else { to };
        let fits = match stop {
            Some(stop) => (from..=to).contains(&stop) && start + repeat <= stop,
            None if end_of_month => start >= from + repeat,
            None => start + repeat <= to,
        };
        (from..=to).contains(&start) && repeat <= to.saturating_sub(from) && fits
    })
}

/// Expands a two-digit year to one of our time.
fn full_year(year: u64) -> u64 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        year => year,
    }
}

impl Day {
    /// Returns a day by its number since 1970-01-01.
    pub(super) fn of_number(number: u64) -> Self {
        let (mut left, mut year) = (number, YEARS.0);
        let length = |year| if days_in(year, 2) == 29 { 366 } else { 365 };
        while left >= length(year) && year <= YEARS.1 {
            left -= length(year);
            year += 1;
        }
        let mut month = 1;
        while month < 12 && left >= u64::from(days_in(year, month)) {
            left -= u64::from(days_in(year, month));
            month += 1;
        }
        Self { year, month, day: u32::try_from(left).unwrap_or(0) + 1 }
    }

    /// Returns the day of the week; 0 is Monday.
    fn weekday(self) -> u32 {
        // Sakamoto's method; its 0 is Sunday.
        const SHIFT: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let shift = SHIFT[(self.month as usize - 1) % 12];
        (year + year / 4 - year / 100 + year / 400 + shift + self.day + 6) % 7
    }
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

fn without_zone(raw: &str) -> &str {
    let Some((text, zone)) = raw.rsplit_once(' ') else { return raw };
    if zone.eq_ignore_ascii_case("UTC") || is_zone(zone) { text } else { raw }
}

pub(super) fn is_zone(name: &str) -> bool {
    ZONES.lines().any(|zone| zone == name)
}

/// Parses what systemd parses, from left to right.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn next_is(&self, wanted: &[u8]) -> bool {
        self.text[self.at..].starts_with(wanted)
    }

    fn skip_spaces(&mut self) {
        while self.peek() == b' ' {
            self.at += 1;
        }
    }

    fn weekdays(&mut self) -> Option<u8> {
        let (mut bits, mut open, mut first): (u8, Option<usize>, bool) = (0, None, true);
        loop {
            let Some((number, length)) = self.weekday() else { return first.then_some(ALL_DAYS) };
            if !matches!(self.text.get(self.at + length), None | Some(b'-' | b'.' | b',' | b' ')) {
                return None;
            }
            bits |= 1 << number;
            if let Some(from) = open {
                if from > number {
                    return None;
                }
                (from..number).for_each(|day| bits |= 1 << day);
            }
            self.at += length;
            match self.peek() {
                0 => return Some(bits),
                b' ' => {
                    self.skip_spaces();
                    return Some(bits);
                }
                b'.' | b'-' => {
                    let length = if self.peek() == b'-' { 1 } else { 2 };
                    if open.is_some() || length == 2 && !self.next_is(b"..") {
                        return None;
                    }
                    open = Some(number);
                    self.at += length;
                }
                _ => {
                    open = None;
                    self.at += 1;
                }
            }
            if matches!(self.peek(), 0 | b' ') {
                self.skip_spaces();
                return open.is_none().then_some(bits);
            }
            first = false;
        }
    }

    fn weekday(&self) -> Option<(usize, usize)> {
        let rest = &self.text[self.at..];
        let starts =
            |name: &str| rest.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name.as_bytes()));
        let long = DAYS.iter().position(|name| starts(name)).map(|number| (number, DAYS[number].len()));
        long.or_else(|| DAYS.iter().position(|name| starts(&name[..3])).map(|number| (number, 3)))
    }

    fn date(&mut self) -> Option<Expression> {
        let mut found = Expression::any();
        if self.peek() == 0 {
            return Some(found);
        }
        let begin = self.at;
        let first = self.chain(false)?;
        if matches!(self.peek(), 0 | b':') {
            // It is a time, not a date.
            self.at = begin;
            return Some(found);
        }
        self.hyphen(&mut found)?;
        let second = self.chain(false)?;
        if matches!(self.peek(), 0 | b' ') {
            (found.month, found.day) = (first, second);
        } else {
            if found.end_of_month {
                return None;
            }
            self.hyphen(&mut found)?;
            (found.year, found.month, found.day) = (first, second, self.chain(false)?);
            if !matches!(self.peek(), 0 | b' ') {
                return None;
            }
        }
        self.skip_spaces();
        Some(found)
    }

    fn hyphen(&mut self, found: &mut Expression) -> Option<()> {
        found.end_of_month |= self.peek() == b'~';
        matches!(self.peek(), b'-' | b'~').then(|| self.at += 1)
    }

    fn time(&mut self) -> Option<()> {
        if self.peek() == 0 {
            return Some(());
        }
        let hour = self.chain(false)?;
        self.colon()?;
        let minute = self.chain(false)?;
        let second = match self.peek() {
            0 => None,
            _ => {
                self.colon()?;
                self.chain(true)?
            }
        };
        let fits = is_valid(&hour, 0, 23, false)
            && is_valid(&minute, 0, 59, false)
            && is_valid(&second, 0, 60 * SECOND - 1, false);
        (self.peek() == 0 && fits).then_some(())
    }

    fn colon(&mut self) -> Option<()> {
        (self.peek() == b':').then(|| self.at += 1)
    }

    /// Reads `*`, or parts with commas between them.
    fn chain(&mut self, seconds: bool) -> Option<Chain> {
        if self.peek() == b'*' {
            self.at += 1;
            return Some(None);
        }
        let mut parts = Vec::new();
        loop {
            parts.push(self.part(seconds)?);
            if parts.len() > MOST_PARTS {
                return None;
            }
            if self.peek() != b',' {
                return Some(Some(parts));
            }
            self.at += 1;
        }
    }

    fn part(&mut self, seconds: bool) -> Option<Part> {
        let (start, mut stop, mut repeat) = (self.number(seconds)?, None, 0);
        if self.next_is(b"..") {
            self.at += 2;
            stop = Some(self.number(seconds)?);
            repeat = if seconds { SECOND } else { 1 };
        }
        if self.peek() == b'/' {
            self.at += 1;
            repeat = self.number(seconds).filter(|repeat| *repeat > 0)?;
        } else if seconds && stop.is_some_and(|stop| start + repeat > stop) {
            return None;
        }
        if !matches!(self.peek(), 0 | b' ' | b',' | b'-' | b'~' | b':') {
            return None;
        }
        // A range is as long as its repetitions; one without any is a number.
        if let Some(end) = stop.filter(|end| *end > start && repeat > 0) {
            stop = Some(end - (end - start) % repeat);
        }
        if stop == Some(start) {
            (stop, repeat) = (None, 0);
        }
        Some(Part { start, stop, repeat })
    }

    fn number(&mut self, seconds: bool) -> Option<u64> {
        let mut value = self.digits()?;
        if seconds {
            value = value.checked_mul(SECOND)?;
            if self.peek() == b'.' && !self.next_is(b"..") {
                self.at += 1;
                value += self.fraction()?;
            }
        }
        (value <= i32::MAX as u64).then_some(value)
    }

    fn digits(&mut self) -> Option<u64> {
        let end = self.text[self.at..].iter().position(|byte| !byte.is_ascii_digit());
        let digits = &self.text[self.at..end.map_or(self.text.len(), |end| self.at + end)];
        self.at += digits.len();
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Reads a fraction as millionths, rounded.
    fn fraction(&mut self) -> Option<u64> {
        let begin = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        let digits = &self.text[begin..self.at];
        let digit = |at: usize| u64::from(digits.get(at).map_or(0, |byte| byte - b'0'));
        let value = (0..6).fold(0, |value, at| value * 10 + digit(at));
        (!digits.is_empty()).then_some(value + u64::from(digit(6) >= 5))
    }
}
