//! A safe view of a Lua 5.1 stack: what native functions work with.
//!
//! Why not mlua's own safe layer: scripts see the same errors as in Redis only if our functions are
//! C functions to Lua. They must raise tables as well as strings, name the line of the caller even
//! of a tail call, and be called without a detour over references in a registry. So this module
//! stands directly on `mlua-sys`, mlua's bindings to the vendored Lua 5.1, and is, with its child
//! modules, the only place of unsafe code of the script engine.
//!
//! # Errors are longjmp
//!
//! Lua raises an error by `longjmp` to the nearest `lua_pcall`. What lies between is not unwound, so
//! no Rust frame with anything to drop may lie there. Invariants:
//!
//! - a native function (see [`Native`]) never raises: it returns [`Raised`], all its values are
//!   dropped, and only then `enter`, which owns nothing, raises;
//! - no method of [`Stack`] calls anything that raises. Tables are read and written raw, so that no
//!   metamethod runs; Lua code runs only under `lua_pcall`; memory that a method asks for is given
//!   beyond any limit (see `machine`), so there is no error for want of memory; finalisers of
//!   scripts do not exist (`newproxy` is not offered);
//! - a method that pushes makes sure of the room; functions that recurse over their input ask
//!   [`Stack::reserve`] first, which refuses in time, so that the room for what a level pushes is
//!   always there.
#![allow(unsafe_code)]

pub(super) mod guards;
pub(super) mod machine;

use std::{
    ffi::{CStr, c_int, c_void},
    marker::PhantomData,
    mem, ptr, slice,
};

use mlua_sys as ffi;
use mlua_sys::lua_State;

use self::machine::Home;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no value at this index.
    None,
    Nil,
    Boolean,
    LightUserdata,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

impl Kind {
    /// Lua's name of the type.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "no value",
            Self::Nil => "nil",
            Self::Boolean => "boolean",
            Self::LightUserdata | Self::Userdata => "userdata",
            Self::Number => "number",
            Self::String => "string",
            Self::Table => "table",
            Self::Function => "function",
            Self::Thread => "thread",
        }
    }
}

/// A native function ends with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raised {
    /// The value on top of the stack is raised as it is.
    Value,
    /// The string on top of the stack is raised with the caller's position in front.
    Message,
    /// An argument is bad; the string on top of the stack says why.
    Argument(c_int),
    /// An argument is not of this type.
    Type(c_int, &'static CStr),
}

/// How many values on top of the stack a native function returns, or its error.
pub(super) type Returns = Result<c_int, Raised>;

/// A function of Rust that Lua calls. Its arguments are on the stack from index 1 on.
pub(super) type Native = fn(&mut Stack<'_>) -> Returns;

/// A protected call has ended with an error, whose value is on top of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// As many results of a call as there are.
pub(super) const ALL_RESULTS: c_int = ffi::LUA_MULTRET;
/// C stack that must be left for going one level deeper, in bytes.
const C_STACK_MIN: usize = 64 << 10;

/// The stack of a running function. Indices count from 1 at the bottom, or from -1 at the top.
pub(super) struct Stack<'l> {
    raw: *mut lua_State,
    lifetime: PhantomData<&'l mut lua_State>,
}

