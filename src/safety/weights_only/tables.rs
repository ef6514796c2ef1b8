//! What torch's weights-only unpickler knows, as data: `tables.txt`, which `tables.py` writes from torch's source.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::pickle::opcode;

/// What an allowed global is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dtype,
    QScheme,
    /// A storage class, with the dtype it stands for; `TypedStorage` stands for none.
    Storage(Option<&'static str>),
    /// `torch.FloatTensor` and the like.
    TensorClass,
    Type,
    Function,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    /// The torch whose rules these are: `2.15.0`.
    pub torch: &'static str,
    /// By their byte.
    opcodes: Vec<bool>,
    blocked: HashSet<&'static str>,
    modules: HashMap<&'static str, &'static str>,
    names: HashMap<&'static str, (&'static str, &'static str)>,
    globals: HashMap<&'static str, (&'static str, Kind)>,
}

pub(super) static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables::parse(include_str!("tables.txt")));

impl Tables {
    fn parse(text: &'static str) -> Self {
        let mut tables = Tables::default();
        let mut opcodes = HashSet::new();
        for line in text.lines() {
            match *line.split(' ').collect::<Vec<_>>().as_slice() {
                ["torch", version] => tables.torch = version,
                ["opcode", name] => drop(opcodes.insert(name)),
                ["blocked", module] => drop(tables.blocked.insert(module)),
                ["module", old, new] => drop(tables.modules.insert(old, new)),
                ["name", old, module, name] => drop(tables.names.insert(old, (module, name))),
                ["global", name, ref kind @ ..] => {
                    let kind = match *kind {
                        ["dtype"] => Kind::Dtype,
                        ["qscheme"] => Kind::QScheme,
                        ["storage", dtype] => Kind::Storage(Some(dtype).filter(|dtype| *dtype != "-")),
                        ["tensor_class"] => Kind::TensorClass,
                        ["type"] => Kind::Type,
                        _ => Kind::Function,
                    };
                    tables.globals.insert(name, (name, kind));
                }
                _ => {}
            }
        }
        let has = |code: u8| opcode::describe(code).is_some_and(|(name, _)| opcodes.contains(name));
        tables.opcodes = (0..=u8::MAX).map(has).collect();
        tables
    }

    /// Whether the unpickler has this opcode.
    pub(crate) fn has_opcode(&self, code: u8) -> bool {
        self.opcodes.get(usize::from(code)).copied().unwrap_or_default()
    }

    pub(crate) fn is_blocked(&self, module: &str) -> bool {
        self.blocked.contains(module)
    }

    /// Python 3's names for Python 2's (`_read_global_instruction`).
    pub(crate) fn renamed<'a>(&self, module: &'a str, name: &'a str) -> (&'a str, &'a str) {
        match self.names.get(format!("{module}.{name}").as_str()) {
            Some(renamed) => *renamed,
            None => (self.modules.get(module).copied().unwrap_or(module), name),
        }
    }

    /// The name of a dtype, without `torch.`.
    pub(crate) fn dtype(&self, name: &str) -> Option<&'static str> {
        let (name, kind) = self.global(&format!("torch.{name}"))?;
        name.strip_prefix("torch.").filter(|_| kind == Kind::Dtype)
    }

    /// The allowed global of this full name.
    pub(crate) fn global(&self, full_name: &str) -> Option<(&'static str, Kind)> {
        self.globals.get(full_name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_whole() {
        let tables = &*TABLES;
        assert!(tables.torch.starts_with("2.15"));
        assert!(tables.has_opcode(opcode::REDUCE) && tables.has_opcode(opcode::LONG1));
        assert!(!tables.has_opcode(opcode::STACK_GLOBAL) && !tables.has_opcode(opcode::MEMOIZE));
        assert!(tables.is_blocked("os") && tables.is_blocked("posix"));
        assert_eq!(tables.renamed("__builtin__", "set"), ("builtins", "set"));
        assert_eq!(tables.renamed("collections", "UserDict"), ("collections", "UserDict"));
        assert_eq!(tables.global("torch.FloatStorage"), Some(("torch.FloatStorage", Kind::Storage(Some("float32")))));
        assert_eq!(tables.global("torch.float8_e4m3fn").map(|(_, kind)| kind), Some(Kind::Dtype));
        assert_eq!(tables.global("argparse.Namespace"), None);
    }
}
