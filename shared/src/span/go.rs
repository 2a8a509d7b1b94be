//! Spans of time as the primary reads and writes them: whole seconds, days (`3d`), Go's form (`1h30m`, `1.5h`).

use alloc::{format, string::String};
use core::time::Duration;

/// A span as it was given; what is done with a negative one depends on the field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoSpan {
    /// Whether it was below zero.
    pub negative: bool,
    /// How long, without the sign.
    pub span: Duration,
}

/// Why a text is no span, in the primary's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SpanError(pub String);

/// The units of Go's durations, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The longest span of Go's durations.
const MAX_NANOS: u64 = i64::MAX.unsigned_abs();

/// Reads a span. Nothing is zero.
///
/// The rule is OpenBao's (`parseutil.ParseDurationSecond`), with Go's texts.
///
/// # Errors
/// [`SpanError`].
pub fn parse(text: &str) -> Result<GoSpan, SpanError> {
    if text.is_empty() {
        return Ok(zero());
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return scaled(seconds, 1_000_000_000);
    }
    if let Some(days) = text.strip_suffix('d') {
        let refused = || {
            SpanError(format!(
                "strconv.ParseInt: parsing {days:?}: invalid syntax"
            ))
        };
        let days = days.parse::<i64>().map_err(|_| refused())?;
        return scaled(days, 86_400_000_000_000);
    }
    go(text)
}

fn zero() -> GoSpan {
    GoSpan {
        negative: false,
        span: Duration::ZERO,
    }
}

fn scaled(count: i64, nanos: u64) -> Result<GoSpan, SpanError> {
    let total = count.unsigned_abs().checked_mul(nanos);
    let total = total.filter(|total| *total <= MAX_NANOS).ok_or_else(|| {
        SpanError(
            "multiplication of durations resulted in overflow, one operand may be too large".into(),
        )
    })?;
    Ok(GoSpan {
        negative: count < 0,
        span: Duration::from_nanos(total),
    })
}

/// Go's `time.ParseDuration`.
fn go(text: &str) -> Result<GoSpan, SpanError> {
    let invalid = || SpanError(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    if rest == "0" {
        return Ok(zero());
    }
    while !rest.is_empty() {
        let (whole, after) = split(rest, |c| !c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split(after, |c| !c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after) = split(after, |c| c == '.' || c.is_ascii_digit());
        if unit.is_empty() {
            return Err(SpanError(format!(
                "time: missing unit in duration {text:?}"
            )));
        }
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, nanos) = known.ok_or_else(|| {
            SpanError(format!("time: unknown unit {unit:?} in duration {text:?}"))
        })?;
        let part = part(whole, fraction, *nanos).ok_or_else(invalid)?;
        total = total
            .checked_add(part)
            .filter(|total| *total <= MAX_NANOS + 1)
            .ok_or_else(invalid)?;
        rest = after;
    }
    // The least of Go's durations has no counterpart above zero.
    if !negative && total > MAX_NANOS {
        return Err(invalid());
    }
    Ok(GoSpan {
        negative: negative && total > 0,
        span: Duration::from_nanos(total),
    })
}

fn split(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at_checked(text.find(end).unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

/// `whole.fraction` of a unit, in nanoseconds.
fn part(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole: u64 = match whole {
        "" => 0,
        whole => whole.parse().ok()?,
    };
    let mut total = u128::from(whole) * u128::from(unit);
    let (mut above, mut below) = (0u128, 1u128);
    for digit in fraction.bytes().take(18) {
        above = above * 10 + u128::from(digit - b'0');
        below *= 10;
    }
    total += above * u128::from(unit) / below;
    u64::try_from(total).ok()
}

/// A span as the primary writes it in warnings: `1h`, `1m30s`, `1.5s`.
pub fn human(span: Duration) -> String {
    let nanos = span.subsec_nanos();
    if span.as_secs() == 0 && nanos > 0 {
        let (unit, size) = match nanos {
            1_000_000.. => ("ms", 1_000_000),
            1_000.. => ("\u{b5}s", 1_000),
            _ => ("ns", 1),
        };
        return format!(
            "{}{unit}",
            decimal((nanos / size).into(), nanos % size, size)
        );
    }
    let parts = [
        (span.as_secs() / 3600, "h"),
        (span.as_secs() / 60 % 60, "m"),
    ];
    let mut text: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    let seconds = span.as_secs() % 60;
    if seconds > 0 || nanos > 0 || text.is_empty() {
        text = format!("{text}{}s", decimal(seconds, nanos, 1_000_000_000));
    }
    text
}

/// `whole`, and `rest` of `size` as a fraction, without zeros at its end.
fn decimal(whole: u64, rest: u32, size: u32) -> String {
    if rest == 0 {
        return format!("{whole}");
    }
    let width = size.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn nanos(text: &str) -> i128 {
        let given = parse(text).unwrap();
        let nanos = i128::try_from(given.span.as_nanos()).unwrap();
        if given.negative { -nanos } else { nanos }
    }

    #[test]
    fn spans_are_seconds_days_or_in_gos_form() {
        for (text, wanted) in [
            ("", 0),
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("90", 90_000_000_000),
            ("-5", -5_000_000_000),
            ("+5", 5_000_000_000),
            ("2d", 172_800_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("500ms", 500_000_000),
            ("1s1ns", 1_000_000_001),
            ("-1m", -60_000_000_000),
        ] {
            assert_eq!(nanos(text), wanted, "{text:?}");
        }
    }

    /// As OpenBao 2.7.2 words them.
    #[test]
    fn what_is_no_span_is_refused_in_the_primarys_words() {
        for (text, wanted) in [
            ("abc", "time: invalid duration \"abc\""),
            (" 5s", "time: invalid duration \" 5s\""),
            ("1s0", "time: missing unit in duration \"1s0\""),
            ("1.5", "time: missing unit in duration \"1.5\""),
            ("1d12h", "time: unknown unit \"d\" in duration \"1d12h\""),
            ("abd", "strconv.ParseInt: parsing \"ab\": invalid syntax"),
            ("1.5d", "strconv.ParseInt: parsing \"1.5\": invalid syntax"),
            (
                "99999999999999",
                "multiplication of durations resulted in overflow, one operand may be too large",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), wanted, "{text:?}");
        }
    }

    #[test]
    fn spans_are_written_without_zeros() {
        for (millis, wanted) in [
            (0, "0s"),
            (1500, "1.5s"),
            (500, "500ms"),
            (60_000, "1m"),
            (90_000, "1m30s"),
            (3_600_000, "1h"),
            (3_605_000, "1h5s"),
            (2_764_800_000, "768h"),
        ] {
            assert_eq!(human(Duration::from_millis(millis)), wanted);
        }
    }
}
