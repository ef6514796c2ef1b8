//! What is dangerous by its kind: by the words of its name, or by a module that checkpoints have no use for.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Python's modules, those of older versions too, and the tools that come with it.
const STDLIB: &str = "\
    __future__ __main__hello__ _abc _aix_support _ast _asyncio _bisect _blake2 _bootsubprocess _bz2 _codecs_cn _codecs_hk \
    _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _collections_abc _compat_pickle _compression _contextvars _crypt _csv \
    _ctypes _curses _curses_panel _datetime _dbm _decimal _elementtree _frozen_importlib _frozen_importlib_external \
    _functools _gdbm _hashlib _heapq _imp _interpchannels _interpqueues _interpreters _io _ios_support _json _locale \
    _lsprof _lzma _markupbase _md5 _msi _multibytecodec _multiprocessing _opcode _operator _osx_support _overlapped \
    _pickle _posixshmem _posixsubprocess _py_abc _pydatetime _pydecimal _pyio _pylong _pyrepl _queue _random _scproxy \
    _sha1 _sha2 _sha3 _signal _sitebuiltins _socket _sqlite3 _sre _ssl _stat _statistics _string _strptime _struct \
    _symtable _sysconfig _thread _threading_local _tkinter _tokenize _tracemalloc _typing _uuid _warnings _weakref \
    _weakrefset _winapi _xxsubinterpreters _zoneinfo abc aifc annotationlib antigravity anydbm argparse array ast asynchat \
    asyncio asyncore atexit audioop base64 bdb BaseHTTPServer binascii binhex bisect bsddb builtins bz2 cProfile calendar \
    cgi CGIHTTPServer cgitb chunk cmath cmd code codecs codeop collections colorsys commands compileall compression \
    concurrent configparser ConfigParser contextlib contextvars copy copyreg copy_reg cPickle crypt cStringIO csv ctypes \
    curses dataclasses datetime dbhash dbm decimal difflib dircache dis distutils doctest dumbdbm email encodings ensurepip \
    enum errno faulthandler fcntl filecmp fileinput fnmatch formatter fractions ftplib functools gc gdbm genericpath getopt \
    getpass gettext glob graphlib grp gzip hashlib heapq hmac html htmlentitydefs HTMLParser http httplib idlelib ihooks \
    imaplib imghdr imp importlib inspect io ipaddress itertools json keyword lib2to3 linecache locale logging lzma mailbox \
    mailcap marshal math md5 mhlib mimetools mimetypes mimify mmap modulefinder msilib msvcrt multiprocessing mutex netrc \
    new nis nntplib nt ntpath nturl2path numbers opcode operator optparse os ossaudiodev parser pathlib pdb pickle \
    pickletools pipes pkgutil platform plistlib popen2 poplib posix posixfile posixpath pprint profile pstats pty pwd \
    py_compile pyclbr pydoc pydoc_data pyexpat queue Queue quopri random re readline repr reprlib resource rexec rfc822 \
    rlcompleter robotparser runpy sched secrets select selectors sets sgmllib sha shelve shlex shutil signal \
    SimpleHTTPServer SimpleXMLRPCServer site smtpd smtplib sndhdr socket socketserver SocketServer spwd sqlite3 sre \
    sre_compile sre_constants sre_parse ssl stat statistics statvfs string StringIO stringprep strop struct subprocess \
    sunau symbol symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios test textwrap this threading \
    time timeit Tkinter tkinter token tokenize toml tomllib trace traceback tracemalloc tty turtle turtledemo types typing \
    unicodedata unittest urllib urllib2 urlparse user uu uuid venv warnings wave weakref webbrowser whichdb winreg \
    winsound wsgiref xdrlib xml xmlrpc xmlrpclib xxlimited zipapp zipfile zipimport zlib zoneinfo";

/// Those that checkpoints name something of: of the others everything is dangerous. The script of `reexports.txt` has
/// the same list.
const INERT_STDLIB: &str = "\
    __future__ _abc _bisect _collections_abc _datetime _decimal _functools _operator _pydatetime _pydecimal _random _sre \
    _statistics _string _strptime _struct _thread _typing _uuid _weakref _weakrefset _zoneinfo abc argparse array bisect \
    builtins calendar cmath collections colorsys contextlib copy copyreg copy_reg dataclasses datetime decimal errno enum \
    fractions functools graphlib heapq html http ipaddress itertools json keyword logging math numbers operator pathlib \
    queue Queue random re secrets sets statistics string struct textwrap threading time types typing unicodedata urlparse \
    uuid weakref zoneinfo";

/// Parts of torch of which checkpoints name functions: activations, initialisers, collate functions, observers.
const INERT_TORCH: &str = "\
    torch.ao.nn torch.ao.quantization torch.amp torch.cuda.amp torch.distributed._shard torch.distributed.fsdp \
    torch.distributed.tensor torch.distributions torch.fft torch.linalg torch.nested torch.nn torch.optim \
    torch.quantization torch.sparse torch.special torch.utils._pytree torch.utils.data torch.utils.hooks";

