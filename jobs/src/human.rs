//! Numbers as people read them.

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Three digits and a power of a thousand: `12.3 k`, `4.56 G`.
pub fn short(x: f64) -> String {
    if !x.is_finite() {
        return "?".to_owned();
    }
    if x.abs() < 999.5 && x == x.trunc() {
        return format!("{x}");
    }
    let mut x = x;
    for unit in ["", " k", " M", " G", " T", " P"] {
        if x.abs() < 999.5 {
            return format!("{}{unit}", three_digits(x));
        }
        x /= 1000.0;
    }
    format!("{} E", three_digits(x))
}

fn three_digits(x: f64) -> String {
    let decimals = match x.abs() {
        a if a >= 99.95 => 0,
        a if a >= 9.995 => 1,
        _ => 2,
    };
    format!("{x:.decimals$}")
}

/// `14.1 MB`, in powers of 1000.
#[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
pub fn bytes(n: u64) -> String {
    let short = short(n as f64);
    if short.contains(' ') { format!("{short}B") } else { format!("{short} B") }
}

/// `0.4 s`, `42 s`, `3 min 07 s`, `2 h 05 min`, `3 d 04 h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "finite and not negative")]
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {:02} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `12 %`.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "?".to_owned() }
}

/// Four digits after the point, or `-` where there is no number.
pub fn ratio(x: f64) -> String {
    if x.is_finite() { format!("{x:.4}") } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 3.25, 999.6, 12_345.0, 4.56e9].map(short),
            ["0", "3.25", "1.00 k", "12.3 k", "4.56 G"]
        );
        assert_eq!([0, 512, 14_100_000].map(bytes), ["0 B", "512 B", "14.1 MB"]);
        assert_eq!(short(f64::NAN), "?");
    }

    #[test]
    fn durations_grow_their_units() {
        let shown = [0.42, 42.4, 187.0, 7500.0, 273_600.0, f64::INFINITY].map(duration);
        assert_eq!(shown, ["0.4 s", "42 s", "3 min 07 s", "2 h 05 min", "3 d 04 h", "?"]);
    }
}
