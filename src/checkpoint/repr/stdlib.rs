//! Python's own `repr` of what the standard library pickles in another form than it shows: dates, paths, identifiers.
//!
//! Sources: CPython's `Lib/_pydatetime.py` (`_getstate`, `__repr__`), `Lib/pathlib`, `Lib/uuid.py`, `Lib/fractions.py`.

use crate::checkpoint::numpy::byte_string;
use crate::checkpoint::object::Objects;
use crate::checkpoint::pyrepr;
use crate::checkpoint::repr::Repr;
use crate::pickle::stored::bytes_of;
use crate::pickle::text;
use crate::pickle::{Graph, Node, NodeId};
use crate::source::read_vec;

/// Longer strings are no path, fraction or pattern that is spelled anew.
const MAX_TEXT_BYTES: u64 = 4096;
/// The state of a date or a time is no longer.
const MAX_STATE_BYTES: u64 = 10;

impl Objects<'_> {
    /// Whether Python shows an object of the standard library otherwise than by its constructor's arguments, so that it
    /// is one thing to people, whatever it consists of.
    pub(crate) fn is_of_stdlib(&self, node: NodeId) -> bool {
        let mut repr = Repr::new(self, 200);
        self.constructor(node).is_none() && self.graph.object(node).is_some() && repr.stdlib(node).is_some()
    }

    /// A short byte string.
    fn short_bytes(&self, node: NodeId) -> Option<Vec<u8>> {
        let read = bytes_of(self.graph, byte_string(self.graph, node)?, None)
            .and_then(|source| read_vec(source.as_ref(), 0, source.len().min(MAX_STATE_BYTES + 1)));
        read.inspect_err(|e| self.graph.refuse(e)).ok()
    }

    fn short_text(&self, node: NodeId) -> Option<String> {
        match self.graph.node(node) {
            Node::Str(id) if self.graph.stored_len(*id) <= MAX_TEXT_BYTES => {
                self.graph.str(node).map(|text| text.into_owned())
            }
            _ => None,
        }
    }

    fn decimal(&self, node: NodeId) -> Option<num_bigint::BigInt> {
        match self.graph.node(node) {
            Node::Int(value) => Some((*value).into()),
            Node::Long(id) if self.graph.stored_len(*id) <= MAX_TEXT_BYTES => {
                text::big_integer(&self.graph.raw_text(*id).ok()?, self.graph.encoding(*id))
            }
            _ => None,
        }
    }
}