/// In the name of a function: what it loads, opens, evaluates, starts or removes is not its pickle's affair.
const WORDS: &str = "\
    load loads reload open fopen popen read write save dump dumps exec execute eval evaluate run runs runcode spawn \
    system shell cmd command subprocess download downloads fetch request urlopen urlretrieve import instantiate compile restore \
    unlink rmtree remove delete rename mkdir chmod chown symlink touch connect serve server launch install subproc pickle \
    deserialize marshal main tofile fromfile extractall locate socket publish upload requirements pretrained";

/// What Python has for running code, starting processes and reaching files, by names that nobody gives to something else: a
/// module that has one of these has it from there (`from subprocess import Popen`).
const TOOLS: &str = "\
    Popen check_output check_call getoutput getstatusoutput import_module FunctionType CodeType Unpickler attrgetter \
    methodcaller partialmethod rmtree copyfile copytree urlopen urlretrieve NamedTemporaryFile TemporaryFile \
    TemporaryDirectory mkstemp mkdtemp ThreadPoolExecutor ProcessPoolExecutor CDLL PyDLL pythonapi \
    InteractiveInterpreter InteractiveConsole compile_command literal_eval dictConfig fileConfig ZipFile TarFile \
    HTTPConnection HTTPSConnection create_connection __import__ getattr setattr delattr execfile globals";

pub(super) const BY_TOOL: &str = "runs code, starts processes or reaches files, by its name";
pub(super) const NO_USE: &str = "belongs to a part of Python that checkpoints have no use for";
pub(super) const NO_USE_TORCH: &str = "belongs to a part of torch that checkpoints have no use for";
pub(super) const BY_NAME: &str = "opens, loads, runs or changes something, by its name";

type Names = LazyLock<HashSet<&'static str>>;

static STDLIB_NAMES: Names = LazyLock::new(|| STDLIB.split_ascii_whitespace().collect());
static INERT_NAMES: Names = LazyLock::new(|| INERT_STDLIB.split_ascii_whitespace().collect());
static TOOL_NAMES: Names = LazyLock::new(|| TOOLS.split_ascii_whitespace().collect());
static WORD_NAMES: Names = LazyLock::new(|| WORDS.split_ascii_whitespace().collect());

fn top(module: &str) -> &str {
    module.split('.').next().unwrap_or(module)
}

/// Whether it is a module of Python's own.
pub(super) fn is_stdlib(module: &str) -> bool {
    STDLIB_NAMES.contains(top(module))
}

/// Whether all its modules are in the tables: a name with dots that leads nowhere there is not one of a class.
pub(super) fn is_charted(module: &str) -> bool {
    matches!(top(module), "torch" | "numpy") || is_stdlib(module)
}

/// Whether its classes are layers or optimizers.
pub(super) fn is_layers(module: &str) -> bool {
    ["torch.nn", "torch.optim"]
        .iter()
        .any(|part| module.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Why nothing of a module is harmless.
pub(super) fn no_use(module: &str, name: &str) -> Option<&'static str> {
    if is_stdlib(module) {
        // what modules keep to themselves is what they have from others
        let is_private = name.starts_with('_') && !name.trim_start_matches('_').starts_with(char::is_uppercase);
        return (is_private || !INERT_NAMES.contains(top(module))).then_some(NO_USE);
    }
    let is_inert = |part: &str| module.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let is_function = !name.trim_start_matches('_').starts_with(char::is_uppercase);
    let is_other = module.starts_with("torch.") && is_function && !name.contains("rebuild");
    (is_other && !INERT_TORCH.split_ascii_whitespace().any(is_inert)).then_some(NO_USE_TORCH)
}

/// Whether a function's name says that it opens, loads, runs or removes something: `load_state`, `read_pickle`,
/// `getLines` is none.
pub(super) fn is_named_so(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_function = last.trim_start_matches('_').starts_with(char::is_lowercase);
    is_function && !name.contains('<') && words(last).any(|word| WORD_NAMES.contains(word.as_str()))
}

/// Whether a name is that of one of Python's tools, wherever it stands.
pub(super) fn is_tool(name: &str) -> bool {
    TOOL_NAMES.contains(name)
}

/// `some_name`, `someName`, as words.
fn words(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split('_').flat_map(|part| {
        let mut words = vec![String::new()];
        for c in part.chars() {
            if c.is_uppercase() && words.last().is_some_and(|word| !word.is_empty()) {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_by_their_words() {
        for name in ["load", "attempt_load", "read_pickle", "_import_module", "loadModel", "Path.write_text", "eval"] {
            assert!(is_named_so(name), "{name}");
        }
        for name in
            ["gelu", "Loader", "default_loader", "LoadImage", "opening", "_reconstruct", "f.<locals>.load", "reduce"]
        {
            assert!(!is_named_so(name), "{name}");
        }
    }
}
