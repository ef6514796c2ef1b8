//! Prints what differs between two checkpoints, with the library alone.
//!
//! ```sh
//! cargo run --no-default-features --example compare -- before.pth after.pth
//! ```

use std::path::Path;
use std::process::ExitCode;

use ckpt::error::Result;
use ckpt::operations::diff::{Options, diff};
use ckpt::progress::Silent;
use ckpt::render::escape::escape;

/// Prints what differs; names come from strangers. Whether nothing does.
fn compare(a: &Path, b: &Path) -> Result<bool> {
    let diff = diff(&mut ckpt::open(a)?, &mut ckpt::open(b)?, &Options::default(), &Silent)?;
    let say = |line: String| println!("{}", escape(&line));
    diff.only_a.iter().for_each(|only| say(format!("- {}", only.name)));
    diff.only_b.iter().for_each(|only| say(format!("+ {}", only.name)));
    for tensor in &diff.changed {
        let (a, b) = (&tensor.a, &tensor.b);
        let off = tensor.numbers.max_abs.map(|largest| format!(", off by up to {largest:e}"));
        let facts = format!("{} {:?}, {} {:?}", a.dtype, a.shape, b.dtype, b.shape);
        say(format!("! {}: {facts}{}", tensor.name, off.unwrap_or_default()));
    }
    diff.values.iter().for_each(|value| say(format!("! {}: {}, {}", value.name, value.a, value.b)));
    diff.renamed.iter().for_each(|tensor| say(format!("= {}, {}", tensor.a, tensor.b)));
    diff.problems.iter().for_each(|found| say(format!("? {} of {}: {}", found.name, found.file, found.problem)));
    Ok(diff.equal)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [a, b] = arguments.as_slice() else {
        eprintln!("usage: compare A B");
        return ExitCode::from(2);
    };
    match compare(Path::new(a), Path::new(b)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{}", escape(&e.to_string()));
            ExitCode::from(2)
        }
    }
}
