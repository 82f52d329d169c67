//! Workers with their executors: background tasks, parking, wakes, and how a process ends.

use std::{
    cell::Cell,
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Output},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    background,
    executor::{self, WorkerContext, Workers},
    pace::Pacer,
};
use crate::net::{
    BindAddress, Board, CloseMode, Counters, ListenConfig, NetEvent, Network, NetworkConfig,
    listener::{self, ListenAddress},
};

/// What the background of a worker does besides, given the worker's stop flag.
type Chore = fn(&WorkerContext, &Arc<AtomicBool>);

/// Workers that echo every byte.
struct Echo {
    address: SocketAddr,
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    workers: Workers<Counters>,
}

impl Echo {
    fn start(workers: usize, chore: Chore) -> Echo {
        let config = ListenConfig {
            bind: vec![BindAddress::parse("127.0.0.1")],
            port: Some(0),
            ..ListenConfig::default()
        };
        let lists = listener::open(&config, workers).expect("a free port");
        let ListenAddress::Tcp(address) = lists[0][0].address.clone() else { unreachable!() };
        let lists = Mutex::new(lists.into_iter().map(Some).collect::<Vec<_>>());
        let board = Board::with_workers(workers, 10_000).expect("bells");
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (Arc::clone(&board), Arc::clone(&stop));
        let workers = executor::start(workers, move |context| {
            let listeners = lists.lock().unwrap()[context.index].take().expect("one list each");
            let config = NetworkConfig { worker: context.index, ..NetworkConfig::default() };
            let network = Network::new(config, Arc::clone(&shared), listeners).expect("a ring");
            chore(&context, &stopping);
            echo(network, Pacer::new(&context), Arc::clone(&stopping))
        })
        .expect("workers start here");
        Echo { address, board, stop, workers }
    }

    fn ask(&self, count: usize) {
        let mut client = TcpStream::connect(self.address).expect("it listens");
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for _ in 0..count {
            client.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello");
        }
    }

    fn stop(self) -> Vec<Counters> {
        self.stop.store(true, Ordering::SeqCst);
        (0..self.board.workers()).for_each(|worker| self.board.bell(worker).ring());
        self.workers.join()
    }
}

async fn echo(mut network: Network<()>, mut pacer: Pacer, stop: Arc<AtomicBool>) -> Counters {
    while !stop.load(Ordering::SeqCst) {
        let mail = || stop.load(Ordering::SeqCst);
        pacer.turn(&mut network, &mail, None).await.expect("the ring works");
        while let Some(event) = network.take_event() {
            match event {
                NetEvent::Readable(id) => {
                    let connection = network.connection(id).expect("it is open");
                    connection.output.extend(connection.input.bytes());
                    connection.input.consume(connection.input.len());
                    network.mark_dirty(id);
                }
                NetEvent::Ended(id) => network.close(id, CloseMode::AfterReply),
                NetEvent::Opened(_) | NetEvent::Closed(..) => {}
            }
        }
        network.finish_turn();
    }
    network.counters()
}

#[test]
fn workers_serve_sleep_and_are_woken_by_sockets_and_bells() {
    let echo = Echo::start(2, |_, _| {});
    for _ in 0..4 {
        echo.ask(20);
        thread::sleep(Duration::from_millis(5));
    }
    let counters = echo.stop();
    assert_eq!(counters.iter().map(|counters| counters.received).sum::<u64>(), 400);
}

static SLICES: AtomicUsize = AtomicUsize::new(0);

#[test]
fn background_tasks_and_requests_go_on_beside_each_other() {
    let echo = Echo::start(1, |context, stop| {
        let stop = Arc::clone(stop);
        context.background.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                SLICES.fetch_add(1, Ordering::SeqCst);
                background::yield_now().await;
            }
        });
    });
    echo.ask(300);
    let before = SLICES.load(Ordering::SeqCst);
    assert!(before > 0, "the background has had no turn");
    while SLICES.load(Ordering::SeqCst) == before {
        thread::yield_now();
    }
    echo.stop();
}

