//! Scripts on a single shard: replies, errors, the sandbox, limits.
#![forbid(unsafe_code)]

mod round_trips;

use tessera_proto::ReplyBuffer;

use super::*;
use crate::shard::{Call, Settings, Shard};

/// A shard that runs scripts.
struct Host {
    shard: Shard,
    verdicts: Vec<Verdict>,
    log: Vec<(LogLevel, String)>,
}

impl ScriptHost for Host {
    fn execute(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Result<(), NeedsShards> {
        if call.args.iter().any(|argument| argument == b"elsewhere") {
            return Err(NeedsShards);
        }
        let _ = self.shard.execute(call, out);
        Ok(())
    }

    fn verdict(&mut self, _: bool) -> Verdict {
        self.verdicts.pop().unwrap_or(Verdict::GoOn)
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        self.log.push((level, String::from_utf8_lossy(text).into_owned()));
    }
}

struct Bench {
    engine: ScriptEngine,
    host: Host,
    out: ReplyBuffer,
}

impl Bench {
    fn new() -> Self {
        let shard = Shard::new(7, Settings::default());
        let host = Host { shard, verdicts: Vec::new(), log: Vec::new() };
        Self { engine: ScriptEngine::new(1), host, out: ReplyBuffer::default() }
    }

    fn progress(&mut self, script: &str, keys: &[&[u8]], arguments: &[&[u8]]) -> Progress {
        let (flags, start) = read_shebang(script.as_bytes()).expect("a good shebang");
        let sha = sha1_hex(script.as_bytes());
        self.out.clear();
        if let Err(text) = self.engine.compile(sha, &script.as_bytes()[start..]) {
            self.out.extend(format!("-ERR {text}\r\n").as_bytes());
            return Progress::Done(Ended::Failed);
        }
        let invocation = Invocation {
            keys,
            arguments,
            database: 0,
            protocol: tessera_proto::Protocol::Resp2,
            no_touch: false,
            caller: crate::shard::Caller::default(),
            is_read_only: false,
        };
        self.engine.eval((sha, flags), &invocation, &mut self.host, &mut self.out)
    }

    /// The raw reply of a script, its SHA1 written as `SHA`.
    fn eval(&mut self, script: &str) -> String {
        let progress = self.progress(script, &[], &[]);
        assert!(matches!(progress, Progress::Done(_)), "{progress:?}");
        self.reply().replace(sha1_hex(script.as_bytes()).as_str(), "SHA")
    }

    fn reply(&self) -> String {
        String::from_utf8_lossy(&self.out.to_vec()).into_owned()
    }

