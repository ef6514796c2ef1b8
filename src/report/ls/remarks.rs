//! What is worth saying about one tensor beside its dtype and shape.

use super::TensorRow;
use crate::report::figures;

impl TensorRow {
    /// Remarks in the order of their weight, joined with commas; empty for most tensors.
    pub(crate) fn remarks(&self) -> String {
        let mut said: Vec<String> = Vec::new();
        said.extend(self.problem.clone());
        said.extend(self.class.clone());
        said.extend(self.of.as_ref().map(|parameter| format!("of {parameter}")));
        if self.layout != "strided" {
            said.push(self.layout.replace('_', " "));
        }
        said.extend(self.quantizer.as_ref().map(|how| format!("quantized {how}")));
        if let Some(first) = self.shares_with.names().next() {
            let more = self.shares_with.others().saturating_sub(1);
            let more = if more > 0 { format!(" (+{})", figures::count(more)) } else { String::new() };
            said.push(format!("shares storage with {}{more}", super::shown_name(first)));
        }
        said.extend(self.memory());
        for (is_so, text) in [
            (self.conj, "conj"),
            (self.neg, "neg"),
            (self.kind == "parameter" && self.requires_grad == Some(false), "parameter without grad"),
            (self.kind != "parameter" && self.requires_grad == Some(true), "requires grad"),
            (!self.in_state_dict, "not in state dict"),
        ] {
            if is_so {
                said.push(text.to_owned());
            }
        }
        said.join(", ")
    }

    // how the elements lie in the storage, when it is not simply one after the other
    fn memory(&self) -> Option<String> {
        let stride = self.stride.as_deref()?;
        let mut dims: Vec<(i64, i64)> = self.shape.iter().copied().zip(stride.iter().copied()).collect();
        if dims.iter().any(|(size, _)| *size == 0) {
            return None;
        }
        // a dimension of one element never steps
        dims.retain(|(size, _)| *size != 1);
        if dims.iter().any(|(_, step)| *step == 0) {
            return Some("expanded".to_owned());
        }
        if is_dense(dims.iter()) {
            let whole = self.storage_bytes.filter(|whole| *whole > self.bytes && self.shares_with.others() == 0)?;
            return Some(format!("view of {}", figures::size(whole)));
        }
        if is_dense(dims.iter().rev()) {
            return Some("transposed".to_owned());
        }
        // NCHW and NCDHW kept as NHWC and NDHWC
        if let [batch, channels, space @ ..] = dims.as_slice()
            && matches!(self.shape.len(), 4 | 5)
            && is_dense(std::iter::once(batch).chain(space).chain(std::iter::once(channels)))
        {
            return Some("channels last".to_owned());
        }
        Some("not contiguous".to_owned())
    }
}

// true when each dimension steps over exactly what follows it
fn is_dense<'a>(dims: impl DoubleEndedIterator<Item = &'a (i64, i64)>) -> bool {
    let mut expected = Some(1i64);
    for (size, step) in dims.rev() {
        if expected != Some(*step) {
            return false;
        }
        expected = step.checked_mul(*size);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Sharing;
    use super::*;

    fn tensor(shape: &[i64], stride: &[i64]) -> TensorRow {
        TensorRow {
            kind: "tensor",
            layout: "strided",
            shape: shape.to_vec(),
            stride: Some(stride.to_vec()),
            requires_grad: Some(false),
            in_state_dict: true,
            bytes: shape.iter().product::<i64>().unsigned_abs() * 4,
            ..TensorRow::default()
        }
    }

    #[test]
    fn strides_in_words() {
        let cases: &[(&[i64], &[i64], &str)] = &[
            (&[], &[], ""),
            (&[4, 3, 3, 3], &[27, 9, 3, 1], ""),
            (&[4, 1, 3], &[3, 77, 1], ""),
            (&[0, 3], &[0, 0], ""),
            (&[3, 4], &[1, 3], "transposed"),
            (&[5, 4], &[0, 1], "expanded"),
            (&[2, 3, 4, 5], &[60, 1, 15, 3], "channels last"),
            (&[3, 4], &[8, 1], "not contiguous"),
            (&[3], &[2], "not contiguous"),
        ];
        for (shape, stride, text) in cases {
            assert_eq!(tensor(shape, stride).remarks(), *text, "{shape:?} {stride:?}");
        }
    }

    #[test]
    fn a_part_of_a_storage_is_a_view() {
        let view = TensorRow { storage_bytes: Some(4096), ..tensor(&[4], &[1]) };
        assert_eq!(view.remarks(), "view of 4.00 KiB");
        let whole = TensorRow { storage_bytes: Some(16), ..tensor(&[4], &[1]) };
        assert_eq!(whole.remarks(), "");
    }

    #[test]
    fn sharing_names_one_and_counts_the_rest() {
        let group: Arc<[String]> = ["a", "", "c"].map(String::from).into();
        let seen = |at| TensorRow { shares_with: Sharing::new(group.clone(), at, 3), ..tensor(&[4], &[1]) }.remarks();
        assert_eq!(seen(0), "shares storage with . (+1)");
        assert_eq!(seen(2), "shares storage with a (+1)");
    }

    #[test]
    fn the_worst_comes_first() {
        let row = TensorRow {
            kind: "parameter",
            layout: "sparse_coo",
            stride: None,
            problem: Some("member data/3 is missing".into()),
            quantizer: Some("per tensor affine, scale 0.1, zero point 10".into()),
            in_state_dict: false,
            conj: true,
            ..tensor(&[4], &[1])
        };
        assert_eq!(
            row.remarks(),
            "member data/3 is missing, sparse coo, quantized per tensor affine, scale 0.1, zero point 10, conj, \
             parameter without grad, not in state dict"
        );
    }
}
