//! Standard output and standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use crate::render::escape::escape;

/// What messages call standard input.
pub(crate) const STDIN: &str = "standard input";
/// What messages call standard output.
pub(crate) const STDOUT: &str = "standard output";

/// Standard output, buffered, with its name in whatever goes wrong there.
pub(crate) fn stdout() -> BufWriter<impl Write> {
    BufWriter::with_capacity(64 << 10, Stdout(io::stdout().lock()))
}

struct Stdout(io::StdoutLock<'static>);

impl Stdout {
    fn named<T>(result: io::Result<T>) -> io::Result<T> {
        // an interrupted call is made again by who looks at its kind
        result.map_err(|e| io::Error::new(e.kind(), format!("standard output: {e}")))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::named(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::named(self.0.flush())
    }
}

/// One line on standard error, `ckpt: …`, with whatever a file brought into it made harmless.
pub(crate) fn say(message: impl Display) {
    // nobody can be told when standard error is closed
    let _ = writeln!(io::stderr(), "ckpt: {}", escape(&message.to_string()));
}

/// Whether an error only says that whoever read our output has gone.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref::<io::Error>() {
        Some(e) => Some(e.kind()),
        None => e.downcast_ref::<crate::error::Error>().and_then(crate::error::Error::io_kind),
    };
    error.chain().any(|e| kind(e) == Some(io::ErrorKind::BrokenPipe))
}