impl Objects<'_> {
    /// The text that says all of a date, a time, a path or an identifier: `isoformat()` and `str()`.
    pub(in crate::checkpoint) fn plain_text(&self, node: NodeId) -> Option<String> {
        let (module, name) = self.class(node)?;
        let args = self.args(node);
        let bare = self.graph.changes(node).is_empty();
        match (module.as_ref(), name.as_ref()) {
            ("datetime", "datetime") if bare => {
                let [a, b, month, day, rest @ ..] =
                    *<&[u8; 10]>::try_from(self.short_bytes(*args.first()?)?.as_slice()).ok()?;
                let date = iso_date([a, b], month & 0x7f, day);
                Some(format!("{date}T{}{}", iso_time(rest), self.iso_zone(args.get(1))?))
            }
            ("datetime", "date") if bare => {
                let [a, b, month, day] = *self.short_bytes(*args.first()?)?.as_slice() else { return None };
                Some(iso_date([a, b], month, day))
            }
            ("datetime", "time") if bare => {
                let [hour, rest @ ..] = *<&[u8; 6]>::try_from(self.short_bytes(*args.first()?)?.as_slice()).ok()?;
                let [minute, second, x, y, z] = rest;
                Some(format!("{}{}", iso_time([hour & 0x7f, minute, second, x, y, z]), self.iso_zone(args.get(1))?))
            }
            ("datetime", "timedelta") if bare => {
                let [days, seconds, microseconds] = args else { return None };
                let [days, seconds, part] = [days, seconds, microseconds].map(|part| self.graph.int(*part));
                let (days, seconds, part) = (days?, seconds?, part?);
                let mut text = match days {
                    0 => String::new(),
                    -1 | 1 => format!("{days} day, "),
                    days => format!("{days} days, "),
                };
                text += &format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
                if part != 0 {
                    text += &format!(".{part:06}");
                }
                Some(text)
            }
            ("datetime", "timezone") if bare => match args {
                [offset] => match self.iso_offset(*offset)?.as_str() {
                    "+00:00" => Some("UTC".to_owned()),
                    offset => Some(format!("UTC{offset}")),
                },
                _ => None,
            },
            ("uuid", "UUID") => {
                let mut repr = Repr::new(self, 200);
                repr.uuid(node)?;
                Some(repr.out.strip_prefix("UUID('")?.strip_suffix("')")?.to_owned())
            }
            (module, "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath")
                if bare && module.starts_with("pathlib") =>
            {
                let parts = args.iter().map(|part| self.short_text(*part)).collect::<Option<Vec<String>>>()?;
                if name.ends_with("PosixPath") {
                    Some(posix_path(&parts))
                } else {
                    windows_path(&parts).map(|path| path.replace('/', "\\"))
                }
            }
            _ => None,
        }
    }

    /// The offset of a `datetime.timezone`; nothing where there is none, `None` for other zones.
    fn iso_zone(&self, zone: Option<&NodeId>) -> Option<String> {
        let Some(zone) = zone.copied().filter(|zone| *zone != Graph::NONE) else { return Some(String::new()) };
        let (module, name) = self.class(zone)?;
        let offset = *self.args(zone).first()?;
        if module == "datetime" && name == "timezone" { self.iso_offset(offset) } else { None }
    }

    /// `+02:00` of a `timedelta`.
    fn iso_offset(&self, offset: NodeId) -> Option<String> {
        let [days, seconds, microseconds] = *self.args(offset) else { return None };
        let (days, seconds) = (self.graph.int(days)?, self.graph.int(seconds)?);
        if self.graph.int(microseconds)? != 0 {
            return None;
        }
        let seconds = days.checked_mul(86_400)?.checked_add(seconds)?;
        let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
        let text = format!("{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
        Some(if seconds % 60 == 0 { text } else { format!("{text}:{:02}", seconds % 60) })
    }
}

fn iso_date(year: [u8; 2], month: u8, day: u8) -> String {
    format!("{:04}-{month:02}-{day:02}", u16::from_be_bytes(year))
}

fn iso_time([hour, minute, second, x, y, z]: [u8; 6]) -> String {
    let text = format!("{hour:02}:{minute:02}:{second:02}");
    match u32::from_be_bytes([0, x, y, z]) {
        0 => text,
        microsecond => format!("{text}.{microsecond:06}"),
    }
}

impl Repr<'_, '_> {
    /// Writes the object as Python shows it, where it is one of the standard library's and whole; nothing else.
    pub(super) fn stdlib(&mut self, node: NodeId) -> Option<()> {
        let objects = self.objects;
        let (module, name) = objects.class(node)?;
        let args = objects.args(node);
        let bare = objects.graph.changes(node).is_empty();
        match (module.as_ref(), name.as_ref()) {
            ("datetime", "datetime") if bare => self.datetime(args),
            ("datetime", "date") if bare => {
                let [a, b, month, day] = *objects.short_bytes(*args.first()?)?.as_slice() else { return None };
                self.push(&format!("datetime.date({}, {month}, {day})", u16::from_be_bytes([a, b])));
                Some(())
            }
            ("datetime", "time") if bare => self.time(args),
            ("datetime", "timedelta") if bare => self.timedelta(args),
            ("datetime", "timezone") if bare => self.timezone(args),
            ("fractions", "Fraction") if bare => self.fraction(args),
            ("builtins" | "__builtin__", "range" | "xrange") if bare => self.range(args),
            ("re", "_compile") if bare => self.pattern(args),
            ("ipaddress", "IPv4Address") if bare => {
                let [address] = args else { return None };
                let address = u32::try_from(objects.graph.int(*address)?).ok()?;
                self.push(&format!("IPv4Address('{}')", std::net::Ipv4Addr::from(address)));
                Some(())
            }
            ("uuid", "UUID") => self.uuid(node),
            (module, "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath")
                if bare && module.starts_with("pathlib") =>
            {
                self.path(&name, args)
            }
            _ => None,
        }
    }

