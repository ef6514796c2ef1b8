//! Python 3's names of what pickles of protocols 0 to 2 call by Python 2's.
//!
//! Source: `Lib/_compat_pickle.py` (`IMPORT_MAPPING`, `NAME_MAPPING`), by which Python 3 reads and writes such pickles.

/// Modules, before and now.
#[rustfmt::skip]
const MODULES: &[(&str, &str)] = &[
    ("BaseHTTPServer", "http.server"),
    ("CGIHTTPServer", "http.server"),
    ("ConfigParser", "configparser"),
    ("Cookie", "http.cookies"),
    ("Dialog", "tkinter.dialog"),
    ("DocXMLRPCServer", "xmlrpc.server"),
    ("FileDialog", "tkinter.filedialog"),
    ("HTMLParser", "html.parser"),
    ("Queue", "queue"),
    ("ScrolledText", "tkinter.scrolledtext"),
    ("SimpleDialog", "tkinter.simpledialog"),
    ("SimpleHTTPServer", "http.server"),
    ("SimpleXMLRPCServer", "xmlrpc.server"),
    ("SocketServer", "socketserver"),
    ("StringIO", "io"),
    ("Tix", "tkinter.tix"),
    ("Tkconstants", "tkinter.constants"),
    ("Tkdnd", "tkinter.dnd"),
    ("Tkinter", "tkinter"),
    ("UserDict", "collections"),
    ("UserList", "collections"),
    ("UserString", "collections"),
    ("__builtin__", "builtins"),
    ("_abcoll", "collections.abc"),
    ("_elementtree", "xml.etree.ElementTree"),
    ("_winreg", "winreg"),
    ("anydbm", "dbm"),
    ("cPickle", "pickle"),
    ("cStringIO", "io"),
    ("commands", "subprocess"),
    ("cookielib", "http.cookiejar"),
    ("copy_reg", "copyreg"),
    ("exceptions", "builtins"),
    ("dbhash", "dbm.bsd"),
    ("dbm", "dbm.ndbm"),
    ("dumbdbm", "dbm.dumb"),
    ("dummy_thread", "_dummy_thread"),
    ("gdbm", "dbm.gnu"),
    ("htmlentitydefs", "html.entities"),
    ("httplib", "http.client"),
    ("markupbase", "_markupbase"),
    ("repr", "reprlib"),
    ("robotparser", "urllib.robotparser"),
    ("test.test_support", "test.support"),
    ("thread", "_thread"),
    ("tkColorChooser", "tkinter.colorchooser"),
    ("tkCommonDialog", "tkinter.commondialog"),
    ("tkFileDialog", "tkinter.filedialog"),
    ("tkFont", "tkinter.font"),
    ("tkMessageBox", "tkinter.messagebox"),
    ("tkSimpleDialog", "tkinter.simpledialog"),
    ("ttk", "tkinter.ttk"),
    ("urllib2", "urllib.request"),
    ("urlparse", "urllib.parse"),
    ("whichdb", "dbm"),
    ("xmlrpclib", "xmlrpc.client"),
];

/// What has another name too: module and name, before and now.
#[rustfmt::skip]
const NAMES: &[[&str; 4]] = &[
    ["UserDict", "IterableUserDict", "collections", "UserDict"],
    ["__builtin__", "basestring", "builtins", "str"],
    ["__builtin__", "intern", "sys", "intern"],
    ["__builtin__", "long", "builtins", "int"],
    ["__builtin__", "reduce", "functools", "reduce"],
    ["__builtin__", "unichr", "builtins", "chr"],
    ["__builtin__", "unicode", "builtins", "str"],
    ["__builtin__", "xrange", "builtins", "range"],
    ["_multiprocessing", "Connection", "multiprocessing.connection", "Connection"],
    ["_socket", "fromfd", "socket", "fromfd"],
    ["exceptions", "StandardError", "builtins", "Exception"],
    ["itertools", "ifilter", "builtins", "filter"],
    ["itertools", "ifilterfalse", "itertools", "filterfalse"],
    ["itertools", "imap", "builtins", "map"],
    ["itertools", "izip", "builtins", "zip"],
    ["itertools", "izip_longest", "itertools", "zip_longest"],
    ["multiprocessing", "AuthenticationError", "multiprocessing.context", "AuthenticationError"],
    ["multiprocessing", "BufferTooShort", "multiprocessing.context", "BufferTooShort"],
    ["multiprocessing", "ProcessError", "multiprocessing.context", "ProcessError"],
    ["multiprocessing", "TimeoutError", "multiprocessing.context", "TimeoutError"],
    ["multiprocessing.forking", "Popen", "multiprocessing.popen_fork", "Popen"],
    ["multiprocessing.process", "Process", "multiprocessing.context", "Process"],
    ["socket", "_socketobject", "socket", "SocketType"],
    ["urllib", "ContentTooShortError", "urllib.error", "ContentTooShortError"],
    ["urllib", "getproxies", "urllib.request", "getproxies"],
    ["urllib", "pathname2url", "urllib.request", "pathname2url"],
    ["urllib", "quote", "urllib.parse", "quote"],
    ["urllib", "quote_plus", "urllib.parse", "quote_plus"],
    ["urllib", "unquote", "urllib.parse", "unquote"],
    ["urllib", "unquote_plus", "urllib.parse", "unquote_plus"],
    ["urllib", "url2pathname", "urllib.request", "url2pathname"],
    ["urllib", "urlcleanup", "urllib.request", "urlcleanup"],
    ["urllib", "urlencode", "urllib.parse", "urlencode"],
    ["urllib", "urlopen", "urllib.request", "urlopen"],
    ["urllib", "urlretrieve", "urllib.request", "urlretrieve"],
    ["urllib2", "HTTPError", "urllib.error", "HTTPError"],
    ["urllib2", "URLError", "urllib.error", "URLError"],
];

/// Module and name as Python 3 calls them.
pub(super) fn renamed<'a>(module: &'a str, name: &'a str) -> (&'a str, &'a str) {
    if let Some([_, _, module, name]) = NAMES.iter().find(|[old, of, ..]| *old == module && *of == name) {
        return (module, name);
    }
    let new = MODULES.iter().find(|(old, _)| *old == module).map(|(_, new)| *new);
    (new.unwrap_or(module), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_2_and_3_mean_the_same() {
        assert_eq!(renamed("__builtin__", "long"), ("builtins", "int"));
        assert_eq!(renamed("__builtin__", "len"), ("builtins", "len"));
        assert_eq!(renamed("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"));
        assert_eq!(renamed("exceptions", "ValueError"), ("builtins", "ValueError"));
        assert_eq!(renamed("torch", "long"), ("torch", "long"));
    }
}
