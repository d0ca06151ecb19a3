//! Numbers as a person reads them: three significant digits and the unit that suits the size.
//!
//! Between a number and its unit stands a no-break space, so that neither a terminal nor a page parts them.

use std::time::{Duration, UNIX_EPOCH};

/// What stands where a value could not be measured.
pub(super) const ABSENT: &str = "—";

const SPACE: char = '\u{a0}';

/// A span of so many microseconds, such as `1.25 ms`.
pub(super) fn duration_us(microseconds: f64) -> String {
    match microseconds {
        us if !us.is_finite() => ABSENT.to_owned(),
        us if us <= 0.0 => format!("0{SPACE}µs"),
        us if us < 0.9995 => with_unit(us * 1e3, "ns"),
        us if us < 999.5 => with_unit(us, "µs"),
        us if us < 999_500.0 => with_unit(us / 1e3, "ms"),
        us => seconds(us / 1e6),
    }
}

/// A span of so many seconds, such as `12.5 s`.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds != 0.0 && seconds.abs() < 0.9995 {
        duration_us(seconds * 1e6)
    } else {
        with_unit(seconds, "s")
    }
}

/// So many bytes, such as `1.25 MiB`.
pub(super) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    with_unit(value, UNITS[unit])
}

/// A number of things, such as `1,000,000`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many a second, such as `25,000/s`.
pub(super) fn rate(per_second: f64) -> String {
    format!("{}/s", significant(per_second))
}

/// CPU time over wall time, such as `0.85 cores`.
pub(super) fn cores(cores: f64) -> String {
    format!("{cores:.2}{SPACE}cores")
}

/// A share of one, such as `85%`.
pub(super) fn share(share: f64) -> String {
    format!("{}%", significant(share * 100.0))
}

/// A whole and what part of it a number is, such as `99 of 100`.
pub(super) fn part(part: u64, whole: u64) -> String {
    format!("{}{SPACE}of{SPACE}{}", count(part), count(whole))
}

/// A moment of so many milliseconds since 1970, in UTC.
pub(super) fn moment(unix_ms: u64) -> String {
    let moment = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    moment.map_or_else(
        || ABSENT.to_owned(),
        |moment| {
            humantime::format_rfc3339_seconds(moment)
                .to_string()
                .replace('T', " ")
                .replace('Z', " UTC")
        },
    )
}

/// Three significant digits, with separators from a thousand on.
pub(super) fn significant(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => ABSENT.to_owned(),
        size if size >= 999.5 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", count(size.round() as u64))
        }
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => trimmed(format!("{value:.1}")),
        size if size >= 0.0995 || size == 0.0 => trimmed(format!("{value:.2}")),
        _ => trimmed(format!("{value:.4}")),
    }
}

/// Text from elsewhere (labels, messages of a server) without the control characters that a terminal obeys.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            }
        })
        .collect()
}

fn with_unit(value: f64, unit: &str) -> String {
    format!("{}{SPACE}{unit}", significant(value))
}

/// Without zeros that a whole number does not need: `0` and not `0.00`. `1.50` keeps its digits.
fn trimmed(text: String) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_take_the_unit_that_suits_them() {
        let cases = [
            (0.0, "0 µs"),
            (0.25, "250 ns"),
            (12.34, "12.3 µs"),
            (999.6, "1 ms"),
            (1_250.0, "1.25 ms"),
            (999_400.0, "999 ms"),
            (1_500_000.0, "1.50 s"),
            (600_000_000.0, "600 s"),
            (f64::NAN, ABSENT),
        ];
        for (microseconds, wanted) in cases {
            assert_eq!(duration_us(microseconds).replace(SPACE, " "), wanted);
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (size, wanted) in [
            (0.0, "0 B"),
            (192.0, "192 B"),
            (1024.0, "1 KiB"),
            (1536.0, "1.50 KiB"),
            (5.0e9, "4.66 GiB"),
        ] {
            assert_eq!(bytes(size).replace(SPACE, " "), wanted);
        }
    }

    #[test]
    fn counts_are_grouped_and_rates_rounded() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(rate(12_345.6), "12,346/s");
        assert_eq!(rate(1.5), "1.50/s");
        assert_eq!(share(0.985), "98.5%");
        assert_eq!(significant(-1234.0), "-1,234");
    }

    #[test]
    fn moments_are_utc() {
        assert_eq!(moment(1_767_225_600_000), "2026-01-01 00:00:00 UTC");
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do_by_a_server() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