static NAPS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_worker_parked_for_a_sleeping_task_serves_and_is_woken_by_both() {
    let echo = Echo::start(1, |context, stop| {
        let stop = Arc::clone(stop);
        context.background.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                background::sleep(Duration::from_millis(20)).await;
                NAPS.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    // Without traffic the timer of the executor must end the sleep.
    while NAPS.load(Ordering::SeqCst) < 3 {
        thread::sleep(Duration::from_millis(1));
    }
    // The sockets must end it too, and the timer must fire while they are busy.
    for _ in 0..20 {
        echo.ask(10);
        thread::sleep(Duration::from_millis(3));
    }
    let naps = NAPS.load(Ordering::SeqCst);
    while NAPS.load(Ordering::SeqCst) == naps {
        echo.ask(10);
    }
    echo.stop();
}

/// The background task of a worker that is to stay parked has ended.
static LONG_NAP_IS_OVER: AtomicBool = AtomicBool::new(false);

#[test]
fn a_parked_worker_is_woken_by_its_bell_each_time() {
    let board = Board::with_workers(1, 10).expect("a bell");
    let (letters, (done, answers)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel());
    const LETTERS: usize = 20;
    let (of_worker, mailbox) = (Arc::clone(&board), Arc::clone(&letters));
    let workers = executor::start(1, move |context| {
        let (board, letters, done) = (Arc::clone(&of_worker), Arc::clone(&mailbox), done.clone());
        async move {
            let mut network =
                Network::<()>::new(NetworkConfig::default(), board, Vec::new()).expect("a ring");
            context.background.spawn(async {
                background::sleep(Duration::from_secs(30)).await;
                LONG_NAP_IS_OVER.store(true, Ordering::SeqCst);
            });
            let mut pacer = Pacer::new(&context);
            // A bell that is not heard must not hang the test.
            let deadline = Some(Instant::now() + Duration::from_secs(60));
            for read in 0..LETTERS {
                let mail = || letters.load(Ordering::SeqCst) > read;
                while !mail() {
                    pacer.turn(&mut network, &mail, deadline).await.expect("it works");
                    while network.take_event().is_some() {}
                    network.finish_turn();
                }
                done.send(read).unwrap();
            }
        }
    })
    .expect("a worker");
    for letter in 0..LETTERS {
        // So that it has parked again, mostly.
        thread::sleep(Duration::from_millis(5));
        letters.fetch_add(1, Ordering::SeqCst);
        board.bell(0).ring_if_asleep();
        assert_eq!(answers.recv(), Ok(letter));
        assert!(!LONG_NAP_IS_OVER.load(Ordering::SeqCst), "the bell has not woken it");
    }
    workers.join();
}

#[test]
fn a_deadline_ends_the_wait() {
    let (done, waited) = mpsc::channel();
    let workers = executor::start(1, move |context| {
        let done = done.clone();
        async move {
            let board = Board::with_workers(1, 10).expect("a bell");
            let mut network =
                Network::<()>::new(NetworkConfig::default(), board, Vec::new()).expect("a ring");
            let mut pacer = Pacer::new(&context);
            let finished = Rc::new(Cell::new(false));
            for with_task in [false, true] {
                if with_task {
                    let finished = Rc::clone(&finished);
                    context.background.spawn(async move {
                        background::sleep(Duration::from_millis(200)).await;
                        finished.set(true);
                    });
                }
                let deadline = Instant::now() + Duration::from_millis(10);
                while Instant::now() < deadline {
                    pacer.turn(&mut network, &|| false, Some(deadline)).await.expect("it works");
                    network.finish_turn();
                }
            }
            done.send(finished.get()).unwrap();
        }
    })
    .expect("a worker");
    assert_eq!(waited.recv(), Ok(false));
    workers.join();
}

/// Runs one test of this program again in a process of its own, where `CHILD` is set.
fn child(name: &str, shell_before: &str) -> Output {
    let program = env::current_exe().expect("a path");
    let line = format!("{shell_before} exec \"$0\" --exact {name} --nocapture --test-threads 1");
    Command::new("sh").args(["-c", &line]).arg(program).env("CHILD", "1").output().expect("a shell")
}

#[test]
fn a_worker_that_panics_ends_the_process() {
    if env::var_os("CHILD").is_some() {
        let workers = executor::start(2, |context| async move {
            assert!(context.index == 0, "worker 1 is broken");
            std::future::pending::<()>().await;
        });
        workers.expect("they start").join();
        return;
    }
    let output = child("runtime::tests::a_worker_that_panics_ends_the_process", "");
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("worker 1 is broken"), "{output:?}");
}

#[test]
fn too_little_lockable_memory_is_said_with_its_cure() {
    if env::var_os("CHILD").is_some() {
        let started = executor::start(1, |_| async {});
        panic!("{}", started.expect_err("the limit is too low"));
    }
    let name = "runtime::tests::too_little_lockable_memory_is_said_with_its_cure";
    let output = child(name, "ulimit -l 64;");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("LimitMEMLOCK") && text.contains("64 KiB"), "{output:?}");
}

#[test]
fn a_server_out_of_descriptors_rests_and_recovers() {
    if env::var_os("CHILD").is_some() {
        let echo = Echo::start(1, |_, _| {});
        echo.ask(1);
        // Connections take descriptors on both sides, so one side runs out while the other waits.
        let mut clients = Vec::new();
        while let Ok(client) = TcpStream::connect(echo.address) {
            clients.push(client);
        }
        thread::sleep(Duration::from_millis(250));
        drop(clients);
        thread::sleep(Duration::from_millis(250));
        echo.ask(1);
        let counters = echo.stop()[0];
        assert!((1..20).contains(&counters.accept_rests), "{counters:?}");
        return;
    }
    let name = "runtime::tests::a_server_out_of_descriptors_rests_and_recovers";
    let output = child(name, "ulimit -n 64;");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}
