//! libpcap compiles filter expressions: `pcap_compile(3)`, `dlopen(3)`.
//!
//! The library is loaded when an expression is compiled first, so that a sensor without one needs
//! none. What it compiles is copied, and nothing of the library is used after that.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::ptr::NonNull;

use parking_lot::Mutex;

/// The names of the library: Debian's, everybody else's, and that of a development package.
const NAMES: [&CStr; 3] = [c"libpcap.so.0.8", c"libpcap.so.1", c"libpcap.so"];

/// The length that a captured frame has at most. It is what a program returns for a frame that it
/// takes, and nothing else depends on it.
const SNAPLEN: c_int = 262_144;

/// An instruction of a classic BPF program (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    /// What is done.
    pub code: u16,
    /// Instructions that are left out where a condition holds.
    pub jt: u8,
    /// Instructions that are left out where it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// The reasons why an expression was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PcapError {
    /// The library is not here. The text is the loader's.
    #[error("{0}")]
    Missing(String),
    /// The library does not understand the expression. The text is the library's.
    #[error("{0}")]
    Refused(String),
}

/// `struct bpf_program`.
#[repr(C)]
struct RawProgram {
    length: c_uint,
    instructions: *mut Instruction,
}

type Handle = *mut c_void;
type OpenDead = unsafe extern "C" fn(c_int, c_int) -> Handle;
type Compile = unsafe extern "C" fn(Handle, *mut RawProgram, *const c_char, c_int, u32) -> c_int;
type FreeCode = unsafe extern "C" fn(*mut RawProgram);
type GetErr = unsafe extern "C" fn(Handle) -> *mut c_char;
type Close = unsafe extern "C" fn(Handle);

/// The functions of the library, which stays loaded.
#[derive(Clone, Copy)]
struct Library {
    open_dead: OpenDead,
    compile: Compile,
    free_code: FreeCode,
    get_err: GetErr,
    close: Close,
    #[cfg(any(test, fuzzing))]
    filter: unsafe extern "C" fn(*const Instruction, *const u8, c_uint, c_uint) -> c_uint,
    #[cfg(any(test, fuzzing))]
    validate: unsafe extern "C" fn(*const Instruction, c_int) -> c_int,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("libpcap")
    }
}

/// The library, once it is loaded. It is locked while it compiles: its versions before 1.8 have one
/// state for all threads.
static LIBRARY: Mutex<Option<Library>> = Mutex::new(None);

/// Returns what the loader says of its last failure.
fn loader_says() -> String {
    // SAFETY: `dlerror` has no preconditions. It returns null or a string of this thread's, which
    // stays until the thread calls the loader again.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader does not say why".into();
    }
    // SAFETY: the string ends with a zero, and lives until the copy below is made.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Returns the address of a function of the library.
fn symbol(library: NonNull<c_void>, name: &CStr) -> Result<NonNull<c_void>, PcapError> {
    // SAFETY: the handle is from `dlopen` and was never closed; the name ends with a zero.
    let address = unsafe { libc::dlsym(library.as_ptr(), name.as_ptr()) };
    NonNull::new(address).ok_or_else(|| PcapError::Missing(loader_says()))
}

/// Makes a pointer to a function of type `$type` of the address of `$name`.
macro_rules! function {
    ($library:expr, $name:literal, $type:ty) => {{
        let address = symbol($library, $name)?;
        // SAFETY: the type is the one that libpcap's headers declare for this name, and has the
        // size of a pointer. The library is never unloaded.
        unsafe { std::mem::transmute::<NonNull<c_void>, $type>(address) }
    }};
}

/// Loads the library, if it is there, for a process that will not be able to.
pub(crate) fn preload() {
    let mut loaded = LIBRARY.lock();
    if loaded.is_none() {
        *loaded = Library::load().ok();
    }
}

impl Library {
    /// Loads the library.
    fn load() -> Result<Self, PcapError> {
        let mut said = None;
        for name in NAMES {
            // SAFETY: the name ends with a zero. The library's initialisation, which runs here,
            // has no preconditions.
            let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            match NonNull::new(library) {
                Some(library) => return Self::of(library),
                // The first name is the one that an answer is about.
                None => _ = said.get_or_insert_with(loader_says),
            }
        }
        Err(PcapError::Missing(said.unwrap_or_default()))
    }

