//! C functions that stand in front of Lua's own, and tables that scripts cannot change.
//!
//! # Protected tables
//!
//! Redis builds its Lua with tables that can be marked read-only. The Lua here is the plain one, so
//! a script sees every table of the sandbox (`_G`, `redis`, `string`, …) through an empty one: its
//! metatable reads from the real table, raises on writes, and is itself hidden. What goes past
//! metatables in Lua's libraries (`rawset`, `next`, `table.insert`, …) is wrapped here, so that it
//! raises or looks through as well. A protected table is known by a key of its metatable that
//! scripts cannot make: a light userdata with an address of this program.
//!
//! # Limits of the C stack
//!
//! Lua 5.1 bounds the depth of calls in C but for two ways: the pattern matcher calls itself once for
//! every quantifier or capture that it has passed, and coroutines that resume coroutines count from
//! zero each. Both are checked here before Lua's own code runs.
//!
//! Invariant: no function here owns anything, so that each may raise anywhere.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr, slice,
};

use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::{C_STACK_MIN, Stack, home_of};

/// What a script is told that writes to a protected table.
const READ_ONLY: &CStr = c"Attempt to modify a readonly table";
/// Most quantifiers and captures of a pattern. Each takes some 250 bytes of C stack.
const PATTERN_ITEMS_MAX: usize = 2_000;

/// Its address marks protected tables.
static MARK: u8 = 0;

fn mark() -> *mut c_void {
    ptr::from_ref(&MARK).cast_mut().cast()
}

impl Stack<'_> {
    /// Replaces the table on top by a protected one that reads from it. What it does not hold is
    /// asked of the real table's own metatable.
    pub(in crate::script) fn protect(&mut self) {
        assert!(self.reserve(8));
        self.push_table(0, 0);
        self.push_table(0, 4);
        self.push_copy(-3);
        self.raw_set_field(-2, b"__index");
        self.push_guard(raise_read_only);
        self.raw_set_field(-2, b"__newindex");
        self.push_hidden_metatable();
        self.raw_set_field(-2, b"__metatable");
        // SAFETY: there is room; the metatable is at -1, and then the mark and the real table on
        // top of it.
        unsafe {
            ffi::lua_pushlightuserdata(self.raw, mark());
            ffi::lua_pushvalue(self.raw, -4);
            ffi::lua_rawset(self.raw, -3);
        }
        self.set_metatable(-2);
        self.remove(-2);
    }

    /// Lets the protected table on top read from the table below instead; removes both.
    pub(in crate::script) fn redirect(&mut self) {
        // SAFETY: there is room for three more values; a protected table has a metatable.
        unsafe {
            assert!(self.reserve(4) && ffi::lua_getmetatable(self.raw, -1) != 0);
        }
        self.push_copy(-3);
        self.raw_set_field(-2, b"__index");
        self.pop(3);
    }

    /// What `getmetatable` shows of a protected table.
    fn push_hidden_metatable(&mut self) {
        self.push_table(0, 0);
        self.push_table(0, 3);
        self.push_guard(raise_read_only);
        self.raw_set_field(-2, b"__newindex");
        self.push_boolean(false);
        self.raw_set_field(-2, b"__metatable");
        // SAFETY: there is room; the real table of this one is an empty one.
        unsafe {
            ffi::lua_pushlightuserdata(self.raw, mark());
            ffi::lua_createtable(self.raw, 0, 0);
            ffi::lua_rawset(self.raw, -3);
        }
        self.set_metatable(-2);
    }

    /// Whether the value at `index` is a protected table.
    pub(in crate::script) fn is_protected(&self, index: c_int) -> bool {
        // SAFETY: it leaves the stack as it was, and needs two places of the reserve that every C
        // function has.
        unsafe { ffi::lua_checkstack(self.raw, 3) != 0 && is_protected(self.raw, index) }
    }

    fn push_guard(&mut self, guard: ffi::lua_CFunction) {
        assert!(self.reserve(1));
        // SAFETY: there is room.
        unsafe { ffi::lua_pushcclosure(self.raw, guard, 0) }
    }

    /// Puts the guards in the place of the functions of Lua's libraries that they wrap or replace.
    pub(in crate::script) fn install_guards(&mut self) {
        let wrapped: [(&[u8], &[u8], ffi::lua_CFunction); 9] = [
            (b"_G", b"setmetatable", refuse_protected),
            (b"_G", b"rawset", refuse_protected),
            (b"table", b"insert", refuse_protected),
            (b"table", b"remove", refuse_protected),
            (b"table", b"sort", refuse_protected),
            (b"string", b"find", check_pattern),
            (b"string", b"match", check_pattern),
            (b"string", b"gmatch", check_pattern),
            (b"string", b"gsub", check_pattern),
        ];
        for (library, name, guard) in wrapped {
            self.wrap(library, name, guard);
        }
        self.wrap(b"coroutine", b"resume", check_depth);
        self.wrap(b"_G", b"collectgarbage", collect_garbage);
        let replaced: [(&[u8], &[u8], ffi::lua_CFunction); 6] = [
            (b"_G", b"next", next),
            (b"_G", b"pairs", pairs),
            (b"_G", b"rawget", raw_get),
            (b"_G", b"loadstring", load_string),
            (b"_G", b"load", load),
            (b"coroutine", b"wrap", wrap),
        ];
        for (library, name, function) in replaced {
            self.push_library(library);
            self.push_guard(function);
            self.raw_set_field(-2, name);
            self.pop(1);
        }
    }

    fn push_library(&mut self, library: &[u8]) {
        self.push_globals();
        if library != b"_G" {
            self.raw_get_field(-1, library);
            self.remove(-2);
        }
    }

    /// Puts `guard`, with the function as its upvalue, in the place of `library.name`.
    fn wrap(&mut self, library: &[u8], name: &[u8], guard: ffi::lua_CFunction) {
        self.push_library(library);
        self.raw_get_field(-1, name);
        // SAFETY: a function of Lua's libraries is a C function without upvalues; the guard calls it
        // on its own stack.
        unsafe {
            let original = ffi::lua_tocfunction(self.raw, -1).expect("a function of the library");
            ffi::lua_pushlightuserdata(self.raw, original as *mut c_void);
            ffi::lua_pushcclosure(self.raw, guard, 1);
        }
        self.raw_set_field(-3, name);
        self.pop(2);
    }
}

