// A job queue with Bull, the older of the two: a driver, and workers in processes of their own, one of
// which is killed in the middle of a job. Arguments: the port; for a worker, the word `worker`.
//
// Every job leaves a mark when a worker begins it, so that the driver can count.
const assert = require("node:assert");
const { fork } = require("node:child_process");
const Queue = require("bull");
const Redis = require("ioredis");

const redis = { host: "127.0.0.1", port: Number(process.argv[2]) };
const WORKERS = 3;
const FLAKY_ATTEMPTS = 3;
const TICKS = 5;
const PATIENCE_MS = 90_000;
// A worker that has not renewed its lock for so long has died.
const settings = { lockDuration: 10_000, lockRenewTime: 2_000, stalledInterval: 1_000 };

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const open = (name) => new Queue(name, { redis, settings });

async function until(condition, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `in vain waited for ${what}`);
    await pause(10);
  }
}

function work() {
  const marks = new Redis(redis);
  const kinds = {
    plain: (job) => job.data.n * 2,
    flaky: (job, times) => {
      if (times < FLAKY_ATTEMPTS) throw new Error("try again");
      return times;
    },
    delayed: (job) => Date.now() - job.data.due,
    tick: () => marks.incr("ticks"),
    told: async (job) => {
      for (const part of [25, 50, 100]) await job.progress(part);
      await job.log("half way");
      return job.data.n;
    },
    fatal: async (job, times) => {
      if (times > 1) return process.pid;
      await marks.set("victim", process.pid);
      return new Promise(() => {});
    },
  };
  const queue = open("work");
  queue.on("error", () => {});
  Object.entries(kinds).forEach(([name, kind]) =>
    queue.process(name, 4, async (job) => kind(job, await marks.hincrby("begun", job.id, 1))),
  );
}

// What each job answers, once all are done.
const outcomes = (jobs) => Promise.all(jobs.map((job) => job.finished()));

async function plainJobs(queue) {
  const bulk = Array.from({ length: 150 }, (_, n) => ({ name: "plain", data: { n } }));
  const single = Array.from({ length: 50 }, (_, n) => queue.add("plain", { n: 150 + n }));
  const jobs = [...(await queue.addBulk(bulk)), ...(await Promise.all(single))];
  const doubled = Array.from({ length: 200 }, (_, n) => 2 * n);
  assert.deepEqual(await outcomes(jobs), doubled);
  return jobs;
}

async function retriedJobs(queue) {
  const options = { attempts: FLAKY_ATTEMPTS, backoff: { type: "fixed", delay: 50 } };
  const jobs = await Promise.all(
    Array.from({ length: 10 }, () => queue.add("flaky", {}, options)),
  );
  assert.deepEqual(new Set(await outcomes(jobs)), new Set([FLAKY_ATTEMPTS]));
  const hopeless = await queue.add("flaky", {}, { attempts: FLAKY_ATTEMPTS - 1 });
  await assert.rejects(hopeless.finished(), /try again/);
  assert.equal(await hopeless.getState(), "failed");
}

async function delayedJobs(queue) {
  const jobs = [];
  for (let n = 0; n < 20; n++) {
    const delay = 50 + 20 * n;
    jobs.push(await queue.add("delayed", { due: Date.now() + delay }, { delay }));
  }
  const late = await outcomes(jobs);
  assert.ok(Math.min(...late) >= 0, `a job was ${-Math.min(...late)} ms early`);
  return jobs;
}

// Progress is published, and heard by everybody in its order.
async function toldJobs(queue) {
  const heard = new Map();
  queue.on("global:progress", (id, part) => heard.set(id, [...(heard.get(id) ?? []), Number(part)]));
  await queue.isReady();
  const jobs = await Promise.all(Array.from({ length: 5 }, (_, n) => queue.add("told", { n })));
  assert.deepEqual(await outcomes(jobs), [0, 1, 2, 3, 4]);
  for (const job of jobs) {
    await until(() => heard.get(String(job.id))?.length === 3, "all progress");
    assert.deepEqual(heard.get(String(job.id)), [25, 50, 100]);
    assert.deepEqual((await queue.getJobLogs(job.id)).logs, ["half way"]);
  }
  return jobs;
}

// One worker at a time: what is more urgent comes first, and among equals what came first.
async function urgentJobs() {
  const queue = open("ordered");
  const wanted = [];
  await queue.pause();
  for (let n = 0; n < 40; n++) {
    const priority = 1 + ((n * 7) % 5);
    wanted.push([priority, n]);
    await queue.add({ n }, { priority });
  }
  wanted.sort(([p, n], [q, m]) => p - q || n - m);
  const order = [];
  queue.process(async (job) => order.push(job.data.n));
  await pause(50);
  assert.equal(order.length, 0);
  await queue.resume();
  await until(() => order.length === 40, "all urgent jobs");
  assert.deepEqual(order, wanted.map(([, n]) => n));
  await queue.obliterate({ force: true });
  await queue.close();
}

// A worker dies in the middle of a job: another one takes it over, and only this job.
async function orphan(queue, marks, workers) {
  const stalled = [];
  queue.on("global:stalled", (id) => stalled.push(String(id)));
  const job = await queue.add("fatal", {});
  await until(() => marks.exists("victim"), "the job to begin");
  const victim = Number(await marks.get("victim"));
  process.kill(victim, "SIGKILL");
  const saviour = await job.finished();
  assert.notEqual(saviour, victim);
  assert.ok(workers.some((worker) => worker.pid === saviour));
  assert.deepEqual(stalled, [String(job.id)]);
  assert.equal(await marks.hget("begun", job.id), "2");
}

async function drive() {
  const workers = Array.from({ length: WORKERS }, () =>
    fork(__filename, [process.argv[2], "worker"]),
  );
  const marks = new Redis(redis);
  const queue = open("work");
  await queue.isReady();
  await queue.add("tick", {}, { repeat: { every: 100, limit: TICKS } });
  const parts = await Promise.all([
    plainJobs(queue),
    delayedJobs(queue),
    retriedJobs(queue),
    toldJobs(queue),
    urgentJobs(),
  ]);
  await until(async () => (await marks.get("ticks")) === String(TICKS), "all ticks");
  await orphan(queue, marks, workers);
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
