//! A Lua state with its memory, its fibre and its time limit.
//!
//! # How a long script lets the worker go on
//!
//! A script that runs longer than `busy-reply-threshold` must not keep its worker from answering
//! `-BUSY`, from SCRIPT KILL and from its other duties. Yielding from Lua does not do: Lua 5.1 cannot
//! yield across a `pcall` or a callback of `sort` and `gsub`. Running the worker's loop within the
//! hook does not do either, since that loop is asynchronous and owned further up. So the script runs on
//! a stack of its own, a fibre: the count hook, which Lua calls every so many instructions, suspends
//! the fibre wherever it is, with its callbacks and C functions on it, and the worker gets its
//! processor back. Tried beside this, at about 10 ns to enter and leave a fibre that is kept, against
//! 5 to 10 µs for a thread.
//!
//! Invariants:
//! - `lua_pcall` is called on the fibre and returns there: no error crosses its boundary;
//! - what the script works with (the shard) is lent to the machine for one stretch of the run only,
//!   and the hook, which alone suspends, fires only while Lua code runs, when no native function
//!   holds it. So a suspended fibre holds no reference;
//! - a machine runs one script at a time; while it is suspended, nothing else uses its state.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc, dealloc, realloc},
    ffi::{c_int, c_void},
    ptr::{self, NonNull},
};

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack, stack::Stack as _};
use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::{
    super::{
        error::push_error,
        run::{Run, Verdict},
    },
    Failed, Stack, home_of,
};

/// Most memory that scripts of one worker may hold, in bytes. What Redis leaves to the kernel's
/// out-of-memory killer ends in an error that the script can catch.
const MEMORY_BYTES_MAX: usize = if cfg!(test) { 256 << 20 } else { 2 << 30 };
/// Address space of a fibre's stack, in bytes; only what is used takes memory.
const FIBRE_BYTES: usize = 16 << 20;
/// What is left of it when nested coroutines and recursions over data are stopped. Lua itself stops
/// 200 calls of C functions deep, each with a buffer of 8 KiB at most.
const FIBRE_RESERVE_BYTES: usize = 6 << 20;
/// After so many instructions the hook looks at the time, as in Redis.
const HOOK_INSTRUCTIONS: c_int = 100_000;

/// What belongs to a state and is found from it.
pub(in crate::script) struct Home {
    used_bytes: usize,
    /// Memory is limited: Lua code runs, which knows what to do without.
    is_limited: bool,
    /// Native functions must not go deeper than this address of the C stack.
    pub(super) stack_floor: usize,
    /// What the running script works with, for this stretch.
    pub(super) run: Option<NonNull<Run<'static>>>,
    /// Suspends the fibre.
    yielder: *const Yielder<(), ()>,
}

/// Whether memory was limited before.
pub(super) struct Limits(bool);

impl Home {
    /// A native function begins.
    pub(super) fn arrive(&mut self) -> Limits {
        Limits(std::mem::replace(&mut self.is_limited, false))
    }

    /// A native function ends.
    pub(super) fn depart(&mut self, before: Limits) {
        self.is_limited = before.0;
    }

    /// A native function calls Lua.
    pub(super) fn leave(&mut self) -> Limits {
        Limits(std::mem::replace(&mut self.is_limited, true))
    }

    /// The call has returned.
    pub(super) fn come_back(&mut self, before: Limits) {
        self.is_limited = before.0;
    }
}

/// What came of a stretch of a script's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::script) enum Stretch {
    /// The function has returned, or failed, with its result on the stack.
    Ended(Result<(), Failed>),
    /// It is suspended.
    Suspended,
}

/// A Lua state that runs scripts.
pub(in crate::script) struct Machine {
    raw: *mut lua_State,
    home: *mut Home,
    /// Made for the first script.
    fibre: Option<Fibre>,
    is_suspended: bool,
}

struct Fibre {
    coroutine: Coroutine<(), (), ()>,
    /// What it is to do next, and what came of it.
    desk: Box<Desk>,
    /// Native functions on it must not go deeper than this address.
    floor: usize,
}

/// Where the machine and its fibre put things down for each other.
struct Desk {
    raw: *mut lua_State,
    /// How many arguments the function is to be called with.
    arguments: c_int,
    result: Option<Result<(), Failed>>,
}

