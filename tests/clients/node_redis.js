// What a program with node-redis does, in both protocols. Argument: the port.
const assert = require("node:assert");
const { createClient, defineScript } = require("redis");

const port = Number(process.argv[1]);

// Adds to a counter and answers it with the value of another key.
const addAndGet = defineScript({
  NUMBER_OF_KEYS: 2,
  SCRIPT: "return {redis.call('INCRBY', KEYS[1], ARGV[1]), redis.call('GET', KEYS[2])}",
  parseCommand(parser, counter, other, amount) {
    parser.pushKey(counter);
    parser.pushKey(other);
    parser.push(amount.toString());
  },
  transformReply: (reply) => reply,
});

async function connect(protocol, options = {}) {
  const client = createClient({
    socket: { host: "127.0.0.1", port },
    RESP: protocol,
    scripts: { addAndGet },
    ...options,
  });
  client.on("error", (failure) => {
    throw failure;
  });
  return client.connect();
}

async function exercise(protocol) {
  const client = await connect(protocol);
  await client.flushAll();
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.set("k", "v", { EX: 1000, NX: true }), "OK");
  assert.equal(await client.get("k"), "v");
  assert.equal(await client.hSet("h", { a: "1", b: "2" }), 2);
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { a: "1", b: "2" });
  assert.equal(await client.zAdd("z", [{ score: 1.5, value: "m" }]), 1);
  assert.equal(await client.zScore("z", "m"), 1.5);

  // Concurrent calls leave in one pipeline.
  const counts = await Promise.all(Array.from({ length: 500 }, () => client.incr("shared")));
  assert.deepEqual(counts, Array.from({ length: 500 }, (_, n) => n + 1));

  const multi = client.multi();
  for (let n = 0; n < 20; n++) multi.set(`m:${n}`, `${n}`).get(`m:${n}`);
  const replies = await multi.exec();
  replies.forEach((reply, n) => assert.equal(reply, n % 2 ? String((n - 1) / 2) : "OK"));
  await assert.rejects(client.multi().set("k", "v").incr("k").exec());

  // A watched key that somebody else changes.
  const other = await connect(protocol);
  await client.watch("k");
  await other.set("k", "changed");
  await assert.rejects(client.multi().set("k", "lost").exec(), /watched keys/);
  assert.equal(await client.get("k"), "changed");

  assert.deepEqual(await client.addAndGet("counter", "k", 5), [5, "changed"]);
  assert.deepEqual(await client.addAndGet("counter", "k", 5), [10, "changed"]);

  const heard = [];
  const subscriber = client.duplicate();
  subscriber.on("error", () => {});
  await subscriber.connect();
  const all = new Promise((resolve) => {
    const listen = (message, channel) => {
      heard.push([channel, message]);
      if (heard.length === 200) resolve();
    };
    subscriber.subscribe("news", listen).then(() => subscriber.pSubscribe("n*", listen));
  });
  while ((await client.pubSubNumPat()) === 0) await new Promise((wait) => setTimeout(wait, 5));
  for (let n = 0; n < 100; n++) assert.equal(await client.publish("news", String(n)), 2);
  await all;
  const numbers = heard.map(([, message]) => Number(message));
  assert.deepEqual(numbers, Array.from({ length: 200 }, (_, n) => Math.floor(n / 2)));
  await subscriber.unsubscribe();
  await subscriber.pUnsubscribe();
  subscriber.destroy();

  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: "m:*", COUNT: 10 })) {
    [keys].flat().forEach((key) => found.add(key));
  }
  assert.equal(found.size, 20);
  const waiting = other.blPop("list", 30);
  await client.rPush("list", "element");
  assert.equal((await waiting).element, "element");
  await assert.rejects(client.sendCommand(["NOSUCH"]), /unknown command/);
  await other.close();
  await client.close();
}

exercise(2)
  .then(() => exercise(3))
  .then(
    () => console.log("done"),
    (failure) => {
      console.log(failure);
      process.exit(1);
    },
  );
