//! What TorchScript's code says about its classes: which are modules, which attributes are parameters and buffers.
//!
//! Source: `torch/csrc/jit/serialization/python_print.cpp`: a class in `code/<module path>.py` begins with
//! `class Name(Module):` and lists `__parameters__` and (since torch 1.6) `__buffers__`.

use std::collections::HashMap;

use crate::container::zip::Zip;
use crate::error::Result;
use crate::source::read_vec;

/// One class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Class {
    /// It is an `nn.Module`.
    pub is_module: bool,
    /// Its parameters, in order.
    pub parameters: Vec<String>,
    /// Its buffers, in order; `None` in files that do not list them.
    pub buffers: Option<Vec<String>>,
}

/// The classes of an archive by qualified name.
#[derive(Debug, Default)]
pub(crate) struct Script {
    classes: HashMap<String, Class>,
}

/// Code files larger than this are not looked at: a class's list of attributes comes first in it.
const MAX_CODE_BYTES: u64 = 64 << 20;

impl Script {
    /// Reads the `code/` of an archive.
    pub(crate) fn read(zip: &Zip) -> Result<Self> {
        let mut script = Script::default();
        let code = match zip.top() {
            "" => "code/".to_owned(),
            top => format!("{top}/code/"),
        };
        for member in &zip.members {
            let Some(path) = member.name.strip_prefix(&code).and_then(|path| path.strip_suffix(".py")) else {
                continue;
            };
            if member.size > MAX_CODE_BYTES {
                continue;
            }
            let source = zip.member_source(member)?;
            let text = read_vec(source.as_ref(), 0, source.len())?;
            script.read_code(&path.replace('/', "."), &String::from_utf8_lossy(&text));
        }
        Ok(script)
    }

    fn read_code(&mut self, module: &str, code: &str) {
        let mut current: Option<&mut Class> = None;
        for line in code.lines() {
            if let Some(header) = line.strip_prefix("class ") {
                let (name, rest) = header.split_once('(').unwrap_or((header, ""));
                let class = self.classes.entry(format!("{module}.{name}")).or_default();
                class.is_module = rest.starts_with("Module)");
                current = Some(class);
            } else if let Some(class) = &mut current {
                if let Some(list) = line.strip_prefix("  __parameters__ = ") {
                    class.parameters = strings(list);
                } else if let Some(list) = line.strip_prefix("  __buffers__ = ") {
                    class.buffers = Some(strings(list));
                }
            }
        }
    }

    /// The class of a global's module and name.
    pub(crate) fn class(&self, module: &str, name: &str) -> Option<&Class> {
        self.classes.get(&format!("{module}.{name}"))
    }

    /// Whether a global is a module's class. One whose code is missing counts as a module.
    pub(crate) fn is_module(&self, module: &str, name: &str) -> bool {
        module.starts_with("__torch__") && self.class(module, name).is_none_or(|class| class.is_module)
    }
}

/// The strings of `["weight", "bias", ]`.
fn strings(list: &str) -> Vec<String> {
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_code_says() {
        let mut script = Script::default();
        script.read_code(
            "__torch__.net",
            "class Net(Module):\n  __parameters__ = [\"w\", \"b\", ]\n  __buffers__ = []\n  w : Tensor\n\
             class Old(Module):\n  __parameters__ = []\nclass Pair(NamedTuple):\n  a : int\n",
        );
        let net = script.class("__torch__.net", "Net").unwrap();
        assert_eq!(
            (net.parameters.as_slice(), net.buffers.as_deref()),
            (&["w".to_owned(), "b".into()][..], Some(&[][..]))
        );
        assert_eq!(script.class("__torch__.net", "Old").unwrap().buffers, None);
        assert!(script.is_module("__torch__.net", "Net") && !script.is_module("__torch__.net", "Pair"));
        assert!(script.is_module("__torch__.gone", "Net") && !script.is_module("collections", "OrderedDict"));
    }
}