    fn of(library: NonNull<c_void>) -> Result<Self, PcapError> {
        Ok(Self {
            open_dead: function!(library, c"pcap_open_dead", OpenDead),
            compile: function!(library, c"pcap_compile", Compile),
            free_code: function!(library, c"pcap_freecode", FreeCode),
            get_err: function!(library, c"pcap_geterr", GetErr),
            close: function!(library, c"pcap_close", Close),
            #[cfg(any(test, fuzzing))]
            filter: function!(
                library,
                c"bpf_filter",
                unsafe extern "C" fn(*const Instruction, *const u8, c_uint, c_uint) -> c_uint
            ),
            #[cfg(any(test, fuzzing))]
            validate: function!(library, c"bpf_validate", unsafe extern "C" fn(*const Instruction, c_int) -> c_int),
        })
    }
}

/// A handle without a capture, which expressions are compiled with.
struct Dead {
    library: Library,
    handle: NonNull<c_void>,
}

impl Dead {
    fn open(library: Library, link_type: c_int) -> Result<Self, PcapError> {
        // SAFETY: `pcap_open_dead` takes any two numbers.
        let handle = unsafe { (library.open_dead)(link_type, SNAPLEN) };
        let handle = NonNull::new(handle).ok_or_else(|| PcapError::Refused("out of memory".into()))?;
        Ok(Self { library, handle })
    }

    fn says(&self) -> String {
        // SAFETY: the handle is open. The text is a buffer inside of it.
        let text = unsafe { (self.library.get_err)(self.handle.as_ptr()) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: the text ends with a zero, and nothing changes it before it is copied.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and is not used after this.
        unsafe { (self.library.close)(self.handle.as_ptr()) }
    }
}

/// Compiles `expression` for frames of `link_type` (`DLT_*`), and optimises what comes of it.
///
/// The network's mask is taken as 0, as tcpdump does where it reads a file.
///
/// # Errors
/// The library is not here, or does not understand the expression.
pub(crate) fn compile(expression: &str, link_type: i32) -> Result<Vec<Instruction>, PcapError> {
    let Ok(text) = CString::new(expression) else {
        return Err(PcapError::Refused("a zero byte in the expression".into()));
    };
    let mut loaded = LIBRARY.lock();
    let library = match *loaded {
        Some(library) => library,
        None => *loaded.insert(Library::load()?),
    };
    let dead = Dead::open(library, link_type)?;
    let mut raw = RawProgram { length: 0, instructions: std::ptr::null_mut() };
    // SAFETY: the handle is open, the text ends with a zero, and `raw` is for the library to fill.
    let result = unsafe { (library.compile)(dead.handle.as_ptr(), &raw mut raw, text.as_ptr(), 1, 0) };
    if result != 0 {
        return Err(PcapError::Refused(dead.says()));
    }
    let program = if raw.instructions.is_null() {
        Vec::new()
    } else {
        // SAFETY: the library has filled `raw`: that many instructions lie there, which are of the
        // type that `bpf_insn` is, until they are freed below.
        unsafe { std::slice::from_raw_parts(raw.instructions, raw.length as usize) }.to_vec()
    };
    // SAFETY: the library has filled `raw`, and the copy is made.
    unsafe { (library.free_code)(&raw mut raw) };
    drop(loaded);
    Ok(program)
}

/// Runs a program as libpcap does, for comparison; none where libpcap finds it invalid. The memory
/// words that it reads must have been written by it.
#[cfg(any(test, fuzzing))]
pub(crate) fn filter(program: &[Instruction], frame: &[u8], original: u32) -> Option<u32> {
    let library = *LIBRARY.lock().get_or_insert_with(|| Library::load().unwrap());
    let length = c_int::try_from(program.len()).unwrap();
    // SAFETY: that many instructions lie there.
    let is_valid = unsafe { (library.validate)(program.as_ptr(), length) };
    // SAFETY: the library has validated the program: it stays inside of itself and of its memory,
    // and loads nothing beyond the length of the frame.
    (is_valid != 0).then(|| unsafe {
        (library.filter)(program.as_ptr(), frame.as_ptr(), original, c_uint::try_from(frame.len()).unwrap())
    })
}