/// Whether the value at `index` is a protected table.
unsafe fn is_protected(raw: *mut lua_State, index: c_int) -> bool {
    // SAFETY: the caller has three places free and gives an acceptable index.
    unsafe {
        if ffi::lua_type(raw, index) != ffi::LUA_TTABLE || ffi::lua_getmetatable(raw, index) == 0 {
            return false;
        }
        ffi::lua_pushlightuserdata(raw, mark());
        ffi::lua_rawget_(raw, -2);
        let is_marked = ffi::lua_type(raw, -1) == ffi::LUA_TTABLE;
        ffi::lua_pop(raw, 2);
        is_marked
    }
}

/// Replaces a protected table at `index` by the real one.
unsafe fn look_through(raw: *mut lua_State, index: c_int) {
    // SAFETY: the caller has three places free and gives an index on the stack, from its bottom.
    unsafe {
        if is_protected(raw, index) {
            ffi::lua_getmetatable(raw, index);
            ffi::lua_getfield_(raw, -1, c"__index".as_ptr());
            ffi::lua_replace(raw, index);
            ffi::lua_pop(raw, 1);
        }
    }
}

/// Raises `message` with the caller's position.
unsafe fn fail(raw: *mut lua_State, message: &CStr) -> c_int {
    // SAFETY: the message lives as long as the program.
    unsafe { ffi::luaL_error(raw, c"%s".as_ptr(), message.as_ptr()) }
}

/// The function that a guard stands in front of, called with the guard's own arguments.
unsafe fn go_on(raw: *mut lua_State) -> c_int {
    // SAFETY: `wrap` has made the first upvalue a C function without upvalues of its own.
    unsafe {
        let original = ffi::lua_touserdata(raw, ffi::lua_upvalueindex(1));
        let original = std::mem::transmute::<*mut c_void, ffi::lua_CFunction>(original);
        original(raw)
    }
}

unsafe extern "C-unwind" fn raise_read_only(raw: *mut lua_State) -> c_int {
    // SAFETY: see `fail`.
    unsafe { fail(raw, READ_ONLY) }
}

/// In front of functions that change their first argument.
unsafe extern "C-unwind" fn refuse_protected(raw: *mut lua_State) -> c_int {
    // SAFETY: a C function has 20 places free.
    unsafe {
        if !is_protected(raw, 1) {
            return go_on(raw);
        }
        // Without a position, as an error that Lua itself raises in a function of C.
        ffi::lua_pushstring_(raw, READ_ONLY.as_ptr());
        ffi::lua_error(raw)
    }
}

