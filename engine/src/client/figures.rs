//! Numbers as people read them, in few columns.

/// A number with its digits in groups of three.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate or an amount in at most five columns: `9.5`, `120`, `12.3k`, `1.20M`.
#[must_use]
pub fn short(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T", "P"])
}

/// Bytes: `512 B`, `4.0 KiB`, `1.20 MiB`.
#[must_use]
pub fn bytes(number: f64) -> String {
    scaled(
        number,
        1024.0,
        &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"],
    )
}

fn scaled(number: f64, base: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number.max(0.0), 0);
    // What would be rounded up to the next unit belongs there.
    while number >= base - 0.5 && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    let places = match (unit, number) {
        (0, number) if number == number.trunc() || number >= 9.95 => 0,
        (0, _) => 1,
        (_, number) if number < 9.995 => 2,
        (_, number) if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.places$}{}", units.get(unit).unwrap_or(&""))
}

/// A time in microseconds: `85 µs`, `1.20 ms`, `2.50 s`. Nothing where there is none.
#[must_use]
pub fn latency(us: Option<f64>) -> String {
    match us {
        None => "–".to_owned(),
        Some(us) if us < 999.5 => format!("{us:.0} µs"),
        Some(us) if us < 999_500.0 => format!("{} ms", three_digits(us / 1000.0)),
        Some(us) => format!("{} s", three_digits(us / 1_000_000.0)),
    }
}

fn three_digits(number: f64) -> String {
    let places = match number {
        number if number < 9.995 => 2,
        number if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.places$}")
}

/// How long something has been: `45 s`, `12 min`, `3 h 12 min`, `4 d 3 h`.
#[must_use]
pub fn age(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.2"),
            (9.5, "9.5"),
            (120.4, "120"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (1_200_000.0, "1.20M"),
            (-1.0, "0"),
        ];
        for (number, expected) in cases {
            assert_eq!(short(number), expected);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }

    #[test]
    fn amounts_and_times() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(4096.0), "4.00 KiB");
        assert_eq!(bytes(1_258_291.0), "1.20 MiB");
        assert_eq!(latency(None), "–");
        assert_eq!(latency(Some(85.4)), "85 µs");
        assert_eq!(latency(Some(1_200.0)), "1.20 ms");
        assert_eq!(latency(Some(250_000.0)), "250 ms");
        assert_eq!(latency(Some(2_500_000.0)), "2.50 s");
        assert_eq!(age(45_000), "45 s");
        assert_eq!(age(720_000), "12 min");
        assert_eq!(age(11_520_000), "3 h 12 min");
        assert_eq!(age(360_000_000), "4 d 4 h");
    }
}
