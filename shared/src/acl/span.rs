//! Durations and moments as the primary reads them, which is as Go reads them.

use crate::{span::go, time::WallTime};

use super::error::Reason;

/// Nanoseconds of a duration: whole seconds, whole days (`7d`), or Go's notation (`1h30m`); empty is zero.
pub(super) fn duration(text: &str) -> Result<i64, Reason> {
    let given = go::parse(text).map_err(|_| Reason::BadDuration)?;
    let nanos = i128::try_from(given.span.as_nanos()).map_err(|_| Reason::BadDuration)?;
    let signed = if given.negative { -nanos } else { nanos };
    i64::try_from(signed).map_err(|_| Reason::BadDuration)
}

/// Nanoseconds of so many seconds.
pub(super) fn seconds_to_nanos(seconds: i64) -> Result<i64, Reason> {
    seconds
        .checked_mul(1_000_000_000)
        .ok_or(Reason::BadDuration)
}

/// Nanoseconds of the whole part of so many seconds.
pub(super) fn whole_seconds_to_nanos(seconds: f64) -> Result<i64, Reason> {
    // The cast drops the fraction and saturates, and what saturates does not fit afterwards.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the fraction is to be dropped"
    )]
    let seconds = seconds as i64;
    seconds_to_nanos(seconds)
}

/// A decimal integer with an optional sign.
pub(super) fn decimal(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A moment: RFC 3339 as Go reads it (one-digit hours and a comma before the fraction pass), or Unix seconds.
pub(super) fn moment(text: &str) -> Result<WallTime, Reason> {
    rfc3339(text)
        .or_else(|| decimal(text).map(WallTime::from_secs))
        .ok_or(Reason::BadExpiration)
}

fn rfc3339(text: &str) -> Option<WallTime> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    if date.next().is_some() || (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (hour, time) = split_digits(time);
    let (minute, time) = split_digits(time.strip_prefix(':')?);
    let (second, zone) = split_digits(time.strip_prefix(':')?);
    if !(1..=2).contains(&hour.len()) || minute.len() != 2 || second.len() != 2 {
        return None;
    }
    let (millis, zone) = fraction_millis(zone)?;
    let civil = jiff::civil::DateTime::new(
        number(year)?,
        number(month)?,
        number(day)?,
        number(hour)?,
        number(minute)?,
        number(second)?,
        0,
    )
    .ok()?;
    let utc = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?.as_second();
    let seconds = utc.checked_sub(offset_seconds(zone)?)?;
    Some(WallTime::from_millis(
        seconds.checked_mul(1000)?.checked_add(millis)?,
    ))
}

fn number<T: TryFrom<i64>>(digits: &str) -> Option<T> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| decimal(digits)).flatten()?.try_into().ok()
}

fn fraction_millis(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix(['.', ',']) else {
        return Some((0, text));
    };
    let (digits, rest) = split_digits(rest);
    let mut millis = 0_i64;
    for place in 0..3 {
        let digit = digits
            .as_bytes()
            .get(place)
            .map_or(0, |b| b.wrapping_sub(b'0'));
        millis = millis * 10 + i64::from(digit);
    }
    (!digits.is_empty()).then_some((millis, rest))
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    if (hours.len(), minutes.len()) != (2, 2) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (number(hours)?, number(minutes)?);
    (hours <= 24 && minutes <= 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_seconds_days_and_gos_notation() {
        for (text, value) in [
            ("", 0),
            ("90", 90_000_000_000),
            ("-5", -5_000_000_000),
            ("2d", 172_800_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1us", 1_000),
        ] {
            assert_eq!(duration(text), Ok(value), "{text}");
        }
        for text in [
            "1d12h",
            " 1s",
            "1",
            "1 s",
            ".s",
            "s",
            "9223372037",
            "abc",
            "-",
        ] {
            assert_eq!(duration(text).is_err(), text != "1", "{text}");
        }
    }

    #[test]
    fn moments_are_as_lenient_as_go() {
        for text in [
            "2030-01-01T01:00:00Z",
            "2030-01-01T1:00:00Z",
            "2030-01-01T01:00:00,5Z",
            "2030-01-01T01:00:00+24:00",
            "+1999999999",
        ] {
            assert!(moment(text).is_ok(), "{text}");
        }
        for text in [
            "2030-01-01t01:00:00z",
            "2030-01-01 01:00:00Z",
            "2030-01-01T01:00:60Z",
            "2030-02-30T01:00:00Z",
            "2030-01-01T01:00:00+25:00",
            "2030-01-01T01:00:00",
            "tomorrow",
            "0x7f",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
        assert_eq!(
            moment("1970-01-01T00:00:01.25+00:00"),
            Ok(WallTime::from_millis(1250))
        );
        assert_eq!(moment("1970-01-01T01:00:00+01:00"), Ok(WallTime::EPOCH));
    }
}
