//! Pickles of protocol 0 and 1, which have no magic: told from text and from other bytes by their first opcodes.

use super::HEAD_BYTES;

/// Opcodes that must make sense before bytes without a PROTO are taken for a pickle.
const PLAUSIBLE_OPCODES: usize = 16;

/// What follows an opcode in the stream.
enum Argument {
    Nothing,
    Bytes(usize),
    /// A little-endian length of this many bytes, then that many bytes.
    Counted(usize),
    /// A line of digits, signs, exponents (`I`, `L`, `F`, and the memo's).
    Number,
    /// A quoted line.
    Quoted,
    /// A line of any text.
    Line,
    /// Two lines: a module's and a class' name.
    Global,
}

/// Protocol 0 and 1 opcodes without an argument.
const BARE: &[u8] = b"(.012NQRabdelostu)]}";

fn argument(opcode: u8) -> Option<Argument> {
    Some(match opcode {
        0x81 | 0x85..=0x89 | 0x8f..=0x94 | 0x97 | 0x98 => Argument::Nothing,
        b'K' | b'h' | b'q' | 0x82 => Argument::Bytes(1),
        b'M' | 0x83 => Argument::Bytes(2),
        b'J' | b'j' | b'r' | 0x84 => Argument::Bytes(4),
        b'G' | 0x95 => Argument::Bytes(8),
        b'U' | b'C' | 0x8a | 0x8c => Argument::Counted(1),
        b'T' | b'X' | b'B' | 0x8b => Argument::Counted(4),
        0x8d | 0x8e | 0x96 => Argument::Counted(8),
        b'I' | b'L' | b'F' | b'p' | b'g' => Argument::Number,
        b'S' => Argument::Quoted,
        b'V' | b'P' => Argument::Line,
        b'c' | b'i' => Argument::Global,
        opcode if BARE.contains(&opcode) => Argument::Nothing,
        _ => return None,
    })
}

/// Whether the first opcodes, up to STOP, are ones and have arguments of their kind. Text is full of letters that are
/// opcodes, but spaces and newlines are not; the decoder judges the rest.
pub(super) fn is_plausible(head: &[u8]) -> bool {
    let mut rest = head;
    // nothing to take from the stack yet
    if head.first().is_some_and(|opcode| b"012QRabdeghjlopqrstu".contains(opcode)) {
        return false;
    }
    for _ in 0..PLAUSIBLE_OPCODES {
        // the window may end inside an argument, a file does not
        let Some((opcode, tail)) = rest.split_first() else { return head.len() as u64 == HEAD_BYTES };
        if *opcode == b'.' {
            return head.len() != rest.len();
        }
        let Some(after) = argument(*opcode).map(|argument| skip(tail, argument)) else { return false };
        match after {
            Skip::To(next) => rest = next,
            Skip::BeyondWindow => return head.len() as u64 == HEAD_BYTES,
            Skip::Wrong => return false,
        }
    }
    true
}

enum Skip<'a> {
    To(&'a [u8]),
    BeyondWindow,
    Wrong,
}

fn skip(tail: &[u8], argument: Argument) -> Skip<'_> {
    let bytes =
        |tail: &'_ [u8], count: u64| usize::try_from(count).ok().and_then(|count| tail.len().checked_sub(count));
    let keep = match argument {
        Argument::Nothing => Some(tail.len()),
        Argument::Bytes(count) => bytes(tail, count as u64),
        Argument::Counted(width) => tail.get(..width).and_then(|length| {
            let length = length.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            bytes(tail, length.checked_add(width as u64)?)
        }),
        Argument::Number => {
            return line(tail, |text| text.iter().all(|b| b.is_ascii_digit() || b"+-.eEinfLa".contains(b)));
        }
        Argument::Quoted => {
            return line(tail, |text| matches!(text, [b'\'', .., b'\''] | [b'"', .., b'"']));
        }
        Argument::Line => return line(tail, |_| true),
        Argument::Global => {
            return match line(tail, is_dotted_name) {
                Skip::To(rest) => line(rest, is_dotted_name),
                other => other,
            };
        }
    };
    match keep.and_then(|keep| tail.get(tail.len() - keep..)) {
        Some(rest) => Skip::To(rest),
        None => Skip::BeyondWindow,
    }
}

fn line(tail: &[u8], fits: impl Fn(&[u8]) -> bool) -> Skip<'_> {
    match tail.iter().position(|byte| *byte == b'\n').and_then(|end| tail.split_at_checked(end)) {
        Some((text, rest)) if fits(text.trim_ascii_end()) && !text.is_empty() => {
            Skip::To(rest.get(1..).unwrap_or_default())
        }
        Some(_) => Skip::Wrong,
        None => Skip::BeyondWindow,
    }
}

fn is_dotted_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.<>".contains(byte) || *byte >= 0x80)
}
