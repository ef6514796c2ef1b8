//! Devices as torch names them: what stands in a storage's location.

/// Types of devices (`c10/core/Device.cpp`, `parse_type`, of torch 2.15).
pub(crate) const DEVICE_TYPES: [&str; 20] = [
    "cpu",
    "cuda",
    "ipu",
    "xpu",
    "mkldnn",
    "opengl",
    "opencl",
    "ideep",
    "hip",
    "ve",
    "fpga",
    "maia",
    "xla",
    "lazy",
    "vulkan",
    "mps",
    "meta",
    "hpu",
    "mtia",
    "privateuseone",
];
/// torch counts devices in a signed byte.
const MAX_INDEX: u8 = 127;

/// The location that `torch.load` knows by the name of a device: `cuda`, `cuda:1`. It knows no numbers of `cpu` and `meta`,
/// which `torch.device` takes. An error says what is wrong with what torch would not take.
pub(crate) fn location(device: &str) -> Result<String, String> {
    let (kind, index) = device.split_once(':').map_or((device, None), |(kind, index)| (kind, Some(index)));
    if !DEVICE_TYPES.contains(&kind) {
        return Err(format!(
            "unknown device; use one of {}, with an index if needed (cuda:0)",
            DEVICE_TYPES.join(", ")
        ));
    }
    let Some(index) = index else { return Ok(kind.to_owned()) };
    let is_number = index.bytes().all(|byte| byte.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
    match index.parse::<u8>() {
        Ok(0..=MAX_INDEX) if is_number && matches!(kind, "cpu" | "meta") => Ok(kind.to_owned()),
        Ok(0..=MAX_INDEX) if is_number => Ok(device.to_owned()),
        _ => Err(format!(
            "invalid index of a {kind} device: use {kind} or {kind}:0 to {kind}:{MAX_INDEX} (device types: {})",
            DEVICE_TYPES.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // what torch.device() of torch 2.15 takes; from 128 on its index wraps around
    #[test]
    fn devices_as_torch_takes_them() {
        for device in
            ["cpu", "cuda", "cuda:0", "cuda:127", "mps", "mps:0", "xpu:1", "xla:1", "hpu", "privateuseone", "meta"]
        {
            assert_eq!(location(device).as_deref(), Ok(device));
        }
        // torch.load knows the locations `cpu` and `meta` only without a number
        assert_eq!((location("cpu:0").as_deref(), location("meta:3").as_deref()), (Ok("cpu"), Ok("meta")));
        for device in [
            "", "gpu", "cuda0", "CUDA", "cuda:-1", "cuda:+1", "cuda:01", "cuda:", "cuda:1 ", " cuda", "cuda:128",
            "cpu:0:1",
        ] {
            let e = location(device).unwrap_err();
            assert!(e.contains("mps") && e.contains("privateuseone"), "{device}: {e}");
        }
    }
}
