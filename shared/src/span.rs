//! Spans of time as texts: as Holdover's configuration writes them, as people read them, and as the primary does.

pub mod go;

use core::{fmt, time::Duration};

/// Units of spans by their milliseconds, the largest first.
const UNITS: [(u64, &str); 5] = [
    (86_400_000, "d"),
    (3_600_000, "h"),
    (60_000, "m"),
    (1000, "s"),
    (1, "ms"),
];

/// Why a text is not a span: it has another form.
const FORM: &str =
    "is not a span of time; write a whole number and ms, s, m, h or d, as in \"30s\"";

/// Reads a span as the configuration writes it: a whole number and `ms`, `s`, `m`, `h` or `d`. `0` needs no unit and
/// means zero, never forever.
///
/// # Errors
/// Why it is none, in words that follow its name.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    measured(text, &UNITS)
        .ok_or(FORM)?
        .map(Duration::from_millis)
        .ok_or("is longer than can be counted")
}

/// A whole number with one of `units`, in the smallest of them: none within where it cannot be counted.
pub fn measured(text: &str, units: &[(u64, &str)]) -> Option<Option<u64>> {
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (factor, _) = units.iter().find(|(_, name)| *name == unit)?;
    Some(number.parse::<u64>().ok()?.checked_mul(*factor))
}

/// Writes a number in the largest of `units` that divides it.
///
/// # Errors
/// As every formatter.
pub fn written(f: &mut fmt::Formatter<'_>, number: u64, units: &[(u64, &str)]) -> fmt::Result {
    let mut fitting = units
        .iter()
        .filter(|(unit, _)| number >= *unit && number.is_multiple_of(*unit));
    match fitting.next() {
        Some((unit, name)) => write!(f, "{}{name}", number / unit),
        None => f.write_str("0s"),
    }
}

/// Shows a span as the configuration would write it: in the largest unit that divides it.
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        written(f, millis, &UNITS)
    }
}

/// Shows a span for people: whole seconds, in the two largest units that it has.
pub struct Rounded(pub Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_secs().saturating_mul(1000);
        let [units @ .., _] = UNITS;
        let first = units
            .iter()
            .position(|(unit, _)| millis >= *unit)
            .unwrap_or(units.len() - 1);
        let mut rest = millis;
        for (nth, (unit, name)) in units.iter().skip(first).take(2).enumerate() {
            let (count, before) = (rest / unit, if nth == 0 { "" } else { " " });
            rest %= unit;
            if count > 0 || nth == 0 {
                write!(f, "{before}{count}{name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_counts() {
        for (text, millis) in [
            ("500ms", 500),
            ("1s", 1000),
            ("5m", 300_000),
            ("12h", 43_200_000),
            ("30d", 2_592_000_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        for text in [
            "", "5", "s", "1.5s", "-1s", "+1s", "1 s", "1S", "1M", "1w", "forever", "1h30m",
        ] {
            assert_eq!(parse(text), Err(FORM), "{text}");
        }
        assert!(parse("99999999999999999d").is_err_and(|why| why != FORM));
    }

    #[test]
    fn spans_are_shown_in_their_two_largest_units() {
        let shown = |secs| Rounded(Duration::from_secs(secs)).to_string();
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(59), "59s");
        assert_eq!(shown(61), "1m 1s");
        assert_eq!(shown(3600), "1h");
        assert_eq!(shown(43_170), "11h 59m");
        assert_eq!(shown(90_061), "1d 1h");
    }

    proptest! {
        #[test]
        fn spans_are_read_as_they_are_written(millis in 0u64..=1_000_000_000_000) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(parse(&Span(span).to_string()), Ok(span));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
