//! A server of files on loopback that does what servers do: ranges, ETags, redirects to signed addresses that end, lists of
//! buckets; and, on demand, what they should not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a server does besides serving.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Answers without ranges.
    pub whole: bool,
    /// Claims that what it sends is compressed.
    pub gzip: bool,
    /// Says 503 to each of so many requests.
    pub busy_each: Option<usize>,
    /// Breaks each connection off after so many bytes of a body, so many times.
    pub cut: Option<(u64, usize)>,
    /// Has another file after so many requests.
    pub changes_after: Option<usize>,
    /// Says nothing that tells one file from another of the same length.
    pub no_tags: bool,
    /// Redirects to addresses that are good for so many requests.
    pub signed_for: Option<usize>,
    /// Wants to know who asks.
    pub token: Option<&'static str>,
    /// Waits before each answer.
    pub delay: Duration,
    /// Says that a part is another one than it is.
    pub wrong_part: bool,
    /// Answers everything with this.
    pub status: Option<u16>,
    /// A bucket's list, and its objects below `/bucket/`.
    pub bucket: bool,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    /// Bytes of the body that were sent.
    pub sent: u64,
    /// The bytes that were asked for.
    pub range: Option<String>,
    /// The header that says who asks.
    pub authorization: Option<String>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    behaviour: Behaviour,
    requests: Mutex<Vec<Request>>,
    count: AtomicUsize,
    cuts: AtomicUsize,
    busy: AtomicUsize,
    /// The most that were under way at the same time.
    most: AtomicUsize,
    /// How often each signature was used.
    signatures: Mutex<BTreeMap<usize, usize>>,
    stops: AtomicBool,
}

/// A server that runs until it is dropped.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
}

impl Server {
    /// Serves the files below a directory.
    pub fn start(root: &Path, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            behaviour,
            requests: Mutex::default(),
            count: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            signatures: Mutex::default(),
            stops: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stops.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&of_thread);
                // a connection that breaks is the end of it
                thread::spawn(move || stream.map(|stream| serve(&stream, &shared, port)));
            }
        });
        Server { port, shared }
    }

    /// The address of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// Where the services of buckets are told to look.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was answered since the last time, in that order.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }

    /// The most requests that were under way at the same time.
    pub fn most(&self) -> usize {
        self.shared.most.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// What was asked for.
struct Asked {
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let target = line.split(' ').nth(1)?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Asked { path: path.to_owned(), query: query.to_owned(), headers })
}

fn serve(stream: &TcpStream, shared: &Shared, port: u16) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read_request(&mut reader) {
        let under_way = shared.busy.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most.fetch_max(under_way, Ordering::Relaxed);
        let goes_on = answer(stream, shared, port, &asked);
        shared.busy.fetch_sub(1, Ordering::Relaxed);
        if !goes_on {
            return;
        }
    }
}