impl Stack<'_> {
    /// A view of a state.
    ///
    /// # Safety
    ///
    /// `raw` is a state of a [`machine::Machine`], used by nobody else for this lifetime.
    unsafe fn new(raw: *mut lua_State) -> Self {
        Self { raw, lifetime: PhantomData }
    }

    /// How many values there are.
    pub(super) fn top(&self) -> c_int {
        // SAFETY: by the invariant of `new`, as in all methods below.
        unsafe { ffi::lua_gettop(self.raw) }
    }

    /// Panics for an index that is neither on the stack nor a pseudo-index of upvalues.
    #[track_caller]
    fn valid(&self, index: c_int) -> c_int {
        let top = self.top();
        let is_upvalue = (ffi::LUA_GLOBALSINDEX - 255..ffi::LUA_GLOBALSINDEX).contains(&index);
        let is_known = index == ffi::LUA_REGISTRYINDEX || index == ffi::LUA_GLOBALSINDEX;
        let is_there = index > 0 && index <= top || index < 0 && -index <= top;
        assert!(is_there || is_known || is_upvalue, "index {index} on a Lua stack of {top} values");
        index
    }

    /// Makes room for `count` values to be pushed, and for going one level deeper; answers whether
    /// there is any.
    pub(super) fn reserve(&mut self, count: c_int) -> bool {
        let here = ptr::from_ref(&self).addr();
        // Further values are for what a level pushes without asking.
        here > self.home().stack_floor + C_STACK_MIN
            // SAFETY: within a native call memory is not limited, so this does not raise.
            && unsafe { ffi::lua_checkstack(self.raw, count.saturating_add(16)) != 0 }
    }

    fn make_room(&mut self) {
        // SAFETY: as for `reserve`.
        let has_room = unsafe { ffi::lua_checkstack(self.raw, 2) != 0 };
        assert!(has_room, "a native function pushes without having reserved");
    }

    /// Removes what is above `top` values, or fills up with nil.
    pub(super) fn set_top(&mut self, top: c_int) {
        assert!(top >= 0);
        let missing = top - self.top();
        if missing > 0 {
            assert!(self.reserve(missing), "a native function fills up without having reserved");
        }
        // SAFETY: there is room.
        unsafe { ffi::lua_settop(self.raw, top) }
    }

    /// Removes the topmost `count` values.
    pub(super) fn pop(&mut self, count: c_int) {
        let top = self.top();
        assert!(count <= top);
        self.set_top(top - count);
    }

    /// Moves the topmost value to `index`, others up.
    pub(super) fn insert(&mut self, index: c_int) {
        assert!(index > 0);
        // SAFETY: the index is on the stack.
        unsafe { ffi::lua_insert(self.raw, self.valid(index)) }
    }

    /// Puts the topmost value in the place of the one at `index`, and removes it from the top.
    pub(super) fn replace(&mut self, index: c_int) {
        assert!(index > 0);
        // SAFETY: the index is on the stack.
        unsafe { ffi::lua_replace(self.raw, self.valid(index)) }
    }

    /// Removes the value at `index`.
    pub(super) fn remove(&mut self, index: c_int) {
        assert!(index.abs() <= self.top());
        // SAFETY: the index is on the stack.
        unsafe { ffi::lua_remove(self.raw, self.valid(index)) }
    }

    /// What stands at `index`.
    pub(super) fn kind(&self, index: c_int) -> Kind {
        // SAFETY: `lua_type` takes any acceptable index; those above the top are "none".
        match unsafe { ffi::lua_type(self.raw, index) } {
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Kind::LightUserdata,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            ffi::LUA_TUSERDATA => Kind::Userdata,
            ffi::LUA_TTHREAD => Kind::Thread,
            _ => Kind::None,
        }
    }

    /// The bytes of a string; nothing for other values, numbers included.
    pub(super) fn string(&self, index: c_int) -> Option<&[u8]> {
        if self.kind(index) != Kind::String {
            return None;
        }
        let mut len = 0;
        // SAFETY: it is a string, which lives at least as long as it is on the stack, and that does
        // not change while `self` is borrowed.
        unsafe {
            let bytes = ffi::lua_tolstring(self.raw, index, &mut len);
            Some(slice::from_raw_parts(bytes.cast(), len))
        }
    }

    /// The bytes of a string, or of a number as Lua writes it, which becomes a string by it.
    pub(super) fn text(&mut self, index: c_int) -> Option<&[u8]> {
        if self.kind(index) == Kind::Number {
            // SAFETY: memory is not limited within a native call.
            unsafe { ffi::lua_tolstring(self.raw, index, ptr::null_mut()) };
        }
        self.string(index)
    }

    /// A number, or a string that Lua takes for one.
    pub(super) fn number(&self, index: c_int) -> Option<f64> {
        // SAFETY: both only read.
        unsafe {
            (ffi::lua_isnumber(self.raw, index) != 0).then(|| ffi::lua_tonumber(self.raw, index))
        }
    }

    /// A number that is converted to an integer as C does it.
    pub(super) fn integer(&self, index: c_int) -> Option<i64> {
        self.number(index).map(truncated)
    }

    /// Whether the value counts as true.
    pub(super) fn boolean(&self, index: c_int) -> bool {
        // SAFETY: it only reads.
        unsafe { ffi::lua_toboolean(self.raw, index) != 0 }
    }

    /// Whether this is the null of JSON: a light userdata of address 0.
    pub(super) fn is_null(&self, index: c_int) -> bool {
        self.kind(index) == Kind::LightUserdata
            // SAFETY: it only reads.
            && unsafe { ffi::lua_touserdata(self.raw, index).is_null() }
    }

    pub(super) fn push_nil(&mut self) {
        self.make_room();
        // SAFETY: there is room, as below.
        unsafe { ffi::lua_pushnil(self.raw) }
    }

    pub(super) fn push_boolean(&mut self, value: bool) {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushboolean(self.raw, c_int::from(value)) }
    }

    pub(super) fn push_number(&mut self, value: f64) {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushnumber(self.raw, value) }
    }

    #[expect(clippy::cast_precision_loss, reason = "Lua has no other numbers")]
    pub(super) fn push_integer(&mut self, value: i64) {
        self.push_number(value as f64);
    }

    pub(super) fn push_string(&mut self, value: &[u8]) {
        self.make_room();
        // SAFETY: there is room, and memory is not limited within a native call.
        unsafe { ffi::lua_pushlstring_(self.raw, value.as_ptr().cast(), value.len()) }
    }

    /// The null of JSON.
    pub(super) fn push_null(&mut self) {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushlightuserdata(self.raw, ptr::null_mut()) }
    }

    /// A copy of the value at `index`.
    pub(super) fn push_copy(&mut self, index: c_int) {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushvalue(self.raw, self.valid(index)) }
    }

    /// An empty table with room for so many elements of its list and its map.
    pub(super) fn push_table(&mut self, list: usize, map: usize) {
        self.make_room();
        // A hint only: what is larger grows as it is filled.
        let hint = |count: usize| c_int::try_from(count.min(1 << 20)).unwrap_or(0);
        // SAFETY: there is room, and memory is not limited within a native call.
        unsafe { ffi::lua_createtable(self.raw, hint(list), hint(map)) }
    }

    /// A native function.
    pub(super) fn push_native(&mut self, native: Native) {
        self.push_closure(native, 0);
    }

    /// A native function with the topmost `upvalues` values, which it finds by [`upvalue`].
    pub(super) fn push_closure(&mut self, native: Native, upvalues: c_int) {
        assert!(upvalues <= self.top());
        self.make_room();
        // SAFETY: there is room. The first upvalue is the function that `enter` calls.
        unsafe {
            ffi::lua_pushlightuserdata(self.raw, native as *mut c_void);
            ffi::lua_insert(self.raw, -1 - upvalues);
            ffi::lua_pushcclosure(self.raw, enter, 1 + upvalues);
        }
    }

    fn assert_table(&self, index: c_int) -> c_int {
        assert!(self.kind(index) == Kind::Table, "{:?} instead of a table", self.kind(index));
        index
    }

    /// Replaces the key on top by its value in the table at `table`.
    pub(super) fn raw_get(&mut self, table: c_int) {
        // SAFETY: it is a table, and raw access calls nothing.
        unsafe { ffi::lua_rawget_(self.raw, self.assert_table(table)) }
    }

    /// Pushes element `index` of the list at `table`.
    pub(super) fn raw_get_index(&mut self, table: c_int, index: c_int) {
        self.make_room();
        // SAFETY: as above.
        unsafe { ffi::lua_rawgeti_(self.raw, self.assert_table(table), index) }
    }

    /// Pushes the value of `name` in the table at `table`.
    pub(super) fn raw_get_field(&mut self, table: c_int, name: &[u8]) {
        self.push_string(name);
        let table = if table < 0 && table > ffi::LUA_REGISTRYINDEX { table - 1 } else { table };
        self.raw_get(table);
    }

    /// `table[key] = value`, with the value on top and the key below; both are removed.
    ///
    /// Answers false, with both removed, for a key that no table takes: nil or NaN.
    pub(super) fn raw_set(&mut self, table: c_int) -> bool {
        self.assert_table(table);
        let is_nan = self.kind(-2) == Kind::Number && self.number(-2).is_some_and(f64::is_nan);
        if is_nan || self.kind(-2) == Kind::Nil {
            self.pop(2);
            return false;
        }
        // SAFETY: it is a table, and the key is one that does not raise.
        unsafe { ffi::lua_rawset(self.raw, table) };
        true
    }

    /// Makes the value on top element `index` of the list at `table`, and removes it.
    pub(super) fn raw_set_index(&mut self, table: c_int, index: c_int) {
        // SAFETY: as above.
        unsafe { ffi::lua_rawseti_(self.raw, self.assert_table(table), index) }
    }

    /// Makes the value on top that of `name` in the table at `table`, and removes it.
    pub(super) fn raw_set_field(&mut self, table: c_int, name: &[u8]) {
        let table = if table < 0 && table > ffi::LUA_REGISTRYINDEX { table - 1 } else { table };
        self.push_string(name);
        self.insert_below_top();
        self.raw_set(table);
    }

    fn insert_below_top(&mut self) {
        assert!(self.top() >= 2);
        // SAFETY: there are two values.
        unsafe { ffi::lua_insert(self.raw, -2) }
    }

    /// Replaces the key on top by the next key of the table at `table` and its value; without one,
    /// removes it and answers false. The first key is behind nil. The table must not be changed in
    /// between but for values of keys that exist.
    pub(super) fn next(&mut self, table: c_int) -> bool {
        self.make_room();
        // SAFETY: it is a table; the key came from it, as callers within this engine see to.
        unsafe { ffi::lua_next(self.raw, self.assert_table(table)) != 0 }
    }

    /// Pushes the metatable of the value at `index`, if it has one.
    pub(super) fn push_metatable(&mut self, index: c_int) -> bool {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_getmetatable(self.raw, self.valid(index)) != 0 }
    }

    /// Makes the table on top the metatable of the value at `index`, and removes it.
    pub(super) fn set_metatable(&mut self, index: c_int) {
        self.assert_table(-1);
        // SAFETY: there is a table on top.
        unsafe { ffi::lua_setmetatable(self.raw, self.valid(index)) };
    }

    /// Pushes a value that was kept under `name`.
    pub(super) fn push_kept(&mut self, name: &[u8]) {
        self.raw_get_field(ffi::LUA_REGISTRYINDEX, name);
    }

    /// Keeps the value on top under `name` where scripts cannot reach it, and removes it.
    pub(super) fn keep(&mut self, name: &[u8]) {
        self.raw_set_field(ffi::LUA_REGISTRYINDEX, name);
    }

    /// Makes the table on top the table of global variables, and removes it.
    pub(super) fn set_globals(&mut self) {
        self.assert_table(-1);
        // SAFETY: there is a table on top.
        unsafe { ffi::lua_replace(self.raw, ffi::LUA_GLOBALSINDEX) }
    }

    /// Makes the table on top the global variables of the function below, and removes it.
    pub(super) fn set_function_globals(&mut self) {
        self.assert_table(-1);
        assert!(self.kind(-2) == Kind::Function);
        // SAFETY: there are a table and a function on top.
        unsafe { ffi::lua_setfenv(self.raw, -2) };
    }

    /// Pushes the table of global variables.
    pub(super) fn push_globals(&mut self) {
        self.push_copy(ffi::LUA_GLOBALSINDEX);
    }

    /// Compiles `code`, which must be text: pushes the function or the message of the error.
    pub(super) fn load(&mut self, code: &[u8], name: &CStr) -> Result<(), Failed> {
        self.make_room();
        if code.first() == ffi::LUA_SIGNATURE.first() {
            self.push_string(b"bad binary format (truncated precompiled chunk)");
            return Err(Failed);
        }
        // SAFETY: it is protected: errors become a status with the message on the stack.
        let status = unsafe {
            ffi::luaL_loadbuffer(self.raw, code.as_ptr().cast(), code.len(), name.as_ptr())
        };
        if status == ffi::LUA_OK { Ok(()) } else { Err(Failed) }
    }

    /// Calls the function below the topmost `arguments` values with these. `handler` is the index
    /// of a function that errors pass through, or 0.
    pub(super) fn call(
        &mut self,
        arguments: c_int,
        results: c_int,
        handler: c_int,
    ) -> Result<(), Failed> {
        assert!(self.top() > arguments);
        let limits = self.home_mut().leave();
        // SAFETY: errors end in this call. Memory is limited within it, since it runs Lua.
        let status = unsafe { ffi::lua_pcall(self.raw, arguments, results, handler) };
        self.home_mut().come_back(limits);
        if status == ffi::LUA_OK { Ok(()) } else { Err(Failed) }
    }

    /// Where the function at `level` stands: its source and current line. Level 0 is the running
    /// function, 1 what called it. Nothing beyond the outermost.
    pub(super) fn position(&mut self, level: c_int) -> Option<Position> {
        // SAFETY: the record is filled by Lua before it is read; its strings are copied at once.
        unsafe {
            let mut record: ffi::lua_Debug = mem::zeroed();
            if ffi::lua_getstack(self.raw, level, &mut record) == 0
                || ffi::lua_getinfo(self.raw, c"Sl".as_ptr(), &mut record) == 0
            {
                return None;
            }
            Some(Position {
                is_native: CStr::from_ptr(record.what) == c"C",
                source: CStr::from_ptr(record.source).to_bytes().to_vec(),
                line: record.currentline,
            })
        }
    }

    /// Fails with a string, which gets the caller's position in front.
    pub(super) fn fail<T>(&mut self, message: &str) -> Result<T, Raised> {
        self.push_string(message.as_bytes());
        Err(Raised::Message)
    }

    /// Fails because of an argument.
    pub(super) fn fail_argument<T>(&mut self, at: c_int, message: &str) -> Result<T, Raised> {
        self.push_string(message.as_bytes());
        Err(Raised::Argument(at))
    }

    /// The bytes of a string or number among the arguments.
    pub(super) fn check_text(&mut self, at: c_int) -> Result<Vec<u8>, Raised> {
        self.text(at).map(<[u8]>::to_vec).ok_or(Raised::Type(at, c"string"))
    }

    /// A number among the arguments.
    pub(super) fn check_number(&mut self, at: c_int) -> Result<f64, Raised> {
        self.number(at).ok_or(Raised::Type(at, c"number"))
    }

    /// An integer among the arguments.
    pub(super) fn check_integer(&mut self, at: c_int) -> Result<i64, Raised> {
        self.check_number(at).map(truncated)
    }

    /// An integer among the arguments, or `default` where there is none.
    pub(super) fn integer_or(&mut self, at: c_int, default: i64) -> Result<i64, Raised> {
        match self.kind(at) {
            Kind::None | Kind::Nil => Ok(default),
            _ => self.check_integer(at),
        }
    }

    /// Lets `work` use the stack and what the running script works with; nothing if no script runs,
    /// or if it is in use already.
    pub(super) fn with_run<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut super::run::Run<'_>) -> T,
    ) -> Option<T> {
        let run = self.home_mut().run.take()?;
        // SAFETY: `Machine::during` has put it there from a mutable reference that is borrowed until
        // it takes it out again; and while it is used here it is not in its place.
        let done = work(self, unsafe { &mut *run.as_ptr() });
        self.home_mut().run = Some(run);
        Some(done)
    }

    fn home(&self) -> &Home {
        // SAFETY: the state's machine has made its allocator's data a `Home` that outlives it.
        unsafe { &*home_of(self.raw) }
    }

    fn home_mut(&mut self) -> &mut Home {
        // SAFETY: as above; the reference ends before anything else runs.
        unsafe { &mut *home_of(self.raw) }
    }
}

