//! Rates and counts as people write them.

/// Bytes a second: `40MiB/s`, `12 MB/s`, `1.5GiB`, `65536`; 0 for `none`.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("k", 1024.0),
        ("m", 1_048_576.0),
        ("b", 1.0),
    ];
    let lower = text.trim().to_ascii_lowercase();
    if matches!(lower.as_str(), "none" | "0") {
        return Ok(0);
    }
    let plain = lower.strip_suffix("/s").unwrap_or(&lower).trim();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((plain.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((plain, 1.0));
    let wrong = || {
        say!("\"{text}\" is no rate like 40MiB/s, 500KiB/s or none", "“{text}”不是速率，应如 40MiB/s、500KiB/s 或 none")
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * factor;
    // Slower than this nothing would ever end, and a chunk would count as stalled.
    if !(1024.0..=1e15).contains(&bytes) {
        return Err(say!("{wrong}: it must be at least 1KiB/s", "{wrong}：至少为 1KiB/s"; wrong = wrong()));
    }
    Ok(bytes as u64)
}

/// Chunks in flight; 0 for `auto`.
pub(super) fn in_flight(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        _ if text.trim().eq_ignore_ascii_case("auto") => Ok(0),
        Ok(count @ 1..=16) => Ok(count),
        _ => Err(say!(
            "\"{text}\" is neither a number from 1 to 16 nor auto",
            "“{text}”不是 1 至 16 的数字，也不是 auto"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_people_write_them() {
        for (text, bytes) in [
            ("40MiB/s", 40 << 20),
            ("40 mib", 40 << 20),
            ("1.5GiB/s", 3 << 29),
            ("500KiB/s", 500 << 10),
            ("12MB/s", 12_000_000),
            ("2m", 2 << 20),
            ("65536", 65_536),
            ("none", 0),
            ("0", 0),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "fast", "-1MiB/s", "100", "1B/s", "NaN", "inf", "1e30", "10MiB/h"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_of_chunks() {
        assert_eq!((in_flight("auto"), in_flight("16"), in_flight("1")), (Ok(0), Ok(16), Ok(1)));
        assert!(["0", "17", "many", "-1", ""].iter().all(|wrong| in_flight(wrong).is_err()));
    }
}