/// In front of functions of patterns: bounds how deep the matcher can call itself.
unsafe extern "C-unwind" fn check_pattern(raw: *mut lua_State) -> c_int {
    // SAFETY: the bytes are read while the string is on the stack.
    unsafe {
        let mut len = 0;
        let pattern = ffi::luaL_checklstring(raw, 2, &mut len);
        if len > PATTERN_ITEMS_MAX {
            let pattern = slice::from_raw_parts(pattern.cast::<u8>(), len);
            let items = pattern.iter().filter(|byte| b"?*+-()".contains(byte)).count();
            if items > PATTERN_ITEMS_MAX {
                return fail(raw, c"pattern too complex");
            }
        }
        go_on(raw)
    }
}

unsafe fn has_depth(raw: *mut lua_State) -> bool {
    let here = 0_u8;
    // SAFETY: the home lives as long as the state.
    unsafe { ptr::from_ref(&here).addr() > (*home_of(raw)).stack_floor + C_STACK_MIN }
}

/// In front of `coroutine.resume`.
unsafe extern "C-unwind" fn check_depth(raw: *mut lua_State) -> c_int {
    // SAFETY: see `fail` and `go_on`.
    unsafe { if has_depth(raw) { go_on(raw) } else { fail(raw, c"C stack overflow") } }
}

/// `collectgarbage`: what would change the collector for all later scripts does nothing.
unsafe extern "C-unwind" fn collect_garbage(raw: *mut lua_State) -> c_int {
    // SAFETY: the option is compared while it is on the stack.
    unsafe {
        let option = ffi::luaL_optlstring(raw, 1, c"collect".as_ptr(), ptr::null_mut());
        let option = CStr::from_ptr(option);
        if [c"stop", c"restart", c"setpause", c"setstepmul"].contains(&option) {
            ffi::lua_pushnumber(raw, 0.0);
            return 1;
        }
        go_on(raw)
    }
}

/// `next`, which looks through protected tables.
unsafe extern "C-unwind" fn next(raw: *mut lua_State) -> c_int {
    // SAFETY: the arguments are checked; raising is allowed here.
    unsafe {
        ffi::luaL_checktype(raw, 1, ffi::LUA_TTABLE);
        ffi::lua_settop(raw, 2);
        look_through(raw, 1);
        if ffi::lua_next(raw, 1) != 0 {
            return 2;
        }
        ffi::lua_pushnil(raw);
        1
    }
}

/// `pairs`.
unsafe extern "C-unwind" fn pairs(raw: *mut lua_State) -> c_int {
    // SAFETY: as for `next`.
    unsafe {
        ffi::luaL_checktype(raw, 1, ffi::LUA_TTABLE);
        ffi::lua_pushcclosure(raw, next, 0);
        ffi::lua_pushvalue(raw, 1);
        ffi::lua_pushnil(raw);
        3
    }
}

/// `rawget`.
unsafe extern "C-unwind" fn raw_get(raw: *mut lua_State) -> c_int {
    // SAFETY: as for `next`.
    unsafe {
        ffi::luaL_checktype(raw, 1, ffi::LUA_TTABLE);
        ffi::luaL_checkany(raw, 2);
        ffi::lua_settop(raw, 2);
        look_through(raw, 1);
        ffi::lua_rawget_(raw, 1);
        1
    }
}

/// Leaves the result of a compilation: the function, or nil and the message.
unsafe fn loaded(raw: *mut lua_State, status: c_int) -> c_int {
    // SAFETY: the result is on top of the stack.
    unsafe {
        if status == ffi::LUA_OK {
            return 1;
        }
        ffi::lua_pushnil(raw);
        ffi::lua_insert(raw, -2);
        2
    }
}

/// `loadstring`: text only, since precompiled code is not checked by Lua.
unsafe extern "C-unwind" fn load_string(raw: *mut lua_State) -> c_int {
    // SAFETY: the code is on the stack while it is compiled, which is protected.
    unsafe {
        let mut len = 0;
        let code = ffi::luaL_checklstring(raw, 1, &mut len);
        let name = ffi::luaL_optlstring(raw, 2, code, ptr::null_mut());
        if len > 0 && *code.cast::<u8>() == ffi::LUA_SIGNATURE[0] {
            ffi::lua_pushstring_(raw, c"precompiled code is not allowed".as_ptr());
            return loaded(raw, ffi::LUA_ERRSYNTAX);
        }
        let status = ffi::luaL_loadbuffer(raw, code, len, name);
        loaded(raw, status)
    }
}