/// Where a function stands in its source.
pub(super) struct Position {
    /// It is not a function of Lua.
    pub(super) is_native: bool,
    /// `@` and the chunk's name.
    pub(super) source: Vec<u8>,
    /// From 1; -1 if unknown.
    pub(super) line: c_int,
}

/// The pseudo-index of upvalue `number`, from 1, of a closure made by [`Stack::push_closure`].
pub(super) const fn upvalue(number: c_int) -> c_int {
    ffi::lua_upvalueindex(number + 1)
}

/// A double as C converts it to a 64-bit integer on x86-64: what is out of range, NaN too, becomes
/// the smallest integer.
#[expect(clippy::cast_possible_truncation, reason = "that is its purpose")]
pub(super) fn truncated(number: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&number) { number as i64 } else { i64::MIN }
}

/// The home of a state.
///
/// # Safety
///
/// `raw` is a state of a [`machine::Machine`].
unsafe fn home_of(raw: *mut lua_State) -> *mut Home {
    let mut home = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe { ffi::lua_getallocf(raw, &mut home) };
    home.cast()
}

/// What Lua calls for every native function. It owns nothing when it raises.
unsafe extern "C-unwind" fn enter(raw: *mut lua_State) -> c_int {
    // SAFETY: Lua calls it with a state of a machine; the first upvalue is a `Native`, since only
    // `push_closure` makes closures of this function, and scripts cannot reach upvalues.
    unsafe {
        match run_native(raw) {
            Ok(count) => count,
            Err(raised) => raise(raw, raised),
        }
    }
}

