//! What is in a checkpoint, by name: `cargo run --no-default-features --example list model.pth`.

use std::env;

fn main() -> ckpt::Result<()> {
    let path = env::args_os().nth(1).unwrap_or_else(|| "testdata/torch-2.15-py311/cnn_state.pt".into());
    let checkpoint = ckpt::open(path)?;
    for tensor in checkpoint.tensors()? {
        print!("{}  {}  {:?}", tensor.name(), tensor.dtype(), tensor.shape());
        // half precision widens to f32; integers and doubles are types of their own
        match tensor.read::<f32>() {
            Ok(values) => {
                println!("  largest {}", values.into_iter().fold(0.0, |most: f32, value| most.max(value.abs())))
            }
            Err(e) => println!("  {}", e.message()),
        }
    }
    Ok(())
}