    fn expect(&mut self, exchanges: &[(&str, &str)]) {
        for (script, reply) in exchanges {
            assert_eq!(self.eval(script), *reply, "reply to {script}");
        }
    }
}

#[test]
fn values_become_replies() {
    Bench::new().expect(&[
        ("return 1", ":1\r\n"),
        ("return 3.99", ":3\r\n"),
        ("return 'x'", "$1\r\nx\r\n"),
        ("return true", ":1\r\n"),
        ("return false", "$-1\r\n"),
        ("return nil", "$-1\r\n"),
        ("return {1,'a',{2},nil,3}", "*3\r\n:1\r\n$1\r\na\r\n*1\r\n:2\r\n"),
        ("return {ok='fi\\nne'}", "+fi ne\r\n"),
        ("return {err='MY bad'}", "-MY bad\r\n"),
        ("return redis.error_reply('My Err')", "-My Err\r\n"),
        ("return redis.error_reply('x')", "-ERR x\r\n"),
        ("return redis.status_reply('x')", "+x\r\n"),
        ("return redis.status_reply(1)", "-ERR wrong number or type of arguments\r\n"),
        ("return {double=3.5}", "$3\r\n3.5\r\n"),
    ]);
}

#[test]
fn commands_are_called_and_their_errors_raised_or_returned() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("return redis.call('set','k',12.5)", "+OK\r\n"),
        ("return redis.call('get','k')", "$4\r\n12.5\r\n"),
        ("return redis.call('get','none') == false", ":1\r\n"),
        ("return redis.call('rpush','l',1,2,3)", ":3\r\n"),
        ("return redis.call('lrange','l',0,-1)", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"),
        (
            "return redis.call('incr','l')",
            "-WRONGTYPE Operation against a key holding the wrong kind of value script: SHA, on \
             @user_script:1.\r\n",
        ),
        (
            "return redis.pcall('incr','l').err",
            "$65\r\nWRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        ),
        (
            "local ok, e = pcall(redis.call, 'incr','l') return e",
            "$65\r\nWRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        ),
        (
            "\nreturn redis.call('nosuch')",
            "-ERR Unknown command called from script script: SHA, on @user_script:2.\r\n",
        ),
        (
            "return redis.pcall('get')",
            "-ERR Wrong number of args calling command from script\r\n",
        ),
        (
            "redis.call()",
            "-ERR Please specify at least one argument for this call script: SHA, on \
             @user_script:1.\r\n",
        ),
        (
            "redis.call('get', {})",
            "-ERR Command arguments must be strings or integers script: SHA, on \
             @user_script:1.\r\n",
        ),
        ("error('oops')", "-ERR user_script:1: oops script: SHA, on @user_script:1.\r\n"),
        ("error({err='MINE x'})", "-MINE x script: SHA, on @user_script:1.\r\n"),
        ("return (", "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'\r\n"),
    ]);
}

#[test]
fn keys_and_arguments_are_lists() {
    let mut bench = Bench::new();
    let script = "return {KEYS[1], ARGV[1], #KEYS, #ARGV}";
    bench.progress(script, &[b"k"], &[b"a", b"b"]);
    assert_eq!(bench.reply(), "*4\r\n$1\r\nk\r\n$1\r\na\r\n:1\r\n:2\r\n");
}

#[test]
fn the_sandbox_cannot_be_changed() {
    let readonly = "-ERR user_script:1: Attempt to modify a readonly table script: SHA, on \
                    @user_script:1.\r\n";
    let mut bench = Bench::new();
    for script in [
        "x = 1",
        "redis = nil",
        "redis.call = nil",
        "string.rep = nil",
        "getmetatable(_G).__index = {}",
        "getmetatable('').__index = nil",
    ] {
        assert_eq!(bench.eval(script), readonly, "reply to {script}");
    }
    let readonly = "-ERR Attempt to modify a readonly table script: SHA, on @user_script:1.\r\n";
    for script in [
        "rawset(_G, 'x', 1)",
        "rawset(cjson, 'x', 1)",
        "setmetatable(_G, {})",
        "table.insert(bit, 1)",
    ] {
        assert_eq!(bench.eval(script), readonly, "reply to {script}");
    }
    for name in ["x", "print", "dofile", "loadfile", "debug", "io", "newproxy", "require"] {
        let script = format!("return {name}");
        let reply = format!(
            "-ERR user_script:1: Script attempted to access nonexistent global variable '{name}' \
             script: SHA, on @user_script:1.\r\n"
        );
        assert_eq!(bench.eval(&script), reply);
    }
    bench.expect(&[
        ("return {loadstring('return 7')()}", "*1\r\n:7\r\n"),
        ("return loadstring(string.dump(function() end))", "$-1\r\n"),
        ("local n = 0 for k in pairs(redis) do n = n + 1 end return n > 20", ":1\r\n"),
        ("return next(bit) ~= nil", ":1\r\n"),
        ("return rawget(redis, 'call') == redis.call", ":1\r\n"),
        ("return ('x'):rep(3)", "$3\r\nxxx\r\n"),
        ("setfenv(0, {}) return 1", ":1\r\n"),
        ("local n = type(_G) setfenv(1, {}) return n", "$5\r\ntable\r\n"),
        ("local n = type(_G) setfenv(1, {}) return n", "$5\r\ntable\r\n"),
        ("return type(os.clock())", "$6\r\nnumber\r\n"),
        ("return os.time", "$-1\r\n"),
    ]);
}

#[test]
fn what_would_exhaust_the_c_stack_or_memory_is_an_error() {
    let mut bench = Bench::new();
    for (script, text) in [
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        (
            "local function f() return coroutine.wrap(function() local _, e = pcall(f) \
             error(string.sub(e, -16), 0) end)() end return f()",
            "C stack overflow",
        ),
        (
            "local function f() return coroutine.resume(coroutine.create(f)) end \
             local t = {f()} error(t[#t])",
            "C stack overflow",
        ),
        (
            "return string.find(string.rep('a', 90000), string.rep('a?', 90000))",
            "pattern too complex",
        ),
        ("local s = string.rep('x', 2^27) return #(s .. s .. s)", "not enough memory"),
        (
            "local t = {} for i = 1, 3000 do t = {t} end return cjson.encode(t)",
            "excessive nesting (1001)",
        ),
        (
            "cjson.encode_max_depth(100000) local t = {} for i = 1, 9000 do t = {t} end \
             return cjson.encode(t)",
            "excessive nesting",
        ),
        ("return cjson.decode(string.rep('[', 1001))", "too many nested data structures (1001)"),
        ("local t = {} t[1] = t return t", "reached lua stack limit"),
        ("return loadstring(string.rep('(', 1000))()", "attempt to call a nil value"),
    ] {
        let reply = bench.eval(script);
        assert!(reply.contains(text), "{script}: {}", &reply[..reply.len().min(300)]);
    }
    assert_eq!(bench.eval("return 1"), ":1\r\n");
}

#[test]
fn a_long_script_is_suspended_wherever_it_is_and_goes_on() {
    let mut bench = Bench::new();
    for script in [
        "local n = 0 while n < 1000000 do n = n + 1 end return n",
        "local n = 0 pcall(function() while n < 1000000 do n = n + 1 end end) return n",
        "local n = 0 table.sort({2, 1}, function() while n < 1000000 do n = n + 1 end end) return n",
        "local n = 0 string.gsub('x', 'x', function() while n < 1000000 do n = n + 1 end end) \
         return n",
        "local n = 0 coroutine.wrap(function() while n < 1000000 do n = n + 1 end end)() return n",
    ] {
        bench.host.verdicts = vec![Verdict::Wait];
        assert_eq!(bench.progress(script, &[], &[]), Progress::Suspended, "{script}");
        assert!(bench.engine.is_suspended() && bench.out.is_empty());
        bench.host.verdicts = vec![Verdict::GoOn, Verdict::Wait, Verdict::GoOn];
        let Bench { engine, host, out } = &mut bench;
        assert_eq!(engine.resume(host, out), Progress::Suspended);
        let Bench { engine, host, out } = &mut bench;
        assert_eq!(engine.resume(host, out), Progress::Done(Ended::Well));
        assert_eq!(bench.reply(), ":1000000\r\n");
    }
}

#[test]
fn a_killed_script_cannot_go_on() {
    const KILLED: &str = "Script killed by user with SCRIPT KILL.";
    let mut bench = Bench::new();
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() while true do pcall(f) end end f()",
    ] {
        bench.host.verdicts = vec![Verdict::Wait];
        assert_eq!(bench.progress(script, &[], &[]), Progress::Suspended, "{script}");
        bench.host.verdicts = vec![Verdict::Fail(KILLED); 1000];
        let Bench { engine, host, out } = &mut bench;
        assert_eq!(engine.resume(host, out), Progress::Done(Ended::Failed));
        let reply = bench.reply();
        assert!(reply.starts_with(&format!("-ERR {KILLED} script: ")), "{reply}");
    }
    bench.host.verdicts.clear();
    assert_eq!(bench.eval("return 1"), ":1\r\n");
}