/// `load`: pieces of text from a function until it returns nil or an empty string.
unsafe extern "C-unwind" fn load(raw: *mut lua_State) -> c_int {
    // SAFETY: the reader is given the state only; compiling is protected.
    unsafe {
        let name = ffi::luaL_optlstring(raw, 2, c"=(load)".as_ptr(), ptr::null_mut());
        ffi::luaL_checktype(raw, 1, ffi::LUA_TFUNCTION);
        ffi::lua_settop(raw, 3);
        let mut is_first = true;
        let status = ffi::lua_load(raw, read_piece, ptr::from_mut(&mut is_first).cast(), name);
        loaded(raw, status)
    }
}

unsafe extern "C-unwind" fn read_piece(
    raw: *mut lua_State,
    is_first: *mut c_void,
    len: *mut usize,
) -> *const c_char {
    // SAFETY: called by `lua_load` within `load`, whose frame holds the flag; the piece is kept at
    // index 3 until the next one.
    unsafe {
        ffi::luaL_checkstack_(raw, 2, c"too many nested functions".as_ptr());
        ffi::lua_pushvalue(raw, 1);
        ffi::lua_call(raw, 0, 1);
        *len = 0;
        match ffi::lua_type(raw, -1) {
            ffi::LUA_TNIL => {
                ffi::lua_pop(raw, 1);
                return ptr::null();
            }
            ffi::LUA_TSTRING | ffi::LUA_TNUMBER => {}
            _ => {
                ffi::luaL_error(raw, c"reader function must return a string".as_ptr());
            }
        }
        ffi::lua_replace(raw, 3);
        let piece = ffi::lua_tolstring(raw, 3, len);
        let is_first: *mut bool = is_first.cast();
        if *len > 0
            && std::mem::replace(&mut *is_first, false)
            && *piece.cast::<u8>() == ffi::LUA_SIGNATURE[0]
        {
            ffi::luaL_error(raw, c"precompiled code is not allowed".as_ptr());
        }
        piece
    }
}

/// `coroutine.wrap`: a coroutine as a function.
unsafe extern "C-unwind" fn wrap(raw: *mut lua_State) -> c_int {
    // SAFETY: the function is checked; the new thread becomes the closure's upvalue.
    unsafe {
        ffi::luaL_checktype(raw, 1, ffi::LUA_TFUNCTION);
        if ffi::lua_iscfunction(raw, 1) != 0 {
            return ffi::luaL_argerror(raw, 1, c"Lua function expected".as_ptr());
        }
        let thread = ffi::lua_newthread(raw);
        ffi::lua_pushvalue(raw, 1);
        ffi::lua_xmove(raw, thread, 1);
        ffi::lua_pushcclosure(raw, resume_wrapped, 1);
        1
    }
}

/// A call of a wrapped coroutine: its values, or its error with the caller's position in front.
unsafe extern "C-unwind" fn resume_wrapped(raw: *mut lua_State) -> c_int {
    // SAFETY: the upvalue is the thread that `wrap` has made. Values move between threads of one
    // state, after room for them was made.
    unsafe {
        let thread = ffi::lua_tothread(raw, ffi::lua_upvalueindex(1));
        let arguments = ffi::lua_gettop(raw);
        if !has_depth(raw) {
            return fail(raw, c"C stack overflow");
        }
        let is_over = match ffi::lua_status(thread) {
            ffi::LUA_YIELD => false,
            ffi::LUA_OK => ffi::lua_gettop(thread) == 0 || is_running(thread),
            _ => true,
        };
        if is_over {
            return fail(raw, c"cannot resume dead coroutine");
        }
        if ffi::lua_checkstack(thread, arguments) == 0 {
            return fail(raw, c"too many arguments to resume");
        }
        ffi::lua_xmove(raw, thread, arguments);
        let status = ffi::lua_resume_(thread, arguments);
        if status == ffi::LUA_OK || status == ffi::LUA_YIELD {
            let results = ffi::lua_gettop(thread);
            if ffi::lua_checkstack(raw, results + 1) == 0 {
                return fail(raw, c"too many results to resume");
            }
            ffi::lua_xmove(thread, raw, results);
            return results;
        }
        ffi::lua_xmove(thread, raw, 1);
        if ffi::lua_type(raw, -1) == ffi::LUA_TSTRING {
            ffi::luaL_where(raw, 1);
            ffi::lua_insert(raw, -2);
            ffi::lua_concat(raw, 2);
        }
        ffi::lua_error(raw)
    }
}

/// Whether a thread that is not suspended has a function under way: it is the caller, or has called
/// it.
unsafe fn is_running(thread: *mut lua_State) -> bool {
    // SAFETY: the record is only filled.
    unsafe {
        let mut record: ffi::lua_Debug = std::mem::zeroed();
        ffi::lua_getstack(thread, 0, &mut record) > 0
    }
}
