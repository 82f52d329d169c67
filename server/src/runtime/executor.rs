//! The worker threads, each with a glommio executor.
//!
//! What: starts as many threads as there are shards, pins each to a CPU of its own if there are
//! enough, runs one future on each, and waits for them. Background tasks of a worker run beside
//! its future, on the same thread, with few shares.
//!
//! Why the whole process ends when one worker panics: its part of the keyspace would be gone while
//! the rest goes on answering, and other workers would wait for it for ever.

#![forbid(unsafe_code)]

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    process,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use core_affinity::CoreId;
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use nix::sys::resource::{Resource, getrlimit};
use rustix::thread::{MembarrierCommand, membarrier};

use super::{RuntimeError, background::Background, ring::Ring};

/// Entries of each of the executor's own rings; sockets and the log do not use them.
const EXECUTOR_RING_DEPTH: usize = 64;
/// Memory that each executor registers with the kernel three times over: the least that glommio
/// takes, so that a memlock limit of 8 MiB is enough for ten workers.
const EXECUTOR_IO_MEMORY: usize = 64 * 1024;
/// The least limit of lockable memory in bytes with which an executor starts.
const MEMLOCK_MIN: u64 = 512 * 1024;
/// Bytes of a worker thread's stack.
const STACK_SIZE: usize = 4 << 20;

/// What a worker knows of itself when it starts.
#[derive(Debug)]
pub struct WorkerContext {
    /// From 0 to `workers - 1`.
    pub index: usize,
    /// How many workers there are.
    pub workers: usize,
    /// The CPU that this worker has for itself, unless it shares all with the others.
    pub cpu: Option<usize>,
    /// Runs tasks beside this worker.
    pub background: Background,
}

/// The running workers.
#[derive(Debug)]
pub struct Workers<T> {
    threads: Vec<JoinHandle<Option<T>>>,
}

impl<T> Workers<T> {
    /// Waits until all workers have ended, and returns what they returned, in their order.
    pub fn join(self) -> Vec<T> {
        // A panic has ended the process, so that every thread that can be joined has returned.
        self.threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    }
}

/// Starts `count` workers, each of which runs the future that `run` makes for it on its own thread.
/// Either all start or none does.
pub fn start<F, Fut, T>(count: usize, run: F) -> Result<Workers<T>, RuntimeError>
where
    F: Fn(WorkerContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    check_memlock()?;
    Ring::probe()?;
    register_barrier();
    let cpus = cpus_for(count);
    let run = Arc::new(run);
    let mut threads = Vec::with_capacity(count);
    let mut gates = Vec::with_capacity(count);
    for index in 0..count {
        let (ready, is_ready) = mpsc::channel();
        let (gate, open) = mpsc::channel::<()>();
        let seat = Seat { index, workers: count, cpu: cpus.get(index).copied() };
        let run = Arc::clone(&run);
        let body = move || end_process_on_panic(index, || seat.serve(&*run, &ready, &open));
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .stack_size(STACK_SIZE)
            .spawn(body)
            .map_err(|source| RuntimeError::Thread { worker: index, source })?;
        // A thread that ended without a word has ended the process with it.
        is_ready.recv().unwrap_or(Ok(()))?;
        threads.push(thread);
        gates.push(gate);
    }
    // A closed gate sends the others home; with all of them ready, all are opened.
    for gate in gates {
        let _ = gate.send(());
    }
    Ok(Workers { threads })
}

/// Announces the barrier with which an executor goes to sleep. The first one that does so waits for
/// tens of milliseconds in a process of several threads; later ones do not. A kernel that has no such
/// barrier makes the executor take another one.
fn register_barrier() {
    let _ = membarrier(MembarrierCommand::RegisterPrivateExpedited);
}

/// The place of one worker.
struct Seat {
    index: usize,
    workers: usize,
    cpu: Option<CoreId>,
}

impl Seat {
    /// Makes the executor, reports that, waits for the others, and runs the worker.
    fn serve<F, Fut, T>(
        self,
        run: &F,
        ready: &mpsc::Sender<Result<(), RuntimeError>>,
        open: &mpsc::Receiver<()>,
    ) -> Option<T>
    where
        F: Fn(WorkerContext) -> Fut,
        Fut: Future<Output = T> + 'static,
        T: 'static,
    {
        let cpu = self.cpu.filter(|&cpu| core_affinity::set_for_current(cpu));
        let executor = match make_executor(self.index) {
            Ok(executor) => executor,
            Err(error) => {
                let _ = ready.send(Err(error));
                return None;
            }
        };
        let _ = ready.send(Ok(()));
        open.recv().ok()?;
        let returned = executor.run(async {
            run(WorkerContext {
                index: self.index,
                workers: self.workers,
                cpu: cpu.map(|cpu| cpu.id),
                background: Background::new(),
            })
            .await
        });
        Some(returned)
    }
}

/// A CPU for each worker, or none at all if there are not enough: then the kernel places them.
fn cpus_for(count: usize) -> Vec<CoreId> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if count <= cpus.len() { cpus } else { Vec::new() }
}

/// glommio refuses to start below this limit, in words that do not help an operator.
fn check_memlock() -> Result<(), RuntimeError> {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) if limit < MEMLOCK_MIN => {
            let text = format!("the limit is {} KiB", limit / 1024);
            return Err(RuntimeError::LockedMemory(io::Error::other(text)));
        }
        _ => {}
    }
    Ok(())
}

fn make_executor(worker: usize) -> Result<LocalExecutor, RuntimeError> {
    // The thread is pinned already, which needs no topology of /sys as glommio's placements do.
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("tessera")
        .ring_depth(EXECUTOR_RING_DEPTH)
        .io_memory(EXECUTOR_IO_MEMORY)
        .make()
        .map_err(|error| classed(worker, error))
}

fn classed(worker: usize, error: GlommioError<()>) -> RuntimeError {
    match error {
        GlommioError::IoError(error) => RuntimeError::from_setup(error),
        error => RuntimeError::Executor { worker, reason: error.to_string() },
    }
}

fn end_process_on_panic<T>(worker: usize, body: impl FnOnce() -> T) -> T {
    // Nothing of the worker is used after a panic: the process ends.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(returned) => returned,
        Err(_) => {
            tracing::error!("worker {worker} has panicked; the server ends, as its data is gone");
            process::abort();
        }
    }
}