#[test]
fn keys_that_are_not_here_end_the_script_whatever_it_does() {
    let mut bench = Bench::new();
    for script in [
        "return redis.call('get', 'elsewhere')",
        "redis.pcall('get', 'elsewhere') return 1",
        "pcall(redis.call, 'get', 'elsewhere') return 1",
        "redis.call('set', 'here', 1) string.gsub('x', 'x', function() \
         redis.pcall('get', 'elsewhere') end) redis.pcall('set', 'here', 2)",
    ] {
        assert_eq!(bench.progress(script, &[], &[]), Progress::NeedsShards, "{script}");
        assert!(bench.out.is_empty());
    }
    assert_eq!(bench.eval("return redis.call('get', 'here')"), "$1\r\n1\r\n");
}

#[test]
fn declared_flags_are_obeyed() {
    let mut bench = Bench::new();
    let script = "#!lua flags=no-writes\nreturn redis.call('set', 'k', 1)";
    assert_eq!(
        bench.eval(script),
        "-ERR Write commands are not allowed from read-only scripts. script: SHA, on \
         @user_script:2.\r\n"
    );
}

#[test]
fn lines_for_the_log_reach_the_host() {
    let mut bench = Bench::new();
    bench.eval("redis.log(redis.LOG_WARNING, 'a', 1, 'b')");
    assert_eq!(bench.host.log, [(LogLevel::Warning, "a 1 b".to_string())]);
}

#[test]
fn random_numbers_are_those_of_redis_for_a_seed() {
    let script = "math.randomseed(10) return {tostring(math.random()), math.random(100), \
                  math.random(5, 9)}";
    let (first, second) = (Bench::new().eval(script), Bench::new().eval(script));
    assert_eq!(first, second);
}