impl Machine {
    /// A new state without any library.
    pub(in crate::script) fn new() -> Self {
        let home = Box::into_raw(Box::new(Home {
            used_bytes: 0,
            is_limited: false,
            stack_floor: 0,
            run: None,
            yielder: ptr::null(),
        }));
        // SAFETY: the allocator's data outlives the state: `drop` frees it after closing.
        let raw = unsafe { ffi::lua_newstate(allocate, home.cast()) };
        assert!(!raw.is_null(), "no memory for a Lua state");
        Self { raw, home, fibre: None, is_suspended: false }
    }

    /// The state's stack, between scripts.
    pub(in crate::script) fn stack(&mut self) -> Stack<'_> {
        assert!(!self.is_suspended, "a suspended script owns its state");
        // SAFETY: the state is ours, and nobody uses it while this borrow lasts.
        unsafe { Stack::new(self.raw) }
    }

    /// Opens Lua's own libraries: base, table, string, math, os and debug.
    pub(in crate::script) fn open_libraries(&mut self) {
        let libraries: [(ffi::lua_CFunction, &std::ffi::CStr); 6] = [
            (ffi::luaopen_base, c""),
            (ffi::luaopen_table, c"table"),
            (ffi::luaopen_string, c"string"),
            (ffi::luaopen_math, c"math"),
            (ffi::luaopen_os, c"os"),
            (ffi::luaopen_debug, c"debug"),
        ];
        for (open, name) in libraries {
            // SAFETY: each is called with its name, as `luaL_openlibs` does; memory is not limited
            // yet, so it does not fail.
            unsafe {
                ffi::lua_pushcclosure(self.raw, open, 0);
                ffi::lua_pushstring_(self.raw, name.as_ptr());
                ffi::lua_call(self.raw, 1, 0);
            }
        }
    }

    /// Memory that the state holds, in bytes.
    pub(in crate::script) fn used_bytes(&self) -> usize {
        // SAFETY: `home` lives as long as `self`.
        unsafe { (*self.home).used_bytes }
    }

    /// Begins to call the function below the topmost `arguments` values, which returns nothing.
    /// From time to time `run` is asked whether it may go on.
    pub(in crate::script) fn start(&mut self, run: &mut Run<'_>, arguments: c_int) -> Stretch {
        assert!(!self.is_suspended && self.stack().top() > arguments);
        // SAFETY: the state is idle.
        unsafe {
            ffi::lua_sethook(self.raw, Some(look_at_time), ffi::LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
        }
        let raw = self.raw;
        let fibre = self.fibre.get_or_insert_with(|| Fibre::new(raw));
        fibre.desk.arguments = arguments;
        self.resume(run)
    }

    /// Goes on with a script, on the fibre, until it ends or is suspended.
    pub(in crate::script) fn resume(&mut self, run: &mut Run<'_>) -> Stretch {
        let fibre = self.fibre.as_mut().expect("a started script has a fibre");
        let run = NonNull::from(run).cast::<Run<'static>>();
        // SAFETY: the run is borrowed until this function returns, and is taken out before. Only
        // `Stack::with_run` and the hook use it, one at a time, while the fibre runs.
        unsafe {
            (*self.home).run = Some(run);
            (*self.home).stack_floor = fibre.floor;
        }
        let step = fibre.coroutine.resume(());
        // SAFETY: the fibre has stopped.
        unsafe {
            (*self.home).run = None;
            (*self.home).stack_floor = 0;
        }
        debug_assert!(matches!(step, CoroutineResult::Yield(())), "a fibre never ends");
        match fibre.desk.result.take() {
            Some(result) => {
                self.is_suspended = false;
                Stretch::Ended(result)
            }
            None => {
                self.is_suspended = true;
                Stretch::Suspended
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.is_suspended {
            // Its frames cannot be left by unwinding, since they are C's. This happens only when the
            // process ends with a script under way: what it holds is left as it is.
            std::mem::forget(self.fibre.take());
            return;
        }
        if let Some(fibre) = &mut self.fibre {
            // SAFETY: between scripts the fibre waits in its loop and owns nothing to drop.
            unsafe { fibre.coroutine.force_reset() };
        }
        // SAFETY: nobody uses the state any more, and then nobody the home.
        unsafe {
            ffi::lua_close(self.raw);
            drop(Box::from_raw(self.home));
        }
    }
}

impl Fibre {
    fn new(raw: *mut lua_State) -> Self {
        let mut desk = Box::new(Desk { raw, arguments: 0, result: None });
        let stack = DefaultStack::new(FIBRE_BYTES).expect("address space for a stack");
        let floor = stack.limit().get() + FIBRE_RESERVE_BYTES;
        let place: *mut Desk = &mut *desk;
        let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
            // SAFETY: the desk is boxed and outlives the fibre; both run on one thread, in turns.
            unsafe { serve(yielder, place) }
        });
        Self { coroutine, desk, floor }
    }
}