    /// `, fold=1, tzinfo=…)`.
    fn finish(&mut self, zone: Option<&NodeId>, fold: bool) {
        if fold {
            self.push(", fold=1");
        }
        if let Some(zone) = zone.filter(|zone| **zone != Graph::NONE) {
            self.push(", tzinfo=");
            self.write(*zone);
        }
        self.push(")");
    }

    fn datetime(&mut self, args: &[NodeId]) -> Option<()> {
        let state = self.objects.short_bytes(*args.first()?)?;
        let [a, b, month, day, hour, minute, second, x, y, z] = *state.as_slice() else { return None };
        let (fold, month) = (month & 0x80 != 0, month & 0x7f);
        let year = u16::from_be_bytes([a, b]);
        self.push(&format!("datetime.datetime({year}, {month}, {day}, {hour}, {minute}"));
        self.seconds(second, u32::from_be_bytes([0, x, y, z]));
        self.finish(args.get(1), fold);
        Some(())
    }

    fn time(&mut self, args: &[NodeId]) -> Option<()> {
        let state = self.objects.short_bytes(*args.first()?)?;
        let [hour, minute, second, x, y, z] = *state.as_slice() else { return None };
        let (fold, hour) = (hour & 0x80 != 0, hour & 0x7f);
        self.push(&format!("datetime.time({hour}, {minute}"));
        self.seconds(second, u32::from_be_bytes([0, x, y, z]));
        self.finish(args.get(1), fold);
        Some(())
    }

    /// Seconds and microseconds, as far as there are any.
    fn seconds(&mut self, second: u8, microsecond: u32) {
        match (second, microsecond) {
            (0, 0) => {}
            (second, 0) => self.push(&format!(", {second}")),
            (second, microsecond) => self.push(&format!(", {second}, {microsecond}")),
        }
    }

    fn timedelta(&mut self, args: &[NodeId]) -> Option<()> {
        let [days, seconds, microseconds] = args else { return None };
        let parts = [("days", days), ("seconds", seconds), ("microseconds", microseconds)];
        let mut shown = Vec::new();
        for (name, node) in parts {
            match self.objects.graph.int(*node)? {
                0 => {}
                value => shown.push(format!("{name}={value}")),
            }
        }
        let shown = if shown.is_empty() { "0".to_owned() } else { shown.join(", ") };
        self.push(&format!("datetime.timedelta({shown})"));
        Some(())
    }

    fn timezone(&mut self, args: &[NodeId]) -> Option<()> {
        let (offset, name) = match args {
            [offset] => (*offset, None),
            [offset, name] => (*offset, Some(*name)),
            _ => return None,
        };
        let objects = self.objects;
        let is_utc = objects.args(offset).iter().all(|part| objects.graph.int(*part) == Some(0));
        if name.is_none() && is_utc {
            self.push("datetime.timezone.utc");
            return Some(());
        }
        self.push("datetime.timezone(");
        self.write(offset);
        if let Some(name) = name {
            self.push(", ");
            self.write(name);
        }
        self.push(")");
        Some(())
    }

    /// `Fraction(1, 3)`, also of `'1/3'`, which older versions pickle.
    fn fraction(&mut self, args: &[NodeId]) -> Option<()> {
        let shown = match args {
            [text] => {
                let text = self.objects.short_text(*text)?;
                let (above, below) = text.split_once('/').unwrap_or((&text, "1"));
                let is_number = |part: &str| {
                    let digits = part.strip_prefix('-').unwrap_or(part);
                    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
                };
                (is_number(above) && is_number(below)).then(|| format!("Fraction({above}, {below})"))?
            }
            [above, below] => {
                format!("Fraction({}, {})", self.objects.decimal(*above)?, self.objects.decimal(*below)?)
            }
            _ => return None,
        };
        self.push(&shown);
        Some(())
    }

