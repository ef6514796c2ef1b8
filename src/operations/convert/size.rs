//! Sizes as people write them.

const UNITS: &[(&str, u64)] = &[
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

/// A size as Hugging Face's tools take it: `5GB` is decimal, `5GiB` binary.
pub(crate) fn bytes_of(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_uppercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "a size is a number with B, KB, MB, GB, TB or KiB, MiB, …".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_hugging_face_means_them() {
        assert_eq!(bytes_of("5GB"), Ok(5_000_000_000));
        assert_eq!(bytes_of("2GiB"), Ok(2 << 30));
        assert_eq!(bytes_of("100"), Ok(100));
        assert!(bytes_of("GB").is_err() && bytes_of("0").is_err() && bytes_of("1.5GB").is_err());
    }
}
