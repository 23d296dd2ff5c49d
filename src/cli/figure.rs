//! Numbers for people.

/// Two digits that count, and whole milliseconds from ten on: it is an estimate.
pub(super) fn rounded(ms: f64) -> String {
    match ms {
        ms if ms >= 10.0 => format!("{ms:.0}"),
        ms if ms >= 1.0 => format!("{}", (ms * 10.0).round() / 10.0),
        ms => format!("{}", (ms * 100.0).round() / 100.0),
    }
}

/// A number with commas.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_commas_and_an_estimate_two_digits() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (ms, text) in [(0.0, "0"), (0.486, "0.49"), (2.345, "2.3"), (10.0, "10"), (99.6, "100")]
        {
            assert_eq!(rounded(ms), text);
        }
    }
}