    fn range(&mut self, args: &[NodeId]) -> Option<()> {
        let [start, stop, step] = args else { return None };
        let [start, stop, step] = [start, stop, step].map(|part| self.objects.decimal(*part));
        let (start, stop, step) = (start?, stop?, step?);
        let step = if step == 1.into() { String::new() } else { format!(", {step}") };
        self.push(&format!("range({start}, {stop}{step})"));
        Some(())
    }

    /// A pattern with the flags that every one has (`re.UNICODE`), or none.
    fn pattern(&mut self, args: &[NodeId]) -> Option<()> {
        let [pattern, flags] = args else { return None };
        let text = matches!(self.objects.graph.node(*pattern), Node::Str(_));
        if self.objects.graph.int(*flags)? != if text { 32 } else { 0 } {
            return None;
        }
        self.push("re.compile(");
        self.write(*pattern);
        self.push(")");
        Some(())
    }

    fn uuid(&mut self, node: NodeId) -> Option<()> {
        let value = self.objects.decimal(self.objects.attribute(node, "int")?)?;
        let value = u128::try_from(value).ok()?;
        let digits = format!("{value:032x}");
        let group = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        let groups = [group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)];
        self.push(&format!("UUID('{}')", groups.join("-")));
        Some(())
    }

    /// A path of its parts, the first of which may be drive and root.
    fn path(&mut self, class: &str, args: &[NodeId]) -> Option<()> {
        let parts = args.iter().map(|part| self.objects.short_text(*part)).collect::<Option<Vec<String>>>()?;
        let path = if class.ends_with("PosixPath") { posix_path(&parts) } else { windows_path(&parts)? };
        self.push(&format!("{class}({})", pyrepr::string(path.as_bytes())));
        Some(())
    }
}

/// Parts joined as `pathlib` does: an absolute one begins anew, empty ones and `.` go.
fn posix_path(parts: &[String]) -> String {
    let from = parts.iter().rposition(|part| part.starts_with('/')).unwrap_or(0);
    let joined = parts.get(from..).unwrap_or_default().join("/");
    let first = parts.get(from).map(String::as_str).unwrap_or_default();
    let root = match first.len() - first.trim_start_matches('/').len() {
        0 => "",
        // two slashes are a root of their own
        2 => "//",
        _ => "/",
    };
    let names: Vec<&str> = joined.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    match (root, names.as_slice()) {
        ("", []) => ".".to_owned(),
        (root, names) => format!("{root}{}", names.join("/")),
    }
}

/// Parts of which only the first may have a drive or a root; nothing for others.
fn windows_path(parts: &[String]) -> Option<String> {
    let (first, names) = match parts {
        [] => return Some(".".to_owned()),
        [first, names @ ..] => (first.replace('\\', "/"), names),
    };
    if names.iter().any(|name| name.contains(['\\', '/', ':'])) {
        return None;
    }
    let glued = first.ends_with('/') || first.len() == 2 && first.ends_with(':');
    let rest = names.join("/");
    Some(match (glued, rest.is_empty()) {
        (true, _) => format!("{first}{rest}"),
        (false, true) => first,
        (false, false) => format!("{first}/{rest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_pathlib_joins_them() {
        // python3 -c "from pathlib import *; print(repr(PurePosixPath(...)))"
        let cases: &[(&[&str], &str)] = &[
            (&[], "."),
            (&["/", "tmp", "x"], "/tmp/x"),
            (&["a", "b"], "a/b"),
            (&["/tmp//x/"], "/tmp/x"),
            (&["a", "/b", "./c"], "/b/c"),
            (&["//", "a"], "//a"),
            (&["///", "a"], "/a"),
            (&["."], "."),
            (&["/"], "/"),
        ];
        for (parts, wanted) in cases {
            let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            assert_eq!(posix_path(&parts), *wanted, "{parts:?}");
        }
        let windows = |parts: &[&str]| windows_path(&parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(windows(&["C:\\", "data", "x.yaml"]).as_deref(), Some("C:/data/x.yaml"));
        assert_eq!(windows(&["C:", "x"]).as_deref(), Some("C:x"));
        assert_eq!(windows(&["a", "b"]).as_deref(), Some("a/b"));
        assert_eq!(windows(&["a", "C:\\b"]), None);
    }
}
