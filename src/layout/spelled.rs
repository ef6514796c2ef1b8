//! Lists of names in notes and errors.

/// Names that are spelled out.
const NAMES_SHOWN: usize = 5;

/// The first of some names, and how many more there are.
pub(super) fn spelled(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names: Vec<&str> = names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
    format!("{}{rest}", names.join(", "))
}