/// Answers, and says whether the connection goes on.
fn answer(mut stream: &TcpStream, shared: &Shared, port: u16, asked: &Asked) -> bool {
    let behaviour = &shared.behaviour;
    thread::sleep(behaviour.delay);
    let number = shared.count.fetch_add(1, Ordering::Relaxed) + 1;
    let authorization = asked.headers.get("authorization").cloned();
    let log = |sent: u64| {
        let range = asked.headers.get("range").cloned();
        let request = Request { path: asked.path.clone(), sent, range, authorization: authorization.clone() };
        shared.requests.lock().unwrap().push(request);
    };
    let mut say = |status: u16, headers: &str, body: &[u8]| {
        log(body.len() as u64);
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok()
    };
    if let Some(status) = behaviour.status {
        return say(status, "", b"secret words of the server");
    }
    if behaviour.busy_each.is_some_and(|each| number.is_multiple_of(each)) {
        return say(503, "", b"");
    }
    if behaviour.token.is_some_and(|token| authorization.as_deref() != Some(&format!("Bearer {token}"))) {
        return say(401, "", b"");
    }
    if let Some(times) = behaviour.signed_for {
        let mut signatures = shared.signatures.lock().unwrap();
        match asked.query.strip_prefix("signature=").and_then(|text| text.parse::<usize>().ok()) {
            None => {
                let signature = signatures.len();
                signatures.insert(signature, 0);
                let location = format!("Location: http://127.0.0.1:{port}{}?signature={signature}\r\n", asked.path);
                return say(302, &location, b"");
            }
            Some(signature) => {
                let used = signatures.entry(signature).or_default();
                *used += 1;
                if *used > times {
                    return say(403, "", b"expired");
                }
            }
        }
    }
    let path = percent_decoded(asked.path.trim_start_matches('/'));
    if behaviour.bucket && asked.query.contains("list-type=2") {
        let list = list(&shared.root, &path, &asked.query);
        return say(200, "Content-Type: application/xml\r\n", list.as_bytes());
    }
    let name = if behaviour.bucket { path.strip_prefix("bucket/").unwrap_or("none") } else { &path };
    let has_changed = behaviour.changes_after.is_some_and(|requests| number > requests);
    let Ok(mut file) = File::open(shared.root.join(name)) else {
        return say(404, "", b"<Error><Code>NoSuchKey</Code></Error>");
    };
    let Some(len) = file.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len()) else {
        return say(404, "", b"");
    };
    let tag = format!("\"{}\"", if has_changed { "second" } else { "first" });
    let mut headers = if behaviour.no_tags { String::new() } else { format!("ETag: {tag}\r\n") };
    headers.push_str("Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
    if behaviour.no_tags {
        headers.clear();
    }
    if asked.headers.get("if-match").is_some_and(|wanted| *wanted != tag) {
        return say(412, "", b"");
    }
    if behaviour.gzip {
        headers.push_str("Content-Encoding: gzip\r\n");
    }
    let range = asked.headers.get("range").and_then(|range| range.strip_prefix("bytes=")).filter(|_| !behaviour.whole);
    let (status, start, end) = match range.and_then(|range| range.split_once('-')) {
        None => (200, 0, len),
        Some((start, last)) => {
            let (start, end) = (start.parse().unwrap_or(0), last.parse::<u64>().map_or(len, |last| len.min(last + 1)));
            if start >= end {
                return say(416, &format!("Content-Range: bytes */{len}\r\n"), b"");
            }
            let shown = if behaviour.wrong_part { start + 1 } else { start };
            headers.push_str(&format!("Content-Range: bytes {shown}-{}/{len}\r\n", end - 1));
            (206, start, end)
        }
    };
    let head = format!("HTTP/1.1 {status} Fine\r\nContent-Length: {}\r\n{headers}\r\n", end - start);
    if stream.write_all(head.as_bytes()).is_err() || file.seek(SeekFrom::Start(start)).is_err() {
        return false;
    }
    let wanted = end - start;
    let is_cut = |(_, times): &(u64, usize)| shared.cuts.fetch_add(1, Ordering::Relaxed) < *times;
    let cut = behaviour.cut.filter(|(at, _)| *at < wanted).filter(is_cut);
    let sends = cut.map_or(wanted, |(at, _)| at);
    let sent = std::io::copy(&mut file.take(sends), &mut stream).unwrap_or(0);
    log(sent);
    if cut.is_some() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    sent == sends && cut.is_none()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = (*first == b'%').then(|| more.get(..2).and_then(|hex| std::str::from_utf8(hex).ok())).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What S3 says of a prefix (`ListObjectsV2`), with the delimiter `/`.
fn list(root: &Path, bucket: &str, query: &str) -> String {
    let prefix =
        query.split('&').find_map(|part| part.strip_prefix("prefix=")).map(percent_decoded).unwrap_or_default();
    let (mut files, mut folders) = (String::new(), String::new());
    for entry in std::fs::read_dir(root.join(&prefix)).into_iter().flatten().flatten() {
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let Ok(meta) = entry.metadata() else { continue };
        match meta.is_dir() {
            true => folders.push_str(&format!("<CommonPrefixes><Prefix>{key}/</Prefix></CommonPrefixes>")),
            false => files.push_str(&format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;first&quot;</ETag><Size>{}</Size></Contents>",
                meta.len()
            )),
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix>\
         <IsTruncated>false</IsTruncated>{files}{folders}</ListBucketResult>"
    )
}