/// Runs the native function; when it returns, everything of Rust has been dropped.
#[inline(never)]
unsafe fn run_native(raw: *mut lua_State) -> Returns {
    // SAFETY: see `enter`.
    unsafe {
        let native = ffi::lua_touserdata(raw, ffi::lua_upvalueindex(1));
        let native = mem::transmute::<*mut c_void, Native>(native);
        let home = home_of(raw);
        let limits = (*home).arrive();
        let returns = native(&mut Stack::new(raw));
        (*home).depart(limits);
        returns
    }
}

/// Raises an error. Nothing that must be dropped may be alive in the frames up to `enter`.
unsafe fn raise(raw: *mut lua_State, raised: Raised) -> c_int {
    // SAFETY: the value that each case speaks of is on top of the stack, by the contract of
    // `Raised`; no frame of Rust with anything to drop lies below.
    unsafe {
        match raised {
            Raised::Value => ffi::lua_error(raw),
            Raised::Message => {
                ffi::luaL_where(raw, 1);
                ffi::lua_insert(raw, -2);
                ffi::lua_concat(raw, 2);
                ffi::lua_error(raw)
            }
            Raised::Argument(at) => ffi::luaL_argerror(raw, at, ffi::lua_tostring(raw, -1)),
            Raised::Type(at, name) => ffi::luaL_typerror(raw, at, name.as_ptr()),
        }
    }
}
