//! A small listing for the tests of its layouts.

use serde_json::json;

use super::*;

pub(crate) fn tensor(path: &[&str], shape: &[i64]) -> TensorRow {
    let mut stride = Vec::new();
    let mut elements = 1;
    for dim in shape.iter().rev() {
        stride.insert(0, elements);
        elements *= dim;
    }
    TensorRow {
        name: path.join("."),
        path: path.iter().map(|part| PathElement::Text((*part).into())).collect(),
        kind: "tensor",
        dtype: "float32".into(),
        shape: shape.to_vec(),
        stride: Some(stride),
        storage_offset: Some(0),
        layout: "strided",
        device: Some("cpu".into()),
        requires_grad: Some(false),
        in_state_dict: true,
        bytes: elements.unsigned_abs() * 4,
        storage: Some("1".into()),
        parameters: elements.unsigned_abs(),
        ..TensorRow::default()
    }
}

pub(crate) fn listing() -> Listing {
    let blocks = "model.diffusion_model.input_blocks.1.0.in_layers.0.weight";
    let mut tensors = vec![
        tensor(&["state_dict", blocks], &[320]),
        tensor(&["state_dict", "model.diffusion_model.out.2.weight"], &[4, 320, 3, 3]),
        tensor(&["state_dict", "wte"], &[10, 4]),
        tensor(&["state_dict", "head"], &[10, 4]),
        tensor(&["state_dict", "ids"], &[1, 77]),
    ];
    let group: Arc<[String]> = [tensors[2].name.clone(), tensors[3].name.clone()].into();
    tensors[2].shares_with = Sharing::new(group.clone(), 0, 2);
    tensors[3].shares_with = Sharing::new(group, 1, 2);
    (tensors[2].tied, tensors[3].tied) = (Some(2), Some(2));
    tensors[4].dtype = "int64".into();
    tensors[4].bytes = 616;
    (tensors[4].parameters, tensors[4].buffers) = (0, 77);
    let value = |name: &str, class: &str, value: Value, repr: &str| ValueRow {
        name: name.into(),
        path: vec![PathElement::Text(name.into())],
        class: class.into(),
        value,
        repr: repr.into(),
    };
    let tensor_bytes: u64 = tensors.iter().map(|row| row.bytes).sum();
    let mut listing = Listing {
        schema: Listing::SCHEMA,
        file: "v1.ckpt".into(),
        file_bytes: None,
        container: "zip",
        bytes: 51_200,
        pickle_protocol: Some(2),
        byte_order: Some("little"),
        root_type: Some("dict".into()),
        compression: None,
        digest: None,
        totals: Totals {
            tensors: tensors.len() as u64,
            tensor_bytes,
            storage_bytes: tensor_bytes - 160,
            ..Totals::default()
        },
        tensors,
        values: vec![value("epoch", "int", json!(96), "96"), value("evil\n\u{202e}", "str", json!("x"), "'x'")],
        era: Some("torch 1.6 or newer".into()),
        modules: vec![("state_dict.model.diffusion_model".into(), "UNetModel".into())],
        notes: Vec::new(),
    };
    listing.count();
    listing
}
