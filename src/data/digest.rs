//! One digest of many named things, whatever their order.
//!
//! Each thing is a record, text in UTF-8 whose fields stand on lines of their own; the name comes last, since it alone may
//! hold a line end:
//!
//! ```text
//! tensor\nSHA256\nDTYPE\nSHAPE\nNAME
//! value\nSHA256\nTYPE\nNAME
//! ```
//!
//! `SHA256` is of the tensor's elements as [`hash`](super::hash) has them, of a value's `repr`; `SHAPE` is the extents with
//! commas between them (`4,3,3,3`, empty without dimensions). The digest is the sha256 of `ckpt.digest/1\n` and then, in
//! ascending order, the sha256 of each record in lower-case hexadecimal with `\n` behind it.

use super::hash::{hex, sha256_of};

/// What every digest begins with.
const BEGIN: &str = "ckpt.digest/1\n";

/// One named thing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Record<'a> {
    /// A tensor.
    Tensor {
        /// Its name.
        name: &'a str,
        /// torch's name of its type; of a quantized one with its quantizer.
        dtype: &'a str,
        /// Elements in each dimension.
        shape: &'a [i64],
        /// Of its elements.
        sha256: &'a str,
    },
    /// A value that is no tensor.
    Value {
        /// Its name.
        name: &'a str,
        /// Python's bare class name.
        class: &'a str,
        /// Of its `repr` in UTF-8.
        sha256: &'a str,
    },
}

impl Record<'_> {
    fn text(&self) -> String {
        match self {
            Record::Tensor { name, dtype, shape, sha256 } => {
                let shape: Vec<String> = shape.iter().map(i64::to_string).collect();
                format!("tensor\n{sha256}\n{dtype}\n{}\n{name}", shape.join(","))
            }
            Record::Value { name, class, sha256 } => format!("value\n{sha256}\n{class}\n{name}"),
        }
    }
}

/// Collects records.
#[derive(Debug, Default)]
pub(crate) struct Digester(Vec<[u8; 32]>);

impl Digester {
    /// Adds one.
    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.0.push(sha256_of(record.text().as_bytes()));
    }

    /// The digest of all of them, in lower-case hexadecimal.
    pub(crate) fn finish(mut self) -> String {
        self.0.sort_unstable();
        let mut text = String::from(BEGIN);
        for record in &self.0 {
            text.push_str(&hex(record));
            text.push('\n');
        }
        hex(&sha256_of(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(records: &[Record<'_>]) -> String {
        let mut digester = Digester::default();
        records.iter().for_each(|record| digester.add(record));
        digester.finish()
    }

    // import hashlib; h = lambda t: hashlib.sha256(t.encode()).hexdigest()
    // a, b = h("tensor\n00\nfloat32\n2,3\na.b"), h("value\n11\nint\nepoch")
    // h("ckpt.digest/1\n" + "".join(d + "\n" for d in sorted([a, b])))
    #[test]
    fn as_it_is_defined() {
        let tensor = Record::Tensor { name: "a.b", dtype: "float32", shape: &[2, 3], sha256: "00" };
        let value = Record::Value { name: "epoch", class: "int", sha256: "11" };
        let wanted = "4fe345e3981e8aa7c21d387a19a6fa8229a900b6e38177d28dba3977cdb9eddf";
        assert_eq!(digest(&[tensor, value]), wanted);
        assert_eq!(digest(&[value, tensor]), wanted, "the order is of no account");
        assert_ne!(digest(&[tensor, tensor, value]), wanted);
    }

    #[test]
    fn no_field_runs_into_the_next() {
        let with = |name, dtype, shape| digest(&[Record::Tensor { name, dtype, shape, sha256: "00" }]);
        let all =
            [with("a", "int8", &[1, 2]), with("a", "int8", &[12]), with("a", "int8", &[]), with("\na", "int8", &[])];
        let distinct: std::collections::HashSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
