//! What `ckpt extract` prints for programs: the JSON schema `ckpt.value/1`. The value is written behind this head, as its
//! tensors are read.

/// What was taken out of one input.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Extracted {
    /// Always `ckpt.value/1`.
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// The name of the value in the input; empty for the top object.
    pub name: String,
    /// The value, nested as the object is: dicts, modules and objects as objects by key or attribute, lists and tuples as
    /// arrays, tensors as arrays in arrays, NaN and infinities as strings, complex numbers as pairs, what JSON does not have as
    /// Python's `repr`. A list of which only a part was chosen is an object by index. A tensor with a state is an object with
    /// its elements at `.`.
    pub value: serde_json::Value,
}

impl Extracted {
    /// The name of the JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.value/1";

    /// The head of what is at `name` in `file`, without the value.
    pub(crate) fn new(file: &str, file_bytes: Option<String>, name: String) -> Self {
        Extracted { schema: Self::SCHEMA, file: file.to_owned(), file_bytes, name, value: serde_json::Value::Null }
    }
}