/// The fibre's loop: takes a task, calls it, puts down the result, waits.
unsafe fn serve(yielder: &Yielder<(), ()>, desk: *mut Desk) {
    loop {
        // SAFETY: the caller's promise: while the fibre runs, only it uses the desk and the state.
        unsafe {
            let raw = (*desk).raw;
            let home = home_of(raw);
            (*home).yielder = yielder;
            let limits = (*home).leave();
            let status = ffi::lua_pcall(raw, (*desk).arguments, 0, 0);
            (*home).come_back(limits);
            (*desk).result = Some(if status == ffi::LUA_OK { Ok(()) } else { Err(Failed) });
        }
        yielder.suspend(());
    }
}

/// The count hook: asks the run whether the script may go on, and suspends it if it is to wait.
unsafe extern "C-unwind" fn look_at_time(raw: *mut lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls the hook between two instructions of Lua code on the fibre, when no native
    // function uses the run; and nothing here needs to be dropped when the error is raised.
    unsafe {
        if ask(raw) {
            return;
        }
        // From now on every line fails, so that no `pcall` keeps the script alive.
        ffi::lua_sethook(raw, Some(look_at_time), ffi::LUA_MASKLINE | ffi::LUA_MASKCOUNT, 1);
        ffi::lua_error(raw);
    }
}

/// Whether the script may go on; otherwise its error is on top of the stack.
#[inline(never)]
unsafe fn ask(raw: *mut lua_State) -> bool {
    // SAFETY: see `look_at_time`.
    unsafe {
        let home = home_of(raw);
        let verdict = |home: *mut Home| match (*home).run {
            Some(mut run) => run.as_mut().verdict(),
            None => Verdict::GoOn,
        };
        let mut decided = verdict(home);
        if let Verdict::Wait = decided {
            (*(*home).yielder).suspend(());
            // Another run is in place, and whoever resumes has decided.
            decided = verdict(home);
        }
        let Verdict::Fail(text) = decided else { return true };
        let limits = (*home).arrive();
        push_error(&mut Stack::new(raw), text.as_bytes());
        (*home).depart(limits);
        false
    }
}

/// Lua's allocator: mimalloc or whatever the process uses, with a limit.
unsafe extern "C" fn allocate(
    home: *mut c_void,
    block: *mut c_void,
    old_bytes: usize,
    new_bytes: usize,
) -> *mut c_void {
    let home: *mut Home = home.cast();
    let block: *mut u8 = block.cast();
    let old_bytes = if block.is_null() { 0 } else { old_bytes };
    // SAFETY: `home` is the machine's; blocks come from here with the sizes that Lua repeats.
    unsafe {
        let Ok(layout) = Layout::from_size_align(old_bytes, 16) else { return ptr::null_mut() };
        if new_bytes == 0 {
            if old_bytes > 0 {
                dealloc(block, layout);
                (*home).used_bytes -= old_bytes;
            }
            return ptr::null_mut();
        }
        let used = (*home).used_bytes - old_bytes + new_bytes;
        let is_over = used > MEMORY_BYTES_MAX && new_bytes > old_bytes;
        if is_over && (*home).is_limited {
            return ptr::null_mut();
        }
        let Ok(new_layout) = Layout::from_size_align(new_bytes, 16) else { return ptr::null_mut() };
        let moved =
            if old_bytes == 0 { alloc(new_layout) } else { realloc(block, layout, new_bytes) };
        if moved.is_null() {
            if !(*home).is_limited {
                // A native function has no way to fail here.
                std::alloc::handle_alloc_error(new_layout);
            }
            return ptr::null_mut();
        }
        (*home).used_bytes = used;
        moved.cast()
    }
}
