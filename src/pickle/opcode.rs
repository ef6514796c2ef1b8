//! The opcodes of pickle protocols 0 to 5, with the names of CPython's `pickletools.py`.

macro_rules! opcodes {
    ($($name:ident $code:literal $protocol:literal;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`, protocol ", $protocol, ".")]
            pub const $name: u8 = $code;
        )*
        const TABLE: &[(u8, &str, u8)] = &[$(($code, stringify!($name), $protocol)),*];
    };
}

opcodes! {
    MARK b'(' 0; STOP b'.' 0; POP b'0' 0; POP_MARK b'1' 1; DUP b'2' 0;
    FLOAT b'F' 0; INT b'I' 0; BININT b'J' 1; BININT1 b'K' 1; LONG b'L' 0; BININT2 b'M' 1; NONE b'N' 0;
    PERSID b'P' 0; BINPERSID b'Q' 1; REDUCE b'R' 0; STRING b'S' 0; BINSTRING b'T' 1; SHORT_BINSTRING b'U' 1;
    UNICODE b'V' 0; BINUNICODE b'X' 1; APPEND b'a' 0; BUILD b'b' 0; GLOBAL b'c' 0; DICT b'd' 0; EMPTY_DICT b'}' 1;
    APPENDS b'e' 1; GET b'g' 0; BINGET b'h' 1; INST b'i' 0; LONG_BINGET b'j' 1; LIST b'l' 0; EMPTY_LIST b']' 1;
    OBJ b'o' 1; PUT b'p' 0; BINPUT b'q' 1; LONG_BINPUT b'r' 1; SETITEM b's' 0; TUPLE b't' 0; EMPTY_TUPLE b')' 1;
    SETITEMS b'u' 1; BINFLOAT b'G' 1;
    PROTO 0x80 2; NEWOBJ 0x81 2; EXT1 0x82 2; EXT2 0x83 2; EXT4 0x84 2; TUPLE1 0x85 2; TUPLE2 0x86 2; TUPLE3 0x87 2;
    NEWTRUE 0x88 2; NEWFALSE 0x89 2; LONG1 0x8a 2; LONG4 0x8b 2;
    BINBYTES b'B' 3; SHORT_BINBYTES b'C' 3;
    SHORT_BINUNICODE 0x8c 4; BINUNICODE8 0x8d 4; BINBYTES8 0x8e 4; EMPTY_SET 0x8f 4; ADDITEMS 0x90 4; FROZENSET 0x91 4;
    NEWOBJ_EX 0x92 4; STACK_GLOBAL 0x93 4; MEMOIZE 0x94 4; FRAME 0x95 4;
    BYTEARRAY8 0x96 5; NEXT_BUFFER 0x97 5; READONLY_BUFFER 0x98 5;
}

/// The opcode's name and the protocol that brought it; `None` for a byte that is no opcode.
pub fn describe(opcode: u8) -> Option<(&'static str, u8)> {
    TABLE.iter().find(|row| row.0 == opcode).map(|row| (row.1, row.2))
}

/// The opcode's name, or its byte.
pub(crate) fn name(opcode: u8) -> String {
    describe(opcode).map_or_else(|| format!("0x{opcode:02x}"), |(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_once() {
        assert_eq!(TABLE.len(), 68); // as many as `pickletools.opcodes` has in CPython 3.8 and later
        let mut codes: Vec<u8> = TABLE.iter().map(|row| row.0).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 68);
        assert_eq!(describe(0x93), Some(("STACK_GLOBAL", 4)));
        assert_eq!(describe(0xff), None);
    }
}
