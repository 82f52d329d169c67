// A job queue with BullMQ: a driver, and workers in processes of their own, one of which is killed in
// the middle of a job. Arguments: the port; for a worker, the word `worker`.
//
// Every job leaves a mark when a worker begins it, so that the driver can count.
const assert = require("node:assert");
const { fork } = require("node:child_process");
const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");
const { Redis } = require("ioredis");

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };
const WORKERS = 3;
const FLAKY_ATTEMPTS = 3;
const TICKS = 5;
// A worker that has not renewed its lock for so long has died.
const LOCK_MS = 10_000;
const PATIENCE_MS = 90_000;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(condition, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `in vain waited for ${what}`);
    await pause(10);
  }
}

function work() {
  const marks = new Redis(connection);
  const kinds = {
    plain: (job) => job.data.n * 2,
    flaky: (job, times) => {
      if (times < FLAKY_ATTEMPTS) throw new Error("try again");
      return times;
    },
    delayed: (job) => Date.now() - job.data.due,
    parent: async (job) => Object.values(await job.getChildrenValues()).sort((a, b) => a - b),
    tick: () => marks.incr("ticks"),
    fatal: async (job, times) => {
      if (times > 1) return process.pid;
      await marks.set("victim", process.pid);
      return new Promise(() => {});
    },
  };
  const run = async (job) => kinds[job.name](job, await marks.hincrby("begun", job.id, 1));
  const options = { connection, concurrency: 8, lockDuration: LOCK_MS, stalledInterval: 1_000 };
  new Worker("work", run, options).on("error", () => {});
}

// What each job answers, once all are done.
const outcomes = (jobs, events) =>
  Promise.all(jobs.map((job) => job.waitUntilFinished(events, PATIENCE_MS)));

async function plainJobs(queue, events) {
  const bulk = Array.from({ length: 200 }, (_, n) => ({ name: "plain", data: { n } }));
  const single = Array.from({ length: 100 }, (_, n) => queue.add("plain", { n: 200 + n }));
  const jobs = [...(await queue.addBulk(bulk)), ...(await Promise.all(single))];
  const doubled = Array.from({ length: 300 }, (_, n) => 2 * n);
  assert.deepEqual(await outcomes(jobs, events), doubled);
  return jobs;
}

async function retriedJobs(queue, events) {
  const options = { attempts: FLAKY_ATTEMPTS, backoff: { type: "fixed", delay: 50 } };
  const jobs = await Promise.all(
    Array.from({ length: 20 }, () => queue.add("flaky", {}, options)),
  );
  assert.deepEqual(new Set(await outcomes(jobs, events)), new Set([FLAKY_ATTEMPTS]));
  const hopeless = await queue.add("flaky", {}, { attempts: FLAKY_ATTEMPTS - 1 });
  await assert.rejects(hopeless.waitUntilFinished(events, PATIENCE_MS), /try again/);
  assert.equal(await hopeless.getState(), "failed");
}

async function delayedJobs(queue, events) {
  const jobs = [];
  for (let n = 0; n < 40; n++) {
    const delay = 50 + 10 * (n % 30);
    jobs.push(await queue.add("delayed", { due: Date.now() + delay }, { delay }));
  }
  const late = await outcomes(jobs, events);
  assert.ok(Math.min(...late) >= 0, `a job was ${-Math.min(...late)} ms early`);
  return jobs;
}

// One worker at a time: what is more urgent comes first, and among equals what came first.
async function urgentJobs() {
  const queue = new Queue("ordered", { connection });
  const wanted = [];
  await queue.pause();
  for (let n = 0; n < 40; n++) {
    const priority = 1 + ((n * 7) % 5);
    wanted.push([priority, n]);
    await queue.add("urgent", { n }, { priority });
  }
  wanted.sort(([p, n], [q, m]) => p - q || n - m);
  const order = [];
  const worker = new Worker("ordered", async (job) => order.push(job.data.n), { connection });
  assert.equal(order.length, 0);
  await queue.resume();
  await until(() => order.length === 40, "all urgent jobs");
  assert.deepEqual(order, wanted.map(([, n]) => n));
  await worker.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

// A parent waits for its children and gets what they have answered.
async function families(events) {
  const flows = new FlowProducer({ connection });
  const trees = await flows.addBulk(
    Array.from({ length: 10 }, (_, n) => ({
      name: "parent",
      queueName: "work",
      children: [1, 2, 3].map((k) => ({ name: "plain", queueName: "work", data: { n: k + n } })),
    })),
  );
  const sums = await outcomes(trees.map((tree) => tree.job), events);
  sums.forEach((values, n) => assert.deepEqual(values, [1, 2, 3].map((k) => 2 * (k + n))));
  await flows.close();
  return trees.flatMap((tree) => [tree.job, ...tree.children.map((child) => child.job)]);
}

// A worker dies in the middle of a job: another one takes it over, and only this job.
async function orphan(queue, events, marks, workers) {
  const stalled = [];
  events.on("stalled", ({ jobId }) => stalled.push(jobId));
  const job = await queue.add("fatal", {});
  await until(() => marks.exists("victim"), "the job to begin");
  const victim = Number(await marks.get("victim"));
  process.kill(victim, "SIGKILL");
  const saviour = await job.waitUntilFinished(events, PATIENCE_MS);
  assert.notEqual(saviour, victim);
  assert.ok(workers.some((worker) => worker.pid === saviour));
  assert.deepEqual(stalled, [job.id]);
  assert.equal(await marks.hget("begun", job.id), "2");
}

async function drive() {
  const workers = Array.from({ length: WORKERS }, () =>
    fork(__filename, [process.argv[2], "worker"]),
  );
  const marks = new Redis(connection);
  const queue = new Queue("work", { connection });
  const events = new QueueEvents("work", { connection });
  await events.waitUntilReady();
  await queue.upsertJobScheduler("ticker", { every: 100, limit: TICKS }, { name: "tick" });
  const parts = await Promise.all([
    plainJobs(queue, events),
    delayedJobs(queue, events),
    families(events),
    retriedJobs(queue, events),
    urgentJobs(),
  ]);
  await until(async () => (await marks.get("ticks")) === String(TICKS), "all ticks");
  await orphan(queue, events, marks, workers);
  for (const job of parts.flat().filter(Boolean)) {
    assert.equal(await marks.hget("begun", job.id), "1", `job ${job.id} was done once`);
  }
  assert.equal(await marks.get("ticks"), String(TICKS));
  const { active, waiting, delayed, failed } = await queue.getJobCounts();
  assert.deepEqual({ active, waiting, delayed, failed }, { active: 0, waiting: 0, delayed: 0, failed: 1 });
  workers.forEach((worker) => worker.kill("SIGKILL"));
}

if (process.argv[3] === "worker") {
  work();
} else {
  drive().then(
    () => {
      console.log("done");
      process.exit(0);
    },
    (failure) => {
      console.log(failure);
      process.exit(1);
    },
  );
}