/// Loads a library into a set.
fn load(
    bench: &mut Bench,
    set: &Libraries,
    code: &str,
    replaces: bool,
) -> Result<Libraries, String> {
    let metadata = read_metadata(code.as_bytes())?;
    let library = bench.engine.load(code.as_bytes(), metadata, &mut bench.host)?;
    set.with(library, replaces)
}

fn fcall(bench: &mut Bench, set: &Libraries, name: &str, keys: &[&[u8]]) -> String {
    let invocation = Invocation {
        keys,
        arguments: &[b"arg"],
        database: 0,
        protocol: tessera_proto::Protocol::Resp2,
        no_touch: false,
        caller: crate::shard::Caller::default(),
        is_read_only: false,
    };
    bench.out.clear();
    let function = set.function(name.as_bytes()).expect("a function");
    let Bench { engine, host, out } = bench;
    engine.prepare_library(function.0, host).expect("a good library");
    let progress = engine.call(function, &invocation, host, out);
    assert!(matches!(progress, Progress::Done(_)));
    bench.reply()
}

#[test]
fn libraries_register_functions_that_can_be_called() {
    let mut bench = Bench::new();
    let code = "#!lua name=lib\nlocal n = 0\nredis.register_function('count', function(keys, args) \
                n = n + 1 return {n, keys[1], args[1]} end)\n\
                redis.register_function{function_name='get', callback=function(keys) return \
                redis.call('get', keys[1]) end, flags={'no-writes'}, description='reads'}\n\
                redis.register_function('set', function(keys) return redis.call('set', keys[1], 1) \
                end)\nredis.register_function('bad', function() error('oops') end)";
    let set = load(&mut bench, &Libraries::default(), code, false).expect("a good library");
    assert_eq!(fcall(&mut bench, &set, "count", &[b"k"]), "*3\r\n:1\r\n$1\r\nk\r\n$3\r\narg\r\n");
    assert_eq!(fcall(&mut bench, &set, "count", &[]), "*1\r\n:2\r\n");
    assert_eq!(fcall(&mut bench, &set, "set", &[b"k"]), "+OK\r\n");
    assert_eq!(fcall(&mut bench, &set, "get", &[b"k"]), "$1\r\n1\r\n");
    assert_eq!(
        fcall(&mut bench, &set, "bad", &[]),
        "-ERR user_function:6: oops script: bad, on @user_function:6.\r\n"
    );
    let (_, get) = set.function(b"get").expect("it is there");
    assert!(get.flags.forbids_writes() && get.description.as_deref() == Some(b"reads"));
    let other = "#!lua name=lib\nredis.register_function('count', function() return 'new' end)";
    let set = load(&mut bench, &set, other, true).expect("it is replaced");
    bench.engine.keep_loaded(&set);
    assert_eq!(fcall(&mut bench, &set, "count", &[]), "$3\r\nnew\r\n");
}

#[test]
fn libraries_that_cannot_be_loaded_say_why() {
    let mut bench = Bench::new();
    for (code, error) in [
        ("local x = 1", "No functions registered"),
        ("(", "Error compiling function: user_function:1: unexpected symbol near '<eof>'"),
        (
            "redis.call('get', 'x')",
            "Error registering functions: ERR user_function:1: Script attempted to access \
             nonexistent global variable 'call'",
        ),
        (
            "return math.random()",
            "Error registering functions: ERR user_function:1: Script attempted to access \
             nonexistent global variable 'math'",
        ),
        ("redis.register_function('x')", "calling server.register_function with a single argument"),
        ("redis.register_function('x', 1)", "second argument to server.register_function"),
        ("redis.register_function('a-b', function() end)", "Library names can only contain"),
        ("redis.register_function{callback=function() end}", "must get a function name argument"),
        ("redis.register_function{function_name='f'}", "must get a callback argument"),
        ("redis.register_function{function_name='f', x=1}", "unknown argument given"),
        (
            "redis.register_function{function_name='f', callback=function() end, flags={'x'}}",
            "unknown flag given",
        ),
        ("local t t.x = 1", "Error registering functions: ERR user_function:1: attempt to index"),
        ("x = 1", "Attempt to modify a readonly table"),
    ] {
        let code = format!("#!lua name=lib\n{code}");
        let result = load(&mut bench, &Libraries::default(), &code, false);
        let text = result.map(|_| ()).expect_err("it is refused");
        assert!(text.replace("function:2", "function:1").contains(error), "{code}: {text}");
    }
}
